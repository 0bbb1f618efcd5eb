"""The minimum of bundle adjustment against COLMAP's, which Ceres finds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.ceres import adjust_by_ceres, ceres_loss
from unposed.optim.bundle.intrinsics import FIXED_SIGMA, hold_principal
from unposed.optim.bundle.losses import CAUCHY, HUBER, SQUARED, Loss, barron
from unposed.optim.bundle.pose_priors import no_pose_priors
from unposed.optim.bundle.problem import Bundle, BundleOptions, errors_px

LOSS_PX = 1.0


def cost(bundle: Bundle) -> float:
    """By the definition, not by the code under test."""
    return float(0.5 * LOSS_PX**2 * np.log(1.0 + errors_px(bundle) ** 2 / LOSS_PX**2).sum())


@pytest.mark.parametrize("seed", range(2))
def test_the_minimum_is_that_of_ceres(collection: Callable[..., Any], seed: int) -> None:
    """Half a pixel of noise, one observation in fifty wrong, two cameras, everything free but the principal points."""
    lenses = ((1500.0, 800.0, 600.0, -0.05), (1100.0, 500.0, 400.0, 0.03))
    sizes = ((1600, 1200), (1000, 800))
    world = collection(photos=20, points=500, lenses=lenses, sizes=sizes, noise_px=0.5, seed=seed)
    start = world.bundle(wrong=0.02, wrong_px=20.0)
    free = BundleOptions(distortion=True, loss_px=LOSS_PX, max_iterations=200, tolerance=1e-12)

    theirs, their_summary = adjust_by_ceres(start, free)
    assert their_summary.initial_cost == pytest.approx(cost(start), rel=1e-12)
    assert their_summary.final_cost == pytest.approx(cost(theirs), rel=1e-12)

    ours, summary = adjust_bundle(start, replace(free, tolerance=1e-9))
    assert summary.iterations <= 14  # plain reweighting takes 17 and more
    assert summary.final_cost == pytest.approx(cost(ours), rel=1e-12)
    assert cost(ours) < 0.9 * cost(start)
    assert cost(ours) == pytest.approx(cost(theirs), rel=1e-6)
    np.testing.assert_allclose(ours.intrinsics[:, :2], theirs.intrinsics[:, :2], rtol=1e-4)
    apart = (
        world.errors(ours.cam_from_world).rotation_error_deg - world.errors(theirs.cam_from_world).rotation_error_deg
    )
    assert np.abs(apart).max() < 1e-3


def test_ceres_leaves_what_is_frozen(collection: Callable[..., Any]) -> None:
    world = collection(photos=5, points=80, noise_px=0.5)
    start = world.bundle()
    start.points[:] += 0.05
    found, summary = adjust_by_ceres(start, BundleOptions(focal=False, rotations=False, max_iterations=20))
    assert summary.final_cost < 0.5 * summary.initial_cost
    np.testing.assert_array_equal(found.intrinsics, start.intrinsics)
    np.testing.assert_allclose(found.cam_from_world[:, :, :3], start.cam_from_world[:, :, :3], atol=1e-12)
    assert (found.cam_from_world[:, :, 3] != start.cam_from_world[:, :, 3]).any()


def test_ceres_skips_photos_without_a_pose(collection: Callable[..., Any]) -> None:
    world = collection(photos=6, points=100, noise_px=0.3)
    partly = world.bundle_without(2)
    found, _ = adjust_by_ceres(partly, BundleOptions(max_iterations=20))
    assert np.isnan(found.cam_from_world[2]).all()
    assert np.isfinite(np.delete(found.cam_from_world, 2, axis=0)).all()


def test_ceres_holds_given_cameras_and_doubtful_principal_points(collection: Callable[..., Any]) -> None:
    lenses = ((1500.0, 800.0, 600.0, -0.05), (1100.0, 500.0, 400.0, 0.03))
    world = collection(photos=6, points=100, lenses=lenses, sizes=((1600, 1200), (1000, 800)), noise_px=0.5)
    start = world.bundle()
    prior = world.initial_intrinsics().prior
    prior.sigma[0] = FIXED_SIGMA
    options = BundleOptions(principal=True, distortion=True, max_iterations=20)
    free, _ = adjust_by_ceres(start, options, prior)
    np.testing.assert_array_equal(free.intrinsics[0], start.intrinsics[0])
    assert (free.intrinsics[1, :5] != start.intrinsics[1, :5]).all()
    held, _ = adjust_by_ceres(start, options, hold_principal(prior, np.array([3, 3])))
    np.testing.assert_array_equal(held.intrinsics[:, 2:4], start.intrinsics[:, 2:4])
    assert held.intrinsics[1, 0] != start.intrinsics[1, 0]


def test_ceres_leaves_fixed_poses(collection: Callable[..., Any]) -> None:
    """And gets to the same place as ours around them."""
    world = collection(photos=8, points=150, noise_px=0.5)
    start = world.bundle()
    start.points[:] += 0.05
    anchors = replace(no_pose_priors(8), fixed=np.isin(np.arange(8), [1, 6]))
    options = BundleOptions(loss_px=LOSS_PX, max_iterations=100, tolerance=1e-12)
    theirs, _ = adjust_by_ceres(start, options, pose_priors=anchors)
    np.testing.assert_allclose(
        theirs.cam_from_world[anchors.fixed], start.cam_from_world[anchors.fixed], rtol=0, atol=1e-12
    )
    ours, _ = adjust_bundle(start, options, pose_priors=anchors)
    assert cost(ours) == pytest.approx(cost(theirs), rel=1e-6)
    np.testing.assert_allclose(ours.cam_from_world, theirs.cam_from_world, atol=1e-3)


@pytest.mark.parametrize("loss", [CAUCHY, HUBER, SQUARED, barron(1.0)], ids=lambda loss: loss.name)
def test_losses_are_those_of_ceres(collection: Callable[..., Any], loss: Loss) -> None:
    """The same cost, and the same minimum."""
    start = collection(photos=6, points=100, noise_px=0.5).bundle(wrong=0.05, wrong_px=10.0)
    options = BundleOptions(loss=loss, loss_px=1.5, max_iterations=200, tolerance=1e-12)
    theirs, ours = adjust_by_ceres(start, options)[1], adjust_bundle(start, options)[1]
    assert ours.initial_cost == pytest.approx(theirs.initial_cost, rel=1e-12)
    assert ours.final_cost == pytest.approx(theirs.final_cost, rel=1e-6)


def test_a_loss_that_ceres_does_not_have_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Ceres has no 'barron -2'; it has cauchy, huber, squared, barron 1"):
        ceres_loss(barron(-2.0))
