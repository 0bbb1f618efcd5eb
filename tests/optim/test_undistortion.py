"""The pinhole image of a distorted one: as large as can be, within what was seen, and the same rays."""

from __future__ import annotations

import numpy as np
import pytest

from unposed.optim.cameras import CAMERA_MODELS, CX, CY, FX, FY, intrinsics_of, project
from unposed.optim.undistortion import UndistortionOptions, centred_pinhole, origins, undistorted

SIZE = (640, 420)
CAMERAS = {
    "centred": ("SIMPLE_PINHOLE", (500.0, 320.0, 210.0)),
    "off centre": ("PINHOLE", (500.0, 520.0, 300.0, 220.0)),
    "barrel": ("SIMPLE_RADIAL", (500.0, 325.0, 205.0, -0.12)),
    "pincushion": ("RADIAL", (500.0, 325.0, 205.0, 0.1, 0.03)),
    "tilted": ("OPENCV", (500.0, 505.0, 325.0, 205.0, -0.1, 0.02, 0.004, -0.003)),
    "fisheye": ("OPENCV_FISHEYE", (250.0, 250.0, 322.0, 208.0, 0.02, -0.004, 0.0, 0.0)),
    "all around": ("OPENCV_FISHEYE", (130.0, 130.0, 320.0, 210.0, 0.0, 0.0, 0.0, 0.0)),
}


@pytest.mark.parametrize("name", CAMERAS)
def test_the_pinhole_sees_what_was_seen_and_the_same(name: str) -> None:
    model, params = CAMERAS[name]
    given, fisheye = intrinsics_of(model, params), CAMERA_MODELS[model].fisheye
    pinhole, width, height = centred_pinhole(given, fisheye, *SIZE)
    assert (pinhole[CX], pinhole[CY]) == (width / 2, height / 2)
    assert (pinhole[FX], pinhole[FY]) == (given[FX], given[FY])
    seen_at = origins(pinhole, width, height, given, fisheye)
    assert seen_at.shape == (height, width, 2)
    assert (seen_at >= 0.0).all()
    assert (seen_at <= SIZE).all()
    where = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
    back = undistorted(seen_at.reshape(-1, 2).astype(np.float64), given, fisheye, pinhole)
    np.testing.assert_allclose(back, where.reshape(-1, 2), atol=2e-3)  # the origins are of single precision


@pytest.mark.parametrize("name", CAMERAS)
@pytest.mark.parametrize("more", [(2, 0), (0, 2)])
def test_the_image_could_be_no_larger(name: str, more: tuple[int, int]) -> None:
    """Two pixels wider or higher, and a piece of its border was not seen, or is wider than is wanted."""
    model, params = CAMERAS[name]
    given, fisheye = intrinsics_of(model, params), CAMERA_MODELS[model].fisheye
    _, width, height = centred_pinhole(given, fisheye, *SIZE)
    half_u, half_v = (width + more[0]) / 2 / given[FX], (height + more[1]) / 2 / given[FY]
    along = np.linspace(-1.0, 1.0, 201)
    sides = [(sign * half_u, t * half_v, 1.0) for sign in (-1, 1) for t in along]
    sides += [(t * half_u, sign * half_v, 1.0) for sign in (-1, 1) for t in along]
    seen = project(np.array(sides), given, fisheye)
    too_wide = np.degrees(np.arctan([half_u, half_v])) > (60.0 if fisheye else 75.0)
    assert too_wide.any() or ((seen < 0.0) | (seen > SIZE)).any()


def test_a_smaller_angle_gives_a_smaller_image() -> None:
    model, params = CAMERAS["all around"]
    options = UndistortionOptions(max_fisheye_half_angle_deg=45.0)
    _, width, height = centred_pinhole(intrinsics_of(model, params), True, *SIZE, options)
    assert (width, height) == (2 * 130, 2 * 130)


def test_a_centred_pinhole_stays_as_it_is() -> None:
    given = intrinsics_of(*CAMERAS["centred"])
    pinhole, width, height = centred_pinhole(given, False, *SIZE)
    assert (width, height) == SIZE
    np.testing.assert_array_equal(pinhole, given)
    expected = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
    np.testing.assert_allclose(origins(pinhole, width, height, given, False), expected, atol=1e-4)
