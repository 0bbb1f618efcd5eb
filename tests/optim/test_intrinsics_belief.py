"""What is believed of cameras before any geometry."""

import numpy as np
import pytest

from unposed.optim.bundle import Prior
from unposed.optim.intrinsics import HELD, PHOTOS_FOR_PRINCIPAL, Intrinsics, believe, hold_principal


@pytest.fixture
def belief() -> Intrinsics:
    """A given, an EXIF and a guessed camera, of two, one and one photos."""
    return believe(
        ["OPENCV", "PINHOLE", "SIMPLE_RADIAL"],
        [(1000, 1010, 500, 400, 0.1, 0.02, 0.001, 0.002), (800, 880, 300, 400), (2000, 1000, 600, 0)],
        np.array([[1000.0, 800.0], [600.0, 800.0], [2000.0, 1200.0]]),
        ["given", "exif", "guess"],
        np.array([0, 2, 1, 0]),
        1.5,
    )


def test_given_cameras_are_held_exif_near_and_guesses_free(belief: Intrinsics) -> None:
    sigma = belief.prior.sigma
    np.testing.assert_array_equal(sigma[0], HELD)
    np.testing.assert_allclose(sigma[1, :4], [40.0, 40.0, 16.0, 16.0])
    assert np.isinf(sigma[2, :2]).all()
    np.testing.assert_allclose(sigma[2, 2:4], 40.0)
    np.testing.assert_array_equal(belief.prior.mean, belief.rows)
    assert belief.prior.noise_px == 1.5


def test_other_focals_keep_the_ratio_and_leave_the_prior(belief: Intrinsics) -> None:
    other = belief.with_focals(np.array([1100.0, 400.0, 1500.0]))
    np.testing.assert_allclose(other.rows[:, :2], [[1100, 1111], [400, 440], [1500, 1500]])
    np.testing.assert_array_equal(other.rows[:, 2:], belief.rows[:, 2:])
    assert other.prior is belief.prior
    assert belief.rows[0, 0] == 1000.0


def test_splitting_gives_every_photo_its_camera(belief: Intrinsics) -> None:
    apart = belief.split()
    assert apart.models == ("OPENCV", "SIMPLE_RADIAL", "PINHOLE", "OPENCV")
    np.testing.assert_array_equal(apart.camera_of, [0, 1, 2, 3])
    np.testing.assert_array_equal(apart.rows, belief.rows[belief.camera_of])
    np.testing.assert_array_equal(apart.prior.sigma, belief.prior.sigma[belief.camera_of])


def test_few_photos_hold_the_principal_point() -> None:
    prior = Prior(np.zeros((3, 8)), np.ones((3, 8)))
    held = hold_principal(prior, np.array([PHOTOS_FOR_PRINCIPAL - 1, PHOTOS_FOR_PRINCIPAL, 0]))
    np.testing.assert_array_equal(held.sigma[:, 2:4], [[HELD] * 2, [1.0] * 2, [HELD] * 2])
    assert (np.delete(held.sigma, [2, 3], axis=1) == 1.0).all()
    assert (prior.sigma == 1.0).all()


def test_a_tied_focal_length_is_believed_once() -> None:
    belief = believe(
        ["SIMPLE_RADIAL"], [(800, 300, 400, 0)], np.array([[600.0, 800.0]]), ["exif"], np.zeros(3, int), 1.0
    )
    assert belief.prior.sigma[0, 0] == 40.0 and np.isinf(belief.prior.sigma[0, 1])
