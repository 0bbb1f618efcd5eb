"""Priors and start values of intrinsics before any geometry."""

import numpy as np
import pytest

from unposed.optim.bundle.intrinsics import (
    FIXED_SIGMA,
    Intrinsics,
    hold_principal,
    intrinsics_with_priors,
    prior_after,
)
from unposed.optim.bundle.problem import IntrinsicsPrior
from unposed.optim.cameras import project
from unposed.optim.intrinsics_priors import IntrinsicsPriorOptions

OPTIONS = IntrinsicsPriorOptions()


@pytest.fixture
def initial() -> Intrinsics:
    """A given, an EXIF and a guessed camera, of two, one and one photos."""
    return intrinsics_with_priors(
        ["OPENCV", "PINHOLE", "SIMPLE_RADIAL"],
        [(1000, 1010, 500, 400, 0.1, 0.02, 0.001, 0.002), (800, 880, 300, 400), (2000, 1000, 600, 0)],
        np.array([[1000.0, 800.0], [600.0, 800.0], [2000.0, 1200.0]]),
        ["given", "exif", "guess"],
        np.array([0, 2, 1, 0]),
        1.5,
    )


def test_given_cameras_are_held_exif_near_and_guesses_free(initial: Intrinsics) -> None:
    sigma = initial.prior.sigma
    np.testing.assert_array_equal(sigma[0], FIXED_SIGMA)
    np.testing.assert_allclose(sigma[1, :4], [40.0, 40.0, 16.0, 16.0])
    assert np.isinf(sigma[2, :2]).all()
    np.testing.assert_allclose(sigma[2, 2:4], 40.0)
    np.testing.assert_array_equal(initial.prior.mean, initial.values)
    assert initial.prior.noise_px == 1.5


def test_other_focals_keep_the_ratio_and_leave_the_prior_mean(initial: Intrinsics) -> None:
    other = initial.with_focals(np.array([1100.0, 400.0, 1500.0]))
    np.testing.assert_allclose(other.values[:, :2], [[1100, 1111], [400, 440], [1500, 1500]])
    np.testing.assert_array_equal(other.values[:, 2:], initial.values[:, 2:])
    np.testing.assert_array_equal(other.prior.mean, initial.prior.mean)
    np.testing.assert_array_equal(other.prior.sigma[:, :4], initial.prior.sigma[:, :4])
    assert initial.values[0, 0] == 1000.0


@pytest.mark.parametrize("focal_px", [400.0, 1000.0, 5000.0])
def test_distortion_is_limited_in_the_corner_whatever_the_focal_length(focal_px: float) -> None:
    """One sigma of a radial coefficient moves the corner of the photo by the same few percent of its radius."""
    size = np.array([[1000.0, 800.0]])
    initial = intrinsics_with_priors(
        ["OPENCV"], [(900, 900, 500, 400, 0, 0, 0, 0)], size, ["guess"], np.zeros(1, int), 1.0
    )
    initial = initial.with_focals(np.array([focal_px]))
    corner = np.array([500.0, 400.0])
    for term, sigma in enumerate(initial.prior.sigma[0, 4:]):
        row = initial.values[0].copy()
        row[4 + term] = sigma
        ray = np.array([[*corner / focal_px, 1.0]])
        moved = np.linalg.norm(project(ray, row)[0] - row[2:4] - corner) / np.linalg.norm(corner)
        if term < 2:
            assert moved == pytest.approx(OPTIONS.corner_sigma, rel=1e-9)
        else:
            assert 1.0 <= moved / OPTIONS.tangential_sigma <= 3.0


def test_splitting_gives_every_photo_its_camera(initial: Intrinsics) -> None:
    apart = initial.split()
    assert apart.models == ("OPENCV", "SIMPLE_RADIAL", "PINHOLE", "OPENCV")
    np.testing.assert_array_equal(apart.camera_of_photo, [0, 1, 2, 3])
    np.testing.assert_array_equal(apart.values, initial.values[initial.camera_of_photo])
    np.testing.assert_array_equal(apart.prior.sigma, initial.prior.sigma[initial.camera_of_photo])


def test_few_photos_hold_the_principal_point() -> None:
    prior = IntrinsicsPrior(np.zeros((3, 8)), np.ones((3, 8)))
    held = hold_principal(prior, np.array([OPTIONS.min_photos_for_principal - 1, OPTIONS.min_photos_for_principal, 0]))
    np.testing.assert_array_equal(held.sigma[:, 2:4], [[FIXED_SIGMA] * 2, [1.0] * 2, [FIXED_SIGMA] * 2])
    assert (np.delete(held.sigma, [2, 3], axis=1) == 1.0).all()
    assert (prior.sigma == 1.0).all()


def test_a_tied_focal_length_counts_once() -> None:
    initial = intrinsics_with_priors(
        ["SIMPLE_RADIAL"], [(800, 300, 400, 0)], np.array([[600.0, 800.0]]), ["exif"], np.zeros(3, int), 1.0
    )
    assert initial.prior.sigma[0, 0] == 40.0 and np.isinf(initial.prior.sigma[0, 1])


def test_what_was_found_before_is_no_surprise() -> None:
    """The first, third and fourth camera have few photos; the third was found to be a crop, the last one is given."""
    prior = IntrinsicsPrior(np.zeros((4, 8)), np.full((4, 8), 20.0))
    prior.sigma[3] = FIXED_SIGMA
    found = np.zeros((4, 8))
    found[1, 0], found[2, 2], found[3, 2] = 300.0, -90.0, 1e-3
    after = prior_after(prior, found, np.array([1, OPTIONS.min_photos_for_principal, 1, 1])).sigma
    np.testing.assert_array_equal(after[:, 0], [20.0, 300.0, 20.0, FIXED_SIGMA])
    np.testing.assert_array_equal(after[:, 2:4], [[FIXED_SIGMA] * 2, [20.0] * 2, [90.0, 20.0], [FIXED_SIGMA] * 2])
    np.testing.assert_array_equal(after[:3, 4:], 20.0)


def test_crops_may_be_anywhere_but_for_given_cameras(initial: Intrinsics) -> None:
    wide = initial.with_crops()
    assert wide.crops and wide.split().crops and not initial.crops
    np.testing.assert_array_equal(wide.prior.sigma[0], FIXED_SIGMA)
    np.testing.assert_allclose(wide.prior.sigma[1:, 2:4], OPTIONS.crop_sigma * np.array([[800.0] * 2, [2000.0] * 2]))
    moved = wide.with_principal(np.full((3, 8), 7.0))
    np.testing.assert_array_equal(moved.values[:, 2:4], 7.0)
    np.testing.assert_array_equal(moved.values[:, 4:], initial.values[:, 4:])


def test_all_later_steps_use_the_standard_deviations_that_the_priors_were_made_from() -> None:
    options = IntrinsicsPriorOptions(principal_sigma=0.01, crop_sigma=0.2, min_photos_for_principal=2)
    cameras = intrinsics_with_priors(
        ["PINHOLE"], [(800, 800, 300, 400)], np.array([[600.0, 800.0]]), ["exif"], np.zeros(2, np.int64), 1.5, options
    )
    np.testing.assert_allclose(cameras.with_crops().prior.sigma[:, 2:4], 0.2 * 800.0)
    np.testing.assert_allclose(cameras.split().with_crops().prior.sigma[:, 2:4], 0.2 * 800.0)
    for prior in (cameras.prior, cameras.split().prior):
        held = hold_principal(prior, np.arange(1, 1 + len(prior.sigma)))
        assert held.sigma[0, 2] == FIXED_SIGMA and (held.sigma[1:, 2] > FIXED_SIGMA).all()
        assert prior_after(prior, prior.mean, np.full(len(prior.sigma), 2)).sigma[0, 2] > FIXED_SIGMA
