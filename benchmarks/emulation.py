"""Scenes of any size with pair predictions that emulate a network, in the form that oracle.py reads.

Cameras on most of a circle look at boxes and spheres on a plane under a far dome. What a network would say of a pair is
the truth with smooth errors of depth, a scale and a focal length of its own for every prediction, and matches that
start from a lattice of either photo and end with noise, rounded to pixels, some of them anywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unposed.synthetic.camera import Lens, Shot, look_at
from unposed.synthetic.render import depth
from unposed.synthetic.texture import texture
from unposed.synthetic.world import World, box, rectangle, sphere

Array = NDArray[np.float64]

WIDTH, HEIGHT = 224, 160
STEP_PX = 8
DOME = 16.0
PIXEL_NOISE = 0.7
OUTLIERS = 0.03
JUNK = 12
"""Matches of low confidence that every pair has."""
WAVES = 15
DEPTH_OF_PHOTO, DEPTH_OF_PAIR, SCALE, FOCAL = 0.015, 0.02, 0.08, 0.02
"""Relative errors; of depth the root mean square over a photo."""
WAVE_POWER = 9 * 0.25 + 6 * 0.5
"""Sum of the mean squares of the waves that errors of depth are made of."""


def made_up(photos: int, seed: int, neighbours: int | None = None) -> dict[str, NDArray[Any]]:
    """A scene as in a file of oracle.py. With `neighbours` only pairs of a photo with so many on either side of it on
    the circle, else all pairs."""
    rng = np.random.default_rng(seed)
    focal = 0.83 * WIDTH * np.exp(0.03 * rng.standard_normal(photos))
    shots = _shots(photos, focal, rng)
    maps = np.stack([_depth(_world(np.random.default_rng([seed, 1])), shot) for shot in shots])
    poses = np.stack([shot.cam_from_world for shot in shots])
    reach = photos if neighbours is None else neighbours
    pairs = [(a, b) for a in range(photos) for b in range(a + 1, min(photos, a + reach + 1))]
    matches = [_matches(maps, poses, focal, a, b, np.random.default_rng([seed, a, b])) for a, b in pairs]
    kept = [k for k, (xy, _, _) in enumerate(matches) if len(xy) > JUNK + 8]
    pairs, matches = [pairs[k] for k in kept], [matches[k] for k in kept]
    xy1, xy2, confidence = (np.concatenate(each) for each in zip(*matches, strict=True))
    turn = poses[:, :, :3].transpose(0, 2, 1)
    cam2w = np.tile(np.eye(4), (photos, 1, 1))
    cam2w[:, :3, :3], cam2w[:, :3, 3] = turn, -np.einsum("nij,nj->ni", turn, poses[:, :, 3])
    count, wave = len(pairs), 1.0 / np.sqrt(WAVE_POWER)
    return {
        "pairs": np.array(pairs, np.int32),
        "depth": maps.astype(np.float16),
        "gt_cam2w": cam2w,
        "gt_focal": focal,
        "bias": DEPTH_OF_PHOTO * wave * rng.standard_normal((photos, WAVES)),
        "pp_coef": DEPTH_OF_PAIR * wave * rng.standard_normal((count, 2, 2, WAVES)),
        "pp_scale": np.exp(SCALE * rng.standard_normal((count, 2))),
        "pp_g": np.exp(FOCAL * rng.standard_normal((count, 2, 2))),
        "pp_amp": np.exp(0.3 * rng.standard_normal((count, 2, 2))),
        "confmap": rng.uniform(1.0, 9.0, maps.shape).astype(np.float16),
        "match_offset": np.cumsum([0, *(len(xy) for xy, _, _ in matches)]),
        "xy1": xy1.astype(np.int16),
        "xy2": xy2.astype(np.int16),
        "match_conf": confidence.astype(np.float16),
    }


def _shots(photos: int, focal: Array, rng: np.random.Generator) -> list[Shot]:
    shots = []
    # Pixels are integers at their centres in the files, and their principal point is half of the size.
    for i, angle in enumerate(np.radians(np.linspace(0.0, 300.0, photos))):
        lens = Lens(WIDTH, HEIGHT, focal[i], focal[i], WIDTH / 2 + 0.5, HEIGHT / 2 + 0.5)
        radius = 6.0 + 0.4 * rng.standard_normal()
        eye = (radius * np.cos(angle), radius * np.sin(angle), 2.0 + 0.5 * rng.standard_normal())
        aim = (*(0.4 * rng.standard_normal(2)), 0.6)
        shots.append(Shot(f"{i}", lens, look_at(eye, aim, float(3.0 * rng.standard_normal()))))
    return shots


def _world(rng: np.random.Generator) -> World:
    plain = texture(np.ones((1, 1, 3)))
    surfaces = [rectangle((-40, 40, 0), (80, 0, 0), (0, -80, 0), plain)]
    for _ in range(8):
        x, y = rng.uniform(-2.5, 2.5, 2)
        width, length, height = rng.uniform(0.5, 1.6, 3)
        surfaces += box((x, y, 0), (width, length, height), [plain], plain, float(rng.uniform(0, 90)))
    for _ in range(6):
        radius = float(rng.uniform(0.25, 0.7))
        surfaces.append(sphere((*rng.uniform(-2.5, 2.5, 2), radius), radius, plain))
    return World(tuple(surfaces))


def _depth(world: World, shot: Shot) -> Array:
    """(h, w), up to the dome."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    lens = shot.lens
    local = np.stack([(x - lens.cx) / lens.fx, (y - lens.cy) / lens.fy, np.ones_like(x)])
    along = np.tensordot(shot.cam_from_world[:, :3].T, local, 1)
    square, half = (along**2).sum(axis=0), np.tensordot(shot.centre, along, 1)
    far = (-half + np.sqrt(half**2 - square * (shot.centre @ shot.centre - DOME**2))) / square
    nearest: Array = np.minimum(depth(world, shot), far)
    return nearest


def _matches(
    maps: Array, poses: Array, focal: Array, a: int, b: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Pixels in both photos, and confidences."""
    onward = _answers(maps, poses, focal, a, b, rng)
    back = _answers(maps, poses, focal, b, a, rng)
    xy1, xy2 = np.concatenate([onward[0], back[1]]), np.concatenate([onward[1], back[0]])
    confidence = 12.0 * np.exp(0.5 * rng.standard_normal(len(xy1)))
    lost = rng.random(len(xy1)) < OUTLIERS
    size = (WIDTH, HEIGHT)
    xy2[lost] = rng.integers(0, size, (int(lost.sum()), 2))
    confidence[lost] = np.exp(0.5 * rng.standard_normal(int(lost.sum())))
    junk = rng.integers(0, size, (2, JUNK, 2))
    low = np.exp(0.5 * rng.standard_normal(JUNK))
    return np.concatenate([xy1, junk[0]]), np.concatenate([xy2, junk[1]]), np.concatenate([confidence, low])


def _answers(
    maps: Array, poses: Array, focal: Array, a: int, b: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lattice pixels of photo a that b sees as well, and where, with noise."""
    y, x = np.mgrid[STEP_PX // 2 : HEIGHT : STEP_PX, STEP_PX // 2 : WIDTH : STEP_PX].reshape(2, -1)
    z, middle = maps[a][y, x], np.array([WIDTH / 2, HEIGHT / 2])
    start = np.column_stack([x, y])
    points = np.column_stack([(start - middle) / focal[a], np.ones(len(z))]) * z[:, None]
    points = (points - poses[a][:, 3]) @ poses[a][:, :3] @ poses[b][:, :3].T + poses[b][:, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        end = points[:, :2] / points[:, 2:] * focal[b] + middle
    inside = (points[:, 2] > 0) & ((end > 1) & (end < (WIDTH - 2, HEIGHT - 2))).all(axis=1)
    column, row = np.rint(np.where(inside[:, None], end, 0.0)).astype(np.int64).T
    seen = inside & (np.abs(maps[b][row, column] / points[:, 2] - 1.0) < 0.02) & (rng.random(len(z)) < 0.9)
    noisy = np.rint(end[seen] + PIXEL_NOISE * rng.standard_normal((int(seen.sum()), 2))).astype(np.int64)
    return start[seen], np.clip(noisy, 0, (WIDTH - 1, HEIGHT - 1))
