"""Covariances, against their definition, against COLMAP's, and against what repeated noise does."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pycolmap
import pytest

from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.ceres import ceres_problem
from unposed.optim.bundle.covariance import covariance
from unposed.optim.bundle.losses import SQUARED
from unposed.optim.bundle.pose_priors import no_pose_priors
from unposed.optim.bundle.problem import BundleOptions, IntrinsicsPrior

Make = Callable[..., Any]
PLAIN = BundleOptions(loss=SQUARED, max_iterations=100, tolerance=1e-13)


def test_covariances_are_those_of_colmap(collection: Make) -> None:
    """Two photos fixed. COLMAP says nothing of the scatter, and counts turns by halves: it is quaternions that move."""
    found, _ = adjust_bundle(collection(photos=6, points=120, noise_px=0.5).bundle(), PLAIN)
    held = np.arange(6) < 2
    ours = covariance(found, PLAIN, pose_priors=replace(no_pose_priors(6), fixed=held))
    assert ours.free_gauge == 0
    assert not ours.poses[held].any()
    model, _ = ceres_problem(found, PLAIN)
    config = pycolmap.BundleAdjustmentConfig()
    for image in model.images:
        config.add_image(image)
    for image in (1, 2):
        config.set_constant_rig_from_world_pose(model.images[image].frame_id)
    settings = pycolmap.BundleAdjustmentOptions(print_summary=False, refine_extra_params=False)
    adjuster = pycolmap.create_default_ceres_bundle_adjuster(settings, config, model)
    adjuster.solve()
    wanted = pycolmap.BACovarianceOptions(params=pycolmap.BACovarianceOptionsParams.POSES)
    theirs = pycolmap.estimate_ba_covariance(wanted, model, adjuster)
    for photo in range(2, 6):
        expected = theirs.get_cam_cov_from_world(photo + 1)
        own = ours.poses[photo] / ours.noise_px**2
        half = np.repeat([0.5, 1.0], 3)
        np.testing.assert_allclose(own * half * half[:, None], expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("grouped", [True, False])
def test_repeated_noise_scatters_as_it_says(collection: Make, grouped: bool) -> None:
    lens = (1500.0, 800.0, 600.0, 0.0)
    truth = collection(photos=5, points=120, sweep_deg=60.0, lenses=(lens,) * 5, grouped=grouped).bundle()
    focal = []
    for seed in range(100):
        found, _ = adjust_bundle(replace(truth, xy=noisy(truth.xy, seed)), replace(PLAIN, tolerance=1e-7))
        focal.append(found.intrinsics[:, 0])
    told = covariance(found, PLAIN)
    np.testing.assert_allclose(np.std(focal, axis=0), np.sqrt(told.intrinsics[:, 0, 0]), rtol=0.25)
    np.testing.assert_allclose(told.intrinsics[:, 0, 0], told.intrinsics[:, 0, 1], rtol=1e-9)  # one focal length
    assert not told.intrinsics[:, 2:].any()


def noisy(xy: np.ndarray, seed: int) -> np.ndarray:
    return xy + 0.5 * np.random.default_rng(seed).standard_normal(xy.shape)


def test_the_scatter_of_the_errors_is_found(collection: Make) -> None:
    found, _ = adjust_bundle(collection(photos=8, points=300, noise_px=0.7).bundle(), PLAIN)
    assert covariance(found, PLAIN).noise_px == pytest.approx(0.7, rel=0.05)


def test_the_gauge_is_counted(collection: Make) -> None:
    found, _ = adjust_bundle(collection(photos=5, points=100, noise_px=0.5).bundle(), PLAIN)
    anchors = no_pose_priors(5)
    level = replace(anchors, down=found.cam_from_world[:, :, 1], down_sigma_rad=np.full(5, 0.01))
    centres = -np.einsum("cji,cj->ci", found.cam_from_world[:, :, :3], found.cam_from_world[:, :, 3])
    placed = replace(anchors, centre=centres, centre_sigma=np.full((5, 3), 0.1))
    assert [covariance(found, PLAIN, pose_priors=a).free_gauge for a in (anchors, level, placed)] == [7, 5, 0]
    assert covariance(found, replace(PLAIN, rotations=False)).free_gauge == 4


def test_motions_of_the_whole_are_taken_out(collection: Make) -> None:
    """Turning everything by the same little turn is no uncertainty: the mean turn of all photos has none."""
    found, _ = adjust_bundle(collection(photos=5, points=100, noise_px=0.5).bundle(), PLAIN)
    told = covariance(found, PLAIN)
    assert np.linalg.eigvalsh(told.poses[:, :3, :3]).min() > 0.0
    held = covariance(found, PLAIN, pose_priors=replace(no_pose_priors(5), fixed=np.arange(5) == 0))
    assert held.free_gauge == 1  # the size
    spread = np.trace(told.poses, axis1=1, axis2=2).sum()
    assert spread < np.trace(held.poses, axis1=1, axis2=2).sum()


def test_what_the_photos_do_not_tell_shows_in_the_condition(collection: Make) -> None:
    """All photos turn about nothing but one line and see one wall from afar: focal length and distance go together."""
    good, _ = adjust_bundle(collection(photos=8, points=200, noise_px=0.3).bundle(), PLAIN)
    narrow, _ = adjust_bundle(collection(photos=2, points=200, sweep_deg=2.0, noise_px=0.3).bundle(), PLAIN)
    free = replace(PLAIN, principal=True)
    known = covariance(good, free)
    unknown = covariance(narrow, free)
    assert unknown.condition > 30.0 * known.condition
    assert unknown.intrinsics[0, 2, 2] > 100.0 * known.intrinsics[0, 2, 2]
    prior = IntrinsicsPrior(narrow.intrinsics, np.full((1, 8), 5.0), 1.0)
    with_prior = covariance(narrow, free, prior)
    assert with_prior.intrinsics[0, 2, 2] < 0.1 * unknown.intrinsics[0, 2, 2]


def test_photos_without_a_pose_have_none(collection: Make) -> None:
    world = collection(photos=6, points=100, noise_px=0.3)
    told = covariance(adjust_bundle(world.bundle_without(2), PLAIN)[0], PLAIN)
    assert np.isnan(told.poses[2]).all()
    assert np.isfinite(np.delete(told.poses, 2, axis=0)).all()
