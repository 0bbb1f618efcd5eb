"""Each of the exported algorithms on made-up data whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from unposed import algorithms

RNG = np.random.default_rng(5)
FOCAL, SIZE = 800.0, (640, 480)
POINTS = RNG.uniform((-2, -2, 4), (2, 2, 8), (120, 3))
ROTATIONS = Rotation.from_rotvec(RNG.normal(0, 0.15, (5, 3))).as_matrix()
CENTRES = np.column_stack([np.linspace(-1, 1, 5), RNG.normal(0, 0.3, (5, 2))])
POSES = np.concatenate([ROTATIONS, -ROTATIONS @ CENTRES[:, :, None]], axis=2)


def pixels(pose: np.ndarray) -> np.ndarray:
    seen = POINTS @ pose[:, :3].T + pose[:, 3]
    return FOCAL * seen[:, :2] / seen[:, 2:] + np.array(SIZE) / 2


def angles_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(Rotation.from_matrix(a @ b.swapaxes(-1, -2)).magnitude())


def test_mutual_nearest() -> None:
    a = algorithms.unit_rows(RNG.normal(size=(30, 16)))
    order = RNG.permutation(30)
    found = algorithms.mutual_nearest(a, a[order])
    np.testing.assert_array_equal(order[found.index_b], found.index_a)
    assert len(found.index_a) == 30


def test_two_view_geometry() -> None:
    a, b = pixels(POSES[0]), pixels(POSES[4])
    found = algorithms.estimate_two_view_geometry(a, b, np.ones(len(a)), SIZE, SIZE, focals_px=(FOCAL, FOCAL))
    assert found.kind == "general" and found.inliers.all()
    relative = ROTATIONS[4] @ ROTATIONS[0].T
    assert angles_deg(found.b_from_a[:, :3], relative) < 0.05
    baseline = ROTATIONS[4] @ (CENTRES[0] - CENTRES[4])
    np.testing.assert_allclose(found.b_from_a[:, 3], baseline / np.linalg.norm(baseline), atol=1e-3)


def test_average_rotations() -> None:
    pairs = np.array([(a, b) for a in range(5) for b in range(a + 1, 5)])
    relative = ROTATIONS[pairs[:, 1]] @ ROTATIONS[pairs[:, 0]].transpose(0, 2, 1)
    found = algorithms.average_rotations(5, pairs, relative, np.full(len(pairs), 50.0))
    again = found[pairs[:, 1]] @ found[pairs[:, 0]].transpose(0, 2, 1)
    assert angles_deg(again, relative).max() < 1e-3


def test_global_positions_and_similarity() -> None:
    camera, point = np.divmod(np.arange(5 * len(POINTS)), len(POINTS))
    rays = POINTS[point] - CENTRES[camera]
    rays /= np.linalg.norm(rays, axis=1)[:, None]
    found = algorithms.solve_global_positions(rays, camera, point, 5, len(POINTS))
    similarity = algorithms.fit_similarity(found.centres, CENTRES)
    np.testing.assert_allclose(similarity(found.centres), CENTRES, atol=1e-3)
    np.testing.assert_allclose(similarity(found.points), POINTS, atol=1e-2)


def test_bundle_adjustment() -> None:
    point, photo = np.divmod(np.arange(5 * len(POINTS)), 5)
    xy = np.stack([pixels(pose) for pose in POSES])[photo, point]
    lens = np.array([[FOCAL, FOCAL, SIZE[0] / 2, SIZE[1] / 2, 0, 0, 0, 0]])
    bundle = algorithms.Bundle(
        models=("SIMPLE_PINHOLE",),
        intrinsics=lens,
        camera_of_photo=np.zeros(5, np.int64),
        cam_from_world=POSES,
        points=POINTS + RNG.normal(0, 0.02, POINTS.shape),
        xy=xy,
        photo=photo,
        point=point,
        row=np.arange(len(xy)),
    )
    found, summary = algorithms.adjust_bundle(bundle, algorithms.BundleOptions(focal=False))
    assert summary.final_cost < 1e-4 * summary.initial_cost
    similarity = algorithms.fit_similarity(found.points, POINTS)
    np.testing.assert_allclose(similarity(found.points), POINTS, atol=1e-3)


def test_align_point_maps() -> None:
    """Depth maps whose scales are their own are brought to one world, from a start that is off."""
    pairs = np.array([(a, b) for a in range(5) for b in range(a + 1, 5)])
    scale = np.array([1.0, 2.0, 0.5, 1.5, 0.8])
    maps = np.stack([(POINTS @ pose[:, :3].T + pose[:, 3]) / s for pose, s in zip(POSES, scale, strict=True)])
    matched = algorithms.MatchedPoints(pairs, maps[pairs[:, 0]], maps[pairs[:, 1]], np.ones((len(pairs), len(POINTS))))
    off = 1.0 + np.array([0.0, 0.03, -0.03, 0.02, -0.02])
    start = algorithms.PhotoSimilarities(scale * off, ROTATIONS.transpose(0, 2, 1).copy(), CENTRES.copy())
    found = algorithms.align_point_maps(matched, start, np.zeros(5, np.int64), np.zeros(1), 1e-4)
    np.testing.assert_allclose(found.poses.scale, scale, rtol=1e-3)
    np.testing.assert_allclose(found.poses.translation, CENTRES, atol=1e-2)


def test_retrieval_by_words() -> None:
    places = RNG.normal(size=(3, 40, 16))
    photos = [place + RNG.normal(0, 0.05, place.shape) for place in places for _ in range(2)]
    book = algorithms.codebook_of(algorithms.train_codebook(np.concatenate(places), 40, iterations=10, seed=0))
    pairs, similarity = algorithms.best_partners_by_words(
        lambda photo: photos[photo].astype(np.float32), range(6), book, algorithms.SearchOptions(), limit_bytes=1 << 24
    )
    best = pairs[np.argsort(-similarity)[:3]].tolist()
    assert sorted(best) == [[0, 1], [2, 3], [4, 5]]


def test_evaluation() -> None:
    moved = algorithms.fit_similarity(CENTRES, 3.0 * CENTRES + 1.0)
    errors = algorithms.evaluate_poses(POSES, np.concatenate([ROTATIONS, POSES[:, :, 3:] * 3.0], axis=2))
    assert moved.scale == pytest.approx(3.0)
    assert errors.registered == 5
    assert errors.ate_rmse == pytest.approx(0.0, abs=1e-6)
