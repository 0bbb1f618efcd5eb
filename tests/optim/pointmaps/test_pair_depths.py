"""Depths of many predictions made one: scales, levels, unknown ones, and triangulated ones."""

from __future__ import annotations

import numpy as np
import pytest

from unposed.optim.bundle.intrinsics import Intrinsics, intrinsics_with_priors
from unposed.optim.pointmaps.canonical_depths import canonical_depths
from unposed.optim.pointmaps.depth_fusion import fuse_depths
from unposed.optim.pointmaps.pair_depths import (
    LATTICE_SIDE,
    PairDepths,
    lattice_cells,
    log_depth_lattice,
    plausible_depths,
)
from unposed.optim.pointmaps.pair_triangulation import triangulate_depths
from unposed.optim.pointmaps.predicted_focals import focals_from_pair_depths
from unposed.optim.rotations import exp_so3

SIZE = np.array([240.0, 120.0])


def predictions(photos: int, *, level_noise: float = 0.0, seed: int = 0) -> tuple[PairDepths, np.ndarray]:
    """All pairs, each side with a scale of its own and, with noise, errors that vary from cell to cell; and the true
    depths of the matches."""
    rng = np.random.default_rng(seed)
    pairs = np.array([(a, b) for a in range(photos) for b in range(a + 1, photos)])
    e, k = len(pairs), 30
    truth = rng.uniform(2.0, 6.0, (photos, LATTICE_SIDE**2))
    error = level_noise * rng.standard_normal((e, 2, LATTICE_SIDE**2))
    scale = np.exp(rng.standard_normal((e, 2)))
    xy = rng.uniform(0, 1, (e, 2, k, 2)) * SIZE
    lattice = np.log(truth[pairs]) + np.log(scale)[..., None] + error
    cell = lattice_cells(xy.reshape(-1, 2), SIZE).reshape(e, 2, k)
    detail = 0.05 * rng.standard_normal((e, 2, k))  # what a lattice does not show
    true_depth = np.take_along_axis(truth[pairs], cell, axis=2) * np.exp(detail)
    depth = true_depth * scale[..., None] * np.exp(np.take_along_axis(error, cell, axis=2))
    focal = np.full((e, 2), np.nan)
    return PairDepths(pairs, xy, depth, np.ones((e, k)), lattice, focal, np.ones(e, bool)), true_depth


def spread(found: np.ndarray, truth: np.ndarray, pairs: np.ndarray, photo: int) -> float:
    """How far depths of a photo in its pairs are from being one multiple of the true ones."""
    own = pairs == photo
    ratio = np.log(found[own] / truth[own])
    return float(ratio.std())


def test_scales_of_predictions_are_found() -> None:
    rng = np.random.default_rng(0)
    scale, depth = rng.standard_normal(6), rng.standard_normal(50)
    side, cell = np.indices((6, 50)).reshape(2, -1)
    value = scale[side] + depth[cell] + 0.01 * rng.standard_normal(300)
    value[rng.random(300) < 0.1] += 2.0
    fused = fuse_depths(side, cell, value, np.ones(300), 6, 50)
    np.testing.assert_allclose(fused.log_scale - fused.log_scale[0], scale - scale[0], atol=0.02)
    assert np.median(np.abs(fused.log_depth - depth - np.median(fused.log_depth - depth))) < 0.02
    assert 0.005 < fused.spread < 0.02


def test_sides_without_a_sample_have_no_scale() -> None:
    fused = fuse_depths(np.array([0, 0]), np.array([1, 2]), np.array([0.5, 1.5]), np.ones(2), 2, 4)
    assert np.isfinite(fused.log_scale[0]) and np.isnan(fused.log_scale[1])
    np.testing.assert_array_equal(np.isfinite(fused.log_depth), [False, True, True, False])


def test_depths_of_all_pairs_come_to_one_scale_per_photo() -> None:
    maps, truth = predictions(4)
    depth, usable = canonical_depths(maps, np.tile(SIZE, (4, 1)))
    assert usable.all()
    for photo in range(4):
        assert spread(depth, truth, maps.pairs, photo) < 1e-6
    assert 0.5 < np.median(depth) < 2.0


def test_errors_of_single_predictions_are_averaged_out() -> None:
    maps, truth = predictions(9, level_noise=0.04)
    depth, _ = canonical_depths(maps, np.tile(SIZE, (9, 1)))
    plain = maps.depth / np.exp(np.nanmean(maps.lattice, axis=2))[..., None]
    assert spread(depth, truth, maps.pairs, 3) < 0.5 * spread(plain, truth, maps.pairs, 3)


def test_unknown_depths_stay_unknown() -> None:
    maps, _ = predictions(3)
    for row, value in enumerate((np.nan, np.inf, 0.0, -1.0)):
        maps.depth[0, 0, row] = value
    maps.lattice[1, 1] = np.nan
    depth, usable = canonical_depths(maps, np.tile(SIZE, (3, 1)))
    np.testing.assert_array_equal(depth[0, 0, :4], 0.0)
    assert (depth[0, 0, 4:] > 0).all() and np.isfinite(depth).all()
    np.testing.assert_array_equal(usable, [True, False, True])


def test_predictions_of_other_places_do_not_compare() -> None:
    """Of photo 0, two predictions show the left half and one the right half: nothing relates their scales."""
    maps, _ = predictions(4)
    left = np.arange(LATTICE_SIDE**2) % LATTICE_SIDE < LATTICE_SIDE // 2
    for row, (a, b) in enumerate(maps.pairs.tolist()):
        if a == 0:
            maps.lattice[row, 0, left if b == 3 else ~left] = np.nan
    _, usable = canonical_depths(maps, np.tile(SIZE, (4, 1)))
    np.testing.assert_array_equal(~usable, (maps.pairs == (0, 3)).all(axis=1))


def test_lattice_means() -> None:
    xy = np.array([[1.0, 1.0], [2.0, 2.0], [239.0, 119.0], [500.0, -9.0], [100.0, 60.0]])
    depth = np.array([2.0, 8.0, 5.0, 3.0, np.nan])
    level = log_depth_lattice(xy, depth, np.array([1.0, 3.0, 1.0, 1.0, 1.0]), SIZE)
    assert level[0] == pytest.approx(0.25 * np.log(2.0) + 0.75 * np.log(8.0))
    assert level[-1] == pytest.approx(np.log(5.0))
    assert level[LATTICE_SIDE - 1] == pytest.approx(np.log(3.0))  # outside counts as the border
    assert np.isfinite(level).sum() == 3


def initial_intrinsics(photos: int, camera_of_photo: list[int]) -> Intrinsics:
    cameras = max(camera_of_photo) + 1
    params = [(300.0, 120.0, 60.0)] * cameras
    sizes = np.tile(SIZE, (cameras, 1))
    return intrinsics_with_priors(
        ["SIMPLE_PINHOLE"] * cameras, params, sizes, ["guess"] * cameras, np.array(camera_of_photo), 1.0
    )


def test_focal_lengths_are_those_that_predictions_agree_upon() -> None:
    maps, _ = predictions(4)
    maps.focal_px[:] = np.where(maps.pairs == 3, np.nan, 200.0)
    maps.focal_px[0] = 20.0
    found, sigma = focals_from_pair_depths(maps, initial_intrinsics(4, [0, 0, 0, 1]), np.array([np.inf, np.inf]))
    np.testing.assert_allclose(found.values[:, 0], [200.0, 300.0])
    np.testing.assert_allclose(sigma, [0.01, 0.3])
    known, sigma = focals_from_pair_depths(maps, initial_intrinsics(4, [0, 0, 0, 1]), np.array([0.05, 0.0]))
    np.testing.assert_allclose(known.values[:, 0], 300.0)
    np.testing.assert_allclose(sigma, [0.05, 0.0])


def test_two_views_tell_depths_where_their_rays_meet() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (20, 3)) + np.array([0.0, 0.0, 5.0])
    turn = exp_so3(np.array([[0.1, 0.2, -0.1]]))[0]
    moved = points @ turn.T + np.array([0.5, 0.1, 0.2])
    pose = np.broadcast_to(np.column_stack([turn, [0.5, 0.1, 0.2]]), (20, 3, 4))
    planes = [each[:, :2] / each[:, 2:] for each in (points, moved)]
    depth_a, depth_b = triangulate_depths(*planes, pose)
    np.testing.assert_allclose(depth_a, points[:, 2])
    np.testing.assert_allclose(depth_b, moved[:, 2])
    still = np.broadcast_to(np.column_stack([turn, np.zeros(3)]), (20, 3, 4))
    turned = points @ turn.T
    assert np.isnan(triangulate_depths(planes[0], turned[:, :2] / turned[:, 2:], still)).all()


def test_what_can_be_no_depth() -> None:
    said = np.array([[2.0, 3.0, np.nan, np.inf, 0.0, -1.0, 1e30, 1e-9, 4.0], [np.nan] * 9])
    expected = [[True, True, False, False, False, False, False, False, True], [False] * 9]
    assert plausible_depths(said).tolist() == expected
    assert plausible_depths(said * 1e-30).tolist() == expected
    assert plausible_depths(np.zeros((2, 0))).shape == (2, 0)
