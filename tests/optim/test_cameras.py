"""Projection, its derivatives and its inverse, against pycolmap and against central differences."""

from typing import get_args

import numpy as np
import pycolmap
import pytest
from hypothesis import given, strategies as st

from unposed.optim.cameras import (
    CAMERA_MODELS,
    CameraModelName,
    fisheyes,
    intrinsics_of,
    params_of,
    project,
    project_with_jacobians,
    unproject,
)

PARAMS = {
    "SIMPLE_PINHOLE": (900.0, 500.0, 380.0),
    "PINHOLE": (900.0, 930.0, 500.0, 380.0),
    "SIMPLE_RADIAL": (900.0, 500.0, 380.0, -0.08),
    "RADIAL": (900.0, 500.0, 380.0, -0.12, 0.05),
    "OPENCV": (900.0, 930.0, 500.0, 380.0, -0.12, 0.05, 0.004, -0.003),
    "OPENCV_FISHEYE": (600.0, 630.0, 500.0, 380.0, -0.05, 0.02, 0.004, -0.003),
}
LENS = intrinsics_of("OPENCV", PARAMS["OPENCV"])


def points(count: int = 40) -> np.ndarray:
    """In front of the camera, up to about 35 degrees off its axis."""
    rng = np.random.default_rng(0)
    depth = rng.uniform(1.0, 20.0, (count, 1))
    return np.concatenate([rng.uniform(-0.5, 0.5, (count, 2)), np.ones((count, 1))], axis=1) * depth


def test_every_model_is_compared_with_colmap() -> None:
    assert PARAMS.keys() == CAMERA_MODELS.keys()
    assert get_args(CameraModelName) == tuple(CAMERA_MODELS)


@pytest.mark.parametrize("model", CAMERA_MODELS)
def test_the_table_counts_parameters_as_colmap_does(model: str) -> None:
    camera, row = pycolmap.Camera(model=model, width=1000, height=760, params=PARAMS[model]), CAMERA_MODELS[model]
    assert len(row.params) == len(camera.params)
    assert row.num_focals == len(camera.focal_length_idxs())
    assert row.num_distortion == len(camera.extra_params_idxs())
    assert row.shared_focal == (row.num_focals == 1)
    assert row.fisheye == fisheyes([model])[0] == ("FISHEYE" in model)
    assert row.tangential == (model == "OPENCV")


@pytest.mark.parametrize("model", CAMERA_MODELS)
def test_pixels_and_rays_are_those_of_colmap(model: str) -> None:
    camera = pycolmap.Camera(model=model, width=1000, height=760, params=PARAMS[model])
    row, y = intrinsics_of(model, PARAMS[model]), points()
    eye = bool(fisheyes([model])[0])
    xy = project(y, row, eye)
    np.testing.assert_allclose(xy, camera.img_from_cam(y), rtol=0, atol=1e-9)
    np.testing.assert_allclose(unproject(xy, row, eye), y[:, :2] / y[:, 2:], rtol=0, atol=1e-12)
    # COLMAP stops iterating a little earlier, at 1e-10 and less of the plane.
    np.testing.assert_allclose(unproject(xy, row, eye), camera.cam_from_img(xy), rtol=0, atol=1e-9)


@pytest.mark.parametrize("model", CAMERA_MODELS)
def test_parameters_survive_the_row_of_eight(model: str) -> None:
    assert params_of(model, intrinsics_of(model, PARAMS[model])) == PARAMS[model]


def test_too_few_parameters_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        intrinsics_of("RADIAL", (900.0, 500.0, 380.0))


@pytest.mark.parametrize("eye", [False, True])
def test_jacobians_equal_central_differences(eye: bool) -> None:
    y = points()
    pixels, by_y, by_k = project_with_jacobians(y, LENS, eye)
    np.testing.assert_allclose(pixels, project(y, LENS, eye), rtol=1e-14)
    for axis, step in enumerate(1e-6 * np.eye(3)):
        slope = (project(y + step, LENS, eye) - project(y - step, LENS, eye)) / 2e-6
        np.testing.assert_allclose(by_y[:, :, axis], slope, rtol=1e-6, atol=1e-5)
    for k, step in enumerate(np.diag([1e-3] * 4 + [1e-6] * 4)):
        slope = (project(y, LENS + step, eye) - project(y, LENS - step, eye)) / (2.0 * step[k])
        np.testing.assert_allclose(by_k[:, :, k], slope, rtol=1e-6, atol=1e-5)


def test_a_row_of_intrinsics_per_point() -> None:
    y, rows = points(), np.stack([LENS, intrinsics_of("PINHOLE", PARAMS["PINHOLE"])] * 20)
    xy = project(y, rows)
    np.testing.assert_array_equal(xy[::2], project(y[::2], LENS))
    np.testing.assert_array_equal(xy[1::2], project(y[1::2], rows[1]))
    np.testing.assert_allclose(unproject(xy, rows), y[:, :2] / y[:, 2:], atol=1e-12)


@pytest.mark.parametrize(("k1", "k2", "radius"), [(-0.3, 0.0, 0.702), (-0.5, 0.1, 0.599)])
def test_pixels_beyond_the_fold_have_no_ray(k1: float, k2: float, radius: float) -> None:
    """Both lenses fold: their largest distorted radius is 0.7027 and 0.6. The second opens up again further out,
    where another point gives the pixel, and so does the far side of the first; neither is what the lens saw."""
    row = intrinsics_of("RADIAL", (1000.0, 0.0, 0.0, k1, k2))
    xy = np.array([[0.0, 1000.0 * r] for r in (0.1, radius, radius + 0.005, 1.0, 3.0, 1e9)])
    plane = unproject(xy, row)
    assert np.isfinite(plane[:2]).all()
    assert np.isnan(plane[2:]).all()
    np.testing.assert_allclose(project(np.column_stack([plane[:2], np.ones(2)]), row), xy[:2], atol=1e-6)


@given(k1=st.floats(-0.4, 0.4), k2=st.floats(-0.2, 0.2), r=st.floats(0.0, 1.0))
def test_a_ray_is_found_exactly_where_radii_grow(k1: float, k2: float, r: float) -> None:
    row = intrinsics_of("RADIAL", (1.0, 0.0, 0.0, k1, k2))
    slope = 1.0 + np.linspace(0.0, r**2, 400) * (3.0 * k1 + np.linspace(0.0, r**2, 400) * 5.0 * k2)
    xy = project(np.array([[0.6 * r, 0.8 * r, 1.0]]), row)
    plane = unproject(xy, row)
    if slope.min() > 0.05:
        np.testing.assert_allclose(plane, [[0.6 * r, 0.8 * r]], atol=1e-7)
    elif slope.min() < -1e-3 and np.isfinite(plane).all():  # folded: only a nearer point may be the answer
        assert np.linalg.norm(plane) < r


def wide_points() -> np.ndarray:
    """From the axis itself to 85 degrees off it."""
    angle = np.radians(np.concatenate([[0.0, 1e-9, 1e-5], np.linspace(1.0, 85.0, 50)]))
    turn = np.linspace(0.0, 7.0, len(angle))
    return np.stack([np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)], axis=1)


def test_a_fisheye_sees_nearly_sideways() -> None:
    camera = pycolmap.Camera(model="OPENCV_FISHEYE", width=1000, height=760, params=PARAMS["OPENCV_FISHEYE"])
    y, row = wide_points(), intrinsics_of("OPENCV_FISHEYE", PARAMS["OPENCV_FISHEYE"])
    xy = project(y, row, True)
    np.testing.assert_allclose(xy, camera.img_from_cam(y), rtol=0, atol=1e-9)
    np.testing.assert_allclose(unproject(xy, row, True), y[:, :2] / y[:, 2:], rtol=1e-11, atol=1e-13)
    beyond = row[2:4] + 600.0 * np.array([[np.radians(100.0), 0.0], [50.0, 0.0]])
    assert np.isnan(unproject(beyond, row, True)).all()


def test_a_fisheye_is_smooth_on_its_axis() -> None:
    row = intrinsics_of("OPENCV_FISHEYE", PARAMS["OPENCV_FISHEYE"])
    _, by_y, by_k = project_with_jacobians(wide_points()[:3], row, True)
    np.testing.assert_allclose(by_y[:, :, :2], np.tile(np.diag(row[:2]), (3, 1, 1)), rtol=1e-8, atol=1e-8)
    assert np.isfinite(by_k).all()


def test_plain_lenses_and_fisheyes_together() -> None:
    y, eye = points(), np.arange(40) % 3 == 0
    mixed = project_with_jacobians(y, LENS, eye)
    for one, part in ((True, eye), (False, ~eye)):
        for together, alone in zip(mixed, project_with_jacobians(y[part], LENS, one), strict=True):
            np.testing.assert_allclose(together[part], alone, rtol=1e-14)
    xy = mixed[0]
    np.testing.assert_allclose(project(y, LENS, eye), xy, rtol=1e-14)
    np.testing.assert_allclose(unproject(xy, LENS, eye), y[:, :2] / y[:, 2:], atol=1e-12)
