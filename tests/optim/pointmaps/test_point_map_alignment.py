"""The aligner of point maps: derivatives, exact data, noise without bias, wrong pairs, and starts far off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from unposed.optim.evaluation import PoseErrors, evaluate_poses
from unposed.optim.pointmaps.pair_similarity import estimate_pair_similarities
from unposed.optim.pointmaps.point_map_alignment import (
    AlignmentOptions,
    align_point_maps,
    refine_pair_similarities,
    robust_misfit,
)
from unposed.optim.pointmaps.second_moments import (
    UNKNOWNS,
    MatchedPoints,
    MomentSystem,
    _moved,
    _normal_equations,
    pair_moments,
)
from unposed.optim.pointmaps.similarity_averaging import PhotoSimilarities, average_similarities
from unposed.optim.rotations import exp_so3


@dataclass(frozen=True)
class World:
    """Cameras on a ring around a cloud, each paired with its next ones; maps have scales of their own."""

    truth: np.ndarray
    scale: np.ndarray
    matched: MatchedPoints
    wrong: np.ndarray

    def errors(self, placed: PhotoSimilarities) -> PoseErrors:
        turn = placed.rotation.transpose(0, 2, 1)
        moved = -np.einsum("nij,nj->ni", turn, placed.translation)
        return evaluate_poses(self.truth, np.concatenate([turn, moved[:, :, None]], axis=2))

    def true_start(self) -> PhotoSimilarities:
        turn = self.truth[:, :, :3].transpose(0, 2, 1)
        return PhotoSimilarities(self.scale, turn, -np.einsum("nij,nj->ni", turn, self.truth[:, :, 3]))


def world(
    photos: int = 8,
    reach: int = 3,
    matches: int = 60,
    depth_noise: float = 0.0,
    angle_noise: float = 0.0,
    wrong: float = 0.0,
    growth: np.ndarray | None = None,
    seed: int = 0,
) -> World:
    rng = np.random.default_rng(seed)
    around = np.linspace(0.0, 2 * np.pi, photos, endpoint=False)
    centres = np.column_stack([np.cos(around), np.sin(around), 0.2 * rng.standard_normal(photos)])
    centres *= rng.uniform(4.0, 6.0, (photos, 1))
    forward = 0.5 * rng.standard_normal((photos, 3)) - centres
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(rng.standard_normal((photos, 3)), forward)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    turn = np.stack([right, np.cross(forward, right), forward], axis=1)
    truth = np.concatenate([turn, -turn @ centres[:, :, None]], axis=2)
    scale = np.exp(0.3 * rng.standard_normal(photos))
    flat = np.ones(photos) if growth is None else np.exp(growth)  # points as seen under focal lengths too short
    cloud = rng.uniform(-1.8, 1.8, (600, 3))
    pairs = np.array(sorted({tuple(sorted((i, (i + k) % photos))) for i in range(photos) for k in range(1, reach + 1)}))
    bad = rng.random(len(pairs)) < wrong
    points = np.zeros((2, len(pairs), matches, 3))
    for edge, pair in enumerate(pairs):
        some = cloud[rng.choice(len(cloud), matches, replace=False)]
        for side, photo in enumerate(pair):
            seen = some @ exp_so3(rng.uniform(-2, 2, (1, 3)))[0] if bad[edge] and side else some
            y = seen @ turn[photo].T + truth[photo, :, 3]
            ray = y / y[:, 2:]
            ray[:, :2] = (ray[:, :2] + angle_noise * rng.standard_normal((matches, 2))) * flat[photo]
            depth = y[:, 2] / scale[photo] * np.exp(depth_noise * rng.standard_normal(matches))
            points[side, edge] = ray * depth[:, None]
    return World(truth, scale, MatchedPoints(pairs, *points, np.ones((len(pairs), matches))), bad)


def started(made: World) -> PhotoSimilarities:
    similar = estimate_pair_similarities(made.matched.p, made.matched.q, made.matched.weight)
    return average_similarities(len(made.truth), made.matched.pairs, similar, similar.weight())


def aligned(
    made: World, start: PhotoSimilarities, sigma: float = 0.05, angle_noise: float = 1e-3, renewals: int = 6
) -> tuple:
    n = len(made.truth)
    found = align_point_maps(
        made.matched,
        start,
        np.arange(n),
        np.full(n, sigma),
        angle_noise,
        options=AlignmentOptions(reweightings=renewals),
    )
    return found, made.errors(found.poses)


def test_normal_equations_against_central_differences() -> None:
    made = world(photos=4, reach=2, matches=10, depth_noise=0.1)
    rng = np.random.default_rng(1)
    half = rng.standard_normal((len(made.matched.pairs), 10, 3, 3))
    moments = pair_moments(made.matched, half @ half.transpose(0, 1, 3, 2))
    lean = rng.standard_normal((len(made.matched.pairs), 2, UNKNOWNS))
    system = MomentSystem(moments, lean, made.matched.pairs, np.arange(4), np.full(4, np.inf), np.zeros(4, bool))
    start, growth = made.true_start(), 0.1 * rng.standard_normal(4)
    _, gradient = _normal_equations(system, start, growth)

    def cost(step: np.ndarray) -> float:
        placed, moved_growth = _moved(start, growth, step.reshape(4, UNKNOWNS))
        return system.cost(placed, moved_growth, step.reshape(4, UNKNOWNS))

    h = 1e-5
    numeric = [(cost(h * unit) - cost(-h * unit)) / (2 * h) for unit in np.eye(4 * UNKNOWNS)]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-5 * np.abs(gradient).max())


def test_moments_stand_for_all_matches() -> None:
    made = world(photos=3, reach=1, matches=7, depth_noise=0.2)
    rng = np.random.default_rng(2)
    half = rng.standard_normal((3, 7, 3, 3))
    weight = half @ half.transpose(0, 1, 3, 2)
    system = MomentSystem(
        pair_moments(made.matched, weight),
        np.zeros((3, 2, UNKNOWNS)),
        made.matched.pairs,
        np.arange(3),
        np.full(3, np.inf),
        np.zeros(3, bool),
    )
    placed = made.true_start()
    total = 0.0
    for edge, (a, b) in enumerate(made.matched.pairs):
        x, y = (
            placed.scale[photo] * points[edge] @ placed.rotation[photo].T + placed.translation[photo]
            for photo, points in ((a, made.matched.p), (b, made.matched.q))
        )
        total += 0.5 * np.einsum("ki,kij,kj->", x - y, weight[edge], x - y)
    assert system.cost(placed, np.zeros(3), np.zeros((3, UNKNOWNS))) == pytest.approx(total)


def test_exact_maps_give_exact_poses_and_focal_lengths() -> None:
    growth = np.random.default_rng(3).uniform(-0.04, 0.04, 8)
    made = world(growth=growth)
    found, errors = aligned(made, started(made), renewals=12)
    assert errors.rotation_max_deg is not None and errors.rotation_max_deg < 0.02
    np.testing.assert_allclose(found.log_growth, growth, atol=1e-3)
    assert found.consistency.min() > 0.95


def test_depth_noise_neither_shrinks_nor_bends_a_ring() -> None:
    """Plain least squares would make every photo smaller than the one that is held, and more so with each renewal."""
    made = world(photos=24, reach=3, depth_noise=0.05, angle_noise=1e-3)
    found, errors = aligned(made, started(made), renewals=12)
    assert errors.rotation_max_deg is not None and errors.rotation_max_deg < 0.8
    assert errors.ate_relative is not None and errors.ate_relative < 0.01
    ratio = found.poses.scale / made.scale
    assert ratio.max() / ratio.min() < 1.05


def test_better_than_depths_alone_would_be() -> None:
    made = world(photos=12, reach=4, depth_noise=0.05, angle_noise=1e-3)
    start = started(made)
    before, (_, after) = made.errors(start), aligned(made, start)
    assert before.rotation_mean_deg is not None and after.rotation_mean_deg is not None
    assert after.rotation_mean_deg < 0.3 * before.rotation_mean_deg


def test_wrong_pairs_are_told_from_right_ones() -> None:
    made = world(photos=12, reach=4, depth_noise=0.03, angle_noise=1e-3, wrong=0.2, seed=5)
    assert 0 < made.wrong.sum() < 20
    found, errors = aligned(made, started(made))
    assert found.consistency[made.wrong].max() < 0.5 * found.consistency[~made.wrong].min()
    assert errors.rotation_max_deg is not None and errors.rotation_max_deg < 0.5


def test_without_a_trusted_match_everyone_stays() -> None:
    made = world(photos=4, reach=2)
    nothing = MatchedPoints(made.matched.pairs, made.matched.p, made.matched.q, np.zeros_like(made.matched.weight))
    start = made.true_start()
    found = align_point_maps(nothing, start, np.arange(4), np.full(4, 0.05), 1e-3)
    np.testing.assert_allclose(found.poses.rotation, start.rotation, atol=1e-9)
    assert np.isfinite(found.poses.translation).all() and not found.consistency.any()


def test_a_camera_that_turns_on_the_spot() -> None:
    """Predicted depths hold everything together where there is no parallax."""
    pairs, rng = world(photos=5, reach=2).matched.pairs, np.random.default_rng(0)
    points = rng.uniform((-1.0, -1.0, 4.0), (1.0, 1.0, 6.0), (60, 3))
    turn = exp_so3(0.1 * rng.standard_normal((5, 3)))
    seen = np.einsum("nij,kj->nki", turn, points)
    matched = MatchedPoints(pairs, seen[pairs[:, 0]], seen[pairs[:, 1]], np.ones((len(pairs), 60)))
    similar = estimate_pair_similarities(matched.p, matched.q, matched.weight)
    found = align_point_maps(
        matched, average_similarities(5, matched.pairs, similar, similar.weight()), np.arange(5), np.zeros(5), 1e-3
    )
    placed = found.poses
    relative = placed.rotation[0].T @ placed.rotation
    np.testing.assert_allclose(relative, turn[0] @ turn.transpose(0, 2, 1), atol=1e-6)
    np.testing.assert_allclose(placed.translation, np.tile(placed.translation[0], (5, 1)), atol=1e-6)


def test_known_focal_lengths_stay() -> None:
    made = world(growth=np.full(8, 0.03))
    found, _ = aligned(made, started(made), sigma=0.0)
    assert np.abs(found.log_growth).max() < 1e-4


def test_photos_of_one_camera_share_its_focal_length() -> None:
    made = world(growth=np.full(8, 0.03), depth_noise=0.02, angle_noise=1e-3)
    found = align_point_maps(made.matched, started(made), np.zeros(8, np.int64), np.full(1, 0.05), 1e-3)
    assert len(np.unique(found.log_growth)) == 1
    assert found.log_growth[0] == pytest.approx(0.03, abs=3e-3)


def test_misfit_tells_right_focal_lengths_from_wrong_ones() -> None:
    made = world(growth=np.linspace(-0.04, 0.04, 8), depth_noise=0.02, angle_noise=1e-3)
    own, _ = aligned(made, started(made))
    shared = align_point_maps(made.matched, own.poses, np.zeros(8, np.int64), np.full(1, 0.05), 1e-3)
    assert robust_misfit(made.matched, own, own.noise) < 0.9 * robust_misfit(made.matched, shared, own.noise)


def test_pairs_alone_are_refined_by_directions() -> None:
    made = world(depth_noise=0.2, angle_noise=1e-3)
    rough = estimate_pair_similarities(made.matched.p, made.matched.q, made.matched.weight)
    fine = refine_pair_similarities(made.matched, rough, 1e-3)
    a, b = made.matched.pairs.T
    true_turn = made.truth[b, :, :3] @ made.truth[a, :, :3].transpose(0, 2, 1)
    rough_error, fine_error = (np.linalg.norm(s.rotation - true_turn, axis=(1, 2)) for s in (rough, fine))
    assert np.median(fine_error) < 0.3 * np.median(rough_error)


@pytest.mark.parametrize("seed", range(6))
def test_thirty_photos_with_a_third_of_the_pairs_wrong_and_rough_depths(seed: int) -> None:
    made = world(photos=30, reach=5, matches=80, depth_noise=0.2, angle_noise=2e-3, wrong=0.3, seed=seed)
    rough = estimate_pair_similarities(made.matched.p, made.matched.q, made.matched.weight)
    similar = refine_pair_similarities(made.matched, rough, 2e-3)
    _, errors = aligned(made, average_similarities(30, made.matched.pairs, similar, similar.weight()), angle_noise=2e-3)
    assert errors.relative_rotation_median_deg is not None and errors.relative_rotation_median_deg < 1.0
