"""Made-up photos of rigs: cameras that look to all sides of a cloud of points around them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unposed.optim.bundle.problem import Bundle
from unposed.optim.rigs import Rigs, frame_poses, photo_poses
from unposed.optim.rotations import exp_so3
from unposed.optim.view_graph import Keypoints, ViewGraph, build_view_graph

FOCAL, SENSORS, FRAMES = 500.0, 4, 5


def four_sided_rig(*, central: bool, refined: bool = False) -> Rigs:
    """Four sensors that look to all sides, the first one the reference; the last photo is of no rig."""
    turn = exp_so3(np.array([[0.0, -k * np.pi / 2, 0.0] for k in range(SENSORS)]))
    offset = np.array([[0.0, 0.1 * k, 0.2 * k] for k in range(SENSORS)]) * (0.0 if central else 1.0)
    sensors = np.concatenate([turn, offset[:, :, None]], axis=2)
    frame, sensor = np.divmod(np.arange(FRAMES * SENSORS), SENSORS)
    free = np.full(SENSORS, refined)
    free[0] = False
    return Rigs(np.append(frame, FRAMES), np.append(sensor, -1), np.zeros(SENSORS, np.int64), sensors, free)


def rig_bundle(tied: Rigs, seed: int = 0, noise_px: float = 0.0) -> Bundle:
    """The true bundle, with points all around the rig."""
    rng = np.random.default_rng(seed)
    turns = exp_so3(rng.normal(0.0, 0.3, (FRAMES + 1, 3)))
    frames = np.concatenate([turns, rng.normal(0.0, 0.6, (FRAMES + 1, 3, 1))], axis=2)
    poses = photo_poses(tied, frames[tied.frame_of_photo])
    points = rng.standard_normal((600, 3))
    points *= rng.uniform(3.0, 6.0, (600, 1)) / np.linalg.norm(points, axis=1, keepdims=True)
    seen = np.einsum("pij,nj->npi", poses[:, :, :3], points) + poses[:, :, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        xy = FOCAL * seen[:, :, :2] / seen[:, :, 2:] + FOCAL
    inside = (seen[:, :, 2] > 0.5) & (np.abs(xy - FOCAL) < FOCAL).all(axis=2)
    kept = inside.sum(axis=1) >= 2
    point, photo = np.nonzero(inside[kept])
    return Bundle(
        models=("SIMPLE_PINHOLE",),
        intrinsics=np.array([[FOCAL, FOCAL, FOCAL, FOCAL, 0.0, 0.0, 0.0, 0.0]]),
        camera_of_photo=np.zeros(len(poses), np.int64),
        cam_from_world=poses,
        points=points[kept],
        xy=xy[kept][point, photo] + rng.normal(0.0, noise_px, (len(photo), 2)) * (noise_px > 0.0),
        photo=photo,
        point=point,
        row=np.arange(len(photo)),
        rigs=tied,
    )


def disturbed(bundle: Bundle, seed: int = 1) -> Bundle:
    """The bundle with its frames moved, and its points."""
    rng, tied = np.random.default_rng(seed), bundle.rigs
    assert tied is not None
    frames = frame_poses(tied, bundle.cam_from_world)
    turn = exp_so3(rng.normal(0.0, 0.02, (FRAMES + 1, 3)))[tied.frame_of_photo]
    frames = np.concatenate([turn @ frames[:, :, :3], frames[:, :, 3:]], axis=2)
    frames[:, :, 3] += rng.normal(0.0, 0.05, (FRAMES + 1, 3))[tied.frame_of_photo]
    points = bundle.points + rng.normal(0.0, 0.05, bundle.points.shape)
    return replace(bundle, cam_from_world=photo_poses(tied, frames), points=points)


def rig_view_graph(bundle: Bundle, min_matches: int = 20) -> ViewGraph:
    """All pairs of photos of different frames that see so many common points, not tied to each other."""
    order = np.lexsort((bundle.point, bundle.photo))
    photos, points = len(bundle.cam_from_world), len(bundle.points)
    row_of = np.full((photos, points), -1)
    row_of[bundle.photo[order], bundle.point[order]] = np.arange(len(order))
    pairs, rows_a, rows_b = [], [], []
    frame = np.arange(photos) if bundle.rigs is None else bundle.rigs.frame_of_photo
    for a in range(photos):
        for b in range(a + 1, photos):
            both = np.flatnonzero((row_of[a] >= 0) & (row_of[b] >= 0))
            if len(both) >= min_matches and frame[a] != frame[b]:
                pairs.append((a, b))
                rows_a.append(row_of[a, both])
                rows_b.append(row_of[b, both])
    start = np.concatenate([[0], np.cumsum(np.bincount(bundle.photo, minlength=photos))])
    keypoints = Keypoints(bundle.xy[order], start, np.full((photos, 2), round(2 * FOCAL)))
    counts = np.array([len(rows) for rows in rows_a])
    return build_view_graph(keypoints, np.array(pairs), counts, np.concatenate(rows_a), np.concatenate(rows_b))
