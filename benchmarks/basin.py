"""How often the coarse alignment finds its way: random scenes with rough depths and many pairs that are wrong.

Thirty photos around a cloud of points, on a ring or on a sphere, each paired with its ten nearest; a share of the pairs
shows another relation of the two photos, as consistently as the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unposed.optim.evaluation import evaluate_poses
from unposed.optim.pointmaps.pair_similarity import estimate_pair_similarities
from unposed.optim.pointmaps.point_map_alignment import align_point_maps, refine_pair_similarities
from unposed.optim.pointmaps.second_moments import MatchedPoints
from unposed.optim.pointmaps.similarity_averaging import average_similarities
from unposed.optim.rotations import exp_so3

Array = NDArray[np.float64]

PHOTOS, NEIGHBOURS, MATCHES = 30, 10, 100
WRONG = 0.3
DEPTH_NOISE = 0.2
ANGLE_NOISE = 0.002
FOCAL_SIGMA = 0.02


def share_of_successes(scenes: int) -> int:
    """In how many scenes half of all relative rotations are within a degree."""
    return sum(rotation_error_deg(seed) < 1.0 for seed in range(scenes))


def rotation_error_deg(seed: int) -> float:
    """Median error of the relative rotations of one scene."""
    truth, matched = _scene(seed)
    similar = refine_pair_similarities(
        matched, estimate_pair_similarities(matched.p, matched.q, matched.weight), ANGLE_NOISE
    )
    start = average_similarities(PHOTOS, matched.pairs, similar, similar.weight())
    found = align_point_maps(matched, start, np.arange(PHOTOS), np.full(PHOTOS, FOCAL_SIGMA), ANGLE_NOISE).poses
    turn = found.rotation.transpose(0, 2, 1)
    shift = -np.einsum("nij,nj->ni", turn, found.translation)
    errors = evaluate_poses(truth, np.concatenate([turn, shift[:, :, None]], axis=2))
    return float(errors.relative_rotation_median_deg or 0.0)


def _scene(seed: int) -> tuple[Array, MatchedPoints]:
    rng = np.random.default_rng(seed)
    around = rng.uniform(0.0, 2.0 * np.pi, PHOTOS)
    ring = np.column_stack([np.cos(around), np.sin(around), 0.3 * rng.standard_normal(PHOTOS)])
    directions = ring if seed % 2 else rng.standard_normal((PHOTOS, 3))
    centres = directions / np.linalg.norm(directions, axis=1, keepdims=True) * rng.uniform(4.0, 7.0, (PHOTOS, 1))
    forward = 0.8 * rng.standard_normal((PHOTOS, 3)) - centres
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(rng.standard_normal((PHOTOS, 3)), forward)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    turn = np.stack([right, np.cross(forward, right), forward], axis=1)
    truth = np.concatenate([turn, -turn @ centres[:, :, None]], axis=2)
    cloud = 1.8 * rng.standard_normal((400, 3)) * (1.0, 1.0, 0.6)
    scale = np.exp(0.3 * rng.standard_normal(PHOTOS))
    distance = np.linalg.norm(centres[:, None] - centres, axis=2)
    nearest = np.argsort(distance, axis=1)[:, 1 : NEIGHBOURS + 1]
    pairs = np.unique(np.sort([(i, j) for i in range(PHOTOS) for j in nearest[i]], axis=1), axis=0)
    points = np.zeros((2, len(pairs), MATCHES, 3))
    for edge, pair in enumerate(pairs):
        some = cloud[rng.choice(len(cloud), MATCHES, replace=False)]
        wrong = rng.random() < WRONG
        for side, photo in enumerate(pair):
            seen = some @ exp_so3(rng.uniform(-2.0, 2.0, (1, 3)))[0] if wrong and side else some
            y = seen @ turn[photo].T + truth[photo, :, 3]
            ray = y / y[:, 2:]
            ray[:, :2] += ANGLE_NOISE * rng.standard_normal((MATCHES, 2))
            depth = y[:, 2] / scale[photo] * np.exp(DEPTH_NOISE * rng.standard_normal(MATCHES))
            points[side, edge] = ray * depth[:, None]
    return truth, MatchedPoints(pairs, points[0], points[1], np.ones((len(pairs), MATCHES)))
