"""Emulated bundles of any size: cameras, points and observations as bundle adjustment takes them, and a rough start."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]
Index = NDArray[np.int64]

LENS = np.array([1200.0, 1200.0, 800.0, 600.0, -0.05, 0.0, 0.0, 0.0])
"""fx, fy, cx, cy, k1 of all photos; they have 1600 x 1200 pixels."""
TRACK_LENGTH = 8
"""Photos that may see a point."""
NOISE_PX = 0.5
POINTS_AT_ONCE = 1 << 17
SENSORS = 3
"""Photos of a frame of `rigs`: ahead, and to both sides."""


class EmulatedBundle(NamedTuple):
    """The fields of a bundle, by their names: half a pixel of noise, and a start that is off by pixels, a fifth of a
    degree, and two percent in focal length."""

    models: tuple[str, ...]
    intrinsics: Array
    camera_of_photo: Index
    cam_from_world: Array
    points: Array
    xy: Array
    photo: Index
    point: Index
    row: Index


def emulate_bundle(kind: str, photos: int, points: int, seed: int = 0) -> EmulatedBundle:
    """Emulate a bundle. In a `ring` every point is seen from a few photos next to each other, in a `plaza` from photos
    anywhere around it; `private` is a ring with a camera of its own for each photo, and `rigs` one of frames of three
    photos each, which `emulated_sensors` places.
    """
    if kind == "rigs" and photos % SENSORS:
        raise ValueError(f"photos: expected whole frames of {SENSORS}, got {photos}")
    rng = np.random.default_rng(seed)
    poses, radius = _poses(kind, photos, rng)
    parts = [
        _observed(kind, poses, radius, min(POINTS_AT_ONCE, points - begin), rng)
        for begin in range(0, points, POINTS_AT_ONCE)
    ]
    first = np.cumsum([0, *(len(world) for world, *_ in parts)])
    world = np.concatenate([world for world, *_ in parts])
    xy = np.concatenate([xy for _, xy, _, _ in parts])
    start = poses[::SENSORS] if kind == "rigs" else poses
    start = _moved(Rotation.from_rotvec(0.003 * rng.standard_normal((len(start), 3))).as_matrix(), start)
    start[:, :, 3] += 0.02 * rng.standard_normal((len(start), 3))
    if kind == "rigs":
        start = _by_sensors(start)
    cameras = photos if kind == "private" else 1
    return EmulatedBundle(
        models=("SIMPLE_RADIAL",) * cameras,
        intrinsics=np.tile(LENS, (cameras, 1)) * [1.02, 1.02, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0],
        camera_of_photo=np.arange(photos) % cameras,
        cam_from_world=start,
        points=world + 0.03 * rng.standard_normal(world.shape),
        xy=xy + NOISE_PX * rng.standard_normal(xy.shape),
        photo=np.concatenate([photo for _, _, photo, _ in parts]),
        point=np.concatenate([point + begin for begin, (*_, point) in zip(first[:-1], parts, strict=True)]),
        row=np.arange(len(xy)),
    )


def emulated_sensors() -> Array:
    """(SENSORS, 3, 4) sensor_from_rig of the photos of a frame of `rigs`, the first of which is the reference."""
    turn = Rotation.from_rotvec([[0.0, aside, 0.0] for aside in (0.0, 0.4, -0.4)]).as_matrix()
    return np.concatenate([turn, [[[0.0], [0.0], [0.0]], [[0.1], [0.0], [0.05]], [[-0.1], [0.0], [0.05]]]], axis=2)


def _by_sensors(frames: Array) -> Array:
    """(photos, 3, 4) poses of all photos from those of their frames."""
    sensors = np.tile(emulated_sensors(), (len(frames), 1, 1))
    out = _moved(sensors[:, :, :3], np.repeat(frames, SENSORS, axis=0))
    out[:, :, 3] = np.einsum("nij,nj->ni", sensors[:, :, :3], np.repeat(frames[:, :, 3], SENSORS, axis=0))
    out[:, :, 3] += sensors[:, :, 3]
    return out


def _moved(turn: Array, poses: Array) -> Array:
    """Poses (n, 3, 4) whose rotations are multiplied from the left."""
    return np.concatenate([turn @ poses[:, :, :3], poses[:, :, 3:]], axis=2)


def _poses(kind: str, photos: int, rng: np.random.Generator) -> tuple[Array, float]:
    """(photos, 3, 4), and the radius of the circle they stand on."""
    turn = np.linspace(0.0, 2.0 * np.pi, photos, endpoint=False)
    radius = photos / 6.0
    outward = np.stack([np.cos(turn), np.zeros(photos), np.sin(turn)], axis=1)
    centres = radius * outward + [0.0, 1.0, 0.0] * rng.normal(0.0, 0.3, (photos, 1))
    if kind == "plaza":  # looking inwards, all at the same things
        centres, outward = 12.0 * outward + (centres - radius * outward), -outward
    aside = np.stack([outward[:, 2], np.zeros(photos), -outward[:, 0]], axis=1)
    poses = np.empty((photos, 3, 4))
    poses[:, :, :3] = np.stack([aside, np.cross(outward, aside), outward], axis=1)
    poses[:, :, 3] = -np.einsum("cij,cj->ci", poses[:, :, :3], centres)
    return (_by_sensors(poses[::SENSORS]) if kind == "rigs" else poses), radius


def _observed(
    kind: str, poses: Array, radius: float, points: int, rng: np.random.Generator
) -> tuple[Array, Array, Index, Index]:
    """Some points that two photos at least see; pixels, photo and point of each observation, by point."""
    photos = len(poses)
    if kind == "plaza":
        world = rng.normal(0.0, [2.0, 1.0, 2.0], (points, 3))
        photo = np.argsort(rng.random((points, photos)), axis=1)[:, :TRACK_LENGTH]
    else:
        base = rng.integers(0, photos, points)
        place = 2.0 * np.pi * base / photos + rng.normal(0.0, 0.3 / radius, points)
        away = radius + rng.uniform(3.0, 8.0, points)
        world = np.stack([away * np.cos(place), rng.uniform(-1.5, 1.5, points), away * np.sin(place)], axis=1)
        photo = (base[:, None] + np.arange(TRACK_LENGTH) - TRACK_LENGTH // 2) % photos
    photo, point = np.sort(photo, axis=1).ravel(), np.repeat(np.arange(points), photo.size // points)
    y = np.einsum("mij,mj->mi", poses[photo, :, :3], world[point]) + poses[photo, :, 3]
    y[y[:, 2] < 0.5] = [9.0, 9.0, 1.0]
    plane = y[:, :2] / y[:, 2:]
    xy = LENS[:2] * plane * (1.0 + LENS[4] * (plane**2).sum(axis=1, keepdims=True)) + LENS[2:4]
    seen = (np.abs(xy - LENS[2:4]) < LENS[2:4]).all(axis=1)
    seen &= (np.bincount(point[seen], minlength=points) >= 2)[point]
    used, point = np.unique(point[seen], return_inverse=True)
    return world[used], xy[seen], photo[seen], point
