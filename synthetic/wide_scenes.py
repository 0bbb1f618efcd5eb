"""Scenes of other cameras than a usual one: panoramas, fisheyes, and a lens of its own for every photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .camera import Doubles, Shot, fisheye_lens, look_at, panorama_lens, simple_lens
from .places import courtyard
from .scenes import Scene


def panoramas(photos: int = 12, width: int = 2048, seed: int = 0) -> Scene:
    """Panoramas from all over the courtyard, held any way round and a little askew."""
    rng = np.random.default_rng(seed)
    lens = panorama_lens(width)
    shots = []
    for i in range(photos):
        angle, radius = 2.4 * i + rng.uniform(0.0, 0.4), 2.3 + 2.2 * ((0.618 * i) % 1.0)
        eye = np.array([radius * np.cos(angle), radius * np.sin(angle), rng.uniform(1.2, 2.0)])
        heading = rng.uniform(0.0, 2.0 * np.pi)
        aim = eye + np.array([np.cos(heading), np.sin(heading), rng.normal(0.0, 0.05)])
        shots.append(Shot(f"{i:04d}.jpg", lens, look_at(eye, aim, rng.normal(0.0, 3.0))))
    return Scene("panoramas", courtyard(seed), tuple(shots))


RIG_YAWS_DEG, RIG_OFFSETS_M = (0.0, 70.0, 180.0), ((0.0, 0.0, 0.0), (0.2, 0.0, -0.1), (0.0, 0.05, -0.4))
"""Of the cameras ahead, aside and behind: how they are turned about the vertical axis, and where they sit in the frame
of the one ahead."""


def sensors_from_rig() -> Doubles:
    """(3, 3, 4) poses of the cameras of `rig_walk` in the frame of the first."""
    out = []
    for yaw, offset in zip(np.radians(RIG_YAWS_DEG), RIG_OFFSETS_M, strict=True):
        rotation = np.array([[np.cos(yaw), 0.0, -np.sin(yaw)], [0.0, 1.0, 0.0], [np.sin(yaw), 0.0, np.cos(yaw)]])
        out.append(np.column_stack([rotation, -rotation @ offset]))
    return np.array(out)


def rig_walk(photos: int = 12, width: int = 480, seed: int = 0) -> Scene:
    """A walk around the still life of the courtyard with three cameras on one bar, photos in a folder for each;
    `photos` is the number of moments."""
    lens, shots = simple_lens(width, width * 3 // 4, 75), []
    for i, angle in enumerate(np.radians(np.arange(photos) * 14.0)):
        eye = np.array([3.6 * np.cos(angle), 3.6 * np.sin(angle), 1.5 + 0.2 * np.sin(1.7 * i)])
        ahead = look_at(eye, (0.0, 0.0, 0.9 + 0.2 * np.sin(2.3 * i)), 2.0 * np.sin(2.9 * i))
        for name, sensor in zip(("ahead", "aside", "behind"), sensors_from_rig(), strict=True):
            pose = sensor[:, :3] @ ahead
            pose[:, 3] += sensor[:, 3]
            shots.append(Shot(f"{name}/{i:04d}.jpg", lens, pose))
    return Scene("rig_walk", courtyard(seed), tuple(shots))


def fisheye_walk(photos: int = 16, width: int = 800, field_of_view_deg: float = 180.0, seed: int = 0) -> Scene:
    """A walk around the still life of the courtyard with a fisheye."""
    lens = fisheye_lens(width, width * 3 // 4, field_of_view_deg)
    shots = []
    for i, angle in enumerate(np.radians(np.arange(photos) * min(360.0 / photos, 24.0))):
        eye = (3.2 * np.cos(angle), 3.2 * np.sin(angle), 1.4 + 0.3 * np.sin(1.7 * i))
        shots.append(Shot(f"{i:04d}.jpg", lens, look_at(eye, (0.0, 0.0, 0.8), 2.0 * np.sin(2.9 * i))))
    return Scene("fisheye_walk", courtyard(seed), tuple(shots))


def long_lenses(photos: int = 70, width: int = 640, seed: int = 0) -> Scene:
    """A ring of cameras of one size around the still life of the courtyard, each with a long lens of its own."""
    rng = np.random.default_rng(seed)
    shots = []
    for i in range(photos):
        lens = simple_lens(width, width * 3 // 4, float(rng.uniform(16.0, 30.0)))
        angle = 2.0 * np.pi * i / photos
        eye = 5.6 * np.array([np.cos(angle), np.sin(angle), 0.0]) + [0.0, 0.0, 1.4 + 0.4 * np.sin(1.7 * i)]
        aim = (0.0, 0.0, 0.7 + 0.15 * np.sin(2.3 * i))
        shots.append(Shot(f"{i:04d}.jpg", lens, look_at(eye, aim, 2.0 * np.sin(2.9 * i))))
    return Scene("long_lenses", courtyard(seed), tuple(shots))


def ring_of_lenses(
    fields_of_view_deg: Sequence[float], distances: Sequence[float] = (4.4,), width: int = 640, seed: int = 0
) -> Scene:
    """A ring of cameras of one size around the still life of the courtyard, a photo for each field of view; distances
    from the middle are for the photos in turn."""
    shots = []
    for i, field_of_view_deg in enumerate(fields_of_view_deg):
        distance, angle = distances[i % len(distances)], 2.0 * np.pi * i / len(fields_of_view_deg)
        height = (1.4 + 0.4 * np.sin(1.7 * i)) * distance / 4.4
        eye = distance * np.array([np.cos(angle), np.sin(angle), 0.0]) + [0.0, 0.0, height]
        pose = look_at(eye, (0.0, 0.0, 0.7 + 0.15 * np.sin(2.3 * i)), 2.0 * np.sin(2.9 * i))
        shots.append(Shot(f"{i:04d}.jpg", simple_lens(width, width * 3 // 4, field_of_view_deg), pose))
    return Scene("ring_of_lenses", courtyard(seed), tuple(shots))


def internet_photos(photos: int = 10, width: int = 800, seed: int = 0) -> Scene:
    """The courtyard by as many strangers as photos: each has a camera, zoom, distortion, size and exposure of its own,
    and stands further off the longer the lens is."""
    rng = np.random.default_rng(seed)
    shots = []
    for i, step in enumerate(rng.permutation(photos)):
        side = int(width * rng.uniform(0.7, 1.1))
        upright = rng.random() < 0.3
        size = (side * 2 // 3, side) if upright else (side, int(side / rng.choice([4 / 3, 3 / 2])))
        lens = simple_lens(*size, float(rng.uniform(24.0, 65.0)))
        corner = 0.5 * np.hypot(*size) / lens.fx
        lens = replace(
            lens,
            cx=lens.cx + rng.normal(0.0, 0.004) * side,
            cy=lens.cy + rng.normal(0.0, 0.004) * side,
            dist=(float(rng.normal(-0.01, 0.02)) / corner**2, 0.0, 0.0, 0.0),
        )
        angle = np.radians(-90.0 + 70.0 * ((step + rng.uniform(-0.4, 0.4)) / max(photos - 1, 1) - 0.5))
        distance = 1.5 + 3.0 * lens.fx / side * rng.uniform(0.85, 1.15)
        eye = (distance * np.cos(angle), distance * np.sin(angle), rng.uniform(1.2, 2.2))
        aim = (rng.uniform(-0.4, 0.4), 0.0, rng.uniform(0.6, 1.1))
        pose = look_at(eye, aim, rng.normal(0.0, 1.5))
        shots.append(Shot(f"{i:04d}.jpg", lens, pose, exposure=float(np.exp(rng.normal(0.0, 0.35))), noise=1.5))
    return Scene("internet_photos", courtyard(seed), tuple(shots))
