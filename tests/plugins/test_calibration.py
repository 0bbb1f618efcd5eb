"""Calibration of single photos: the built-in one, and what cameras make of whatever calibrates."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from PIL import Image

from unposed.optim.rotations import exp_so3
from unposed.pipeline.artifacts import CameraPriors, Exif, Photo, PhotoCalibration, Photos
from unposed.pipeline.images.photos import single_photos
from unposed.pipeline.stage import PerPhoto
from unposed.plugins.calibration.vanishing_points import VanishingPoints, line_segments
from unposed.plugins.cameras.calibrated import focal_of_camera
from unposed.plugins.cameras.exif import ExifCameras
from unposed.plugins.shared.models import intrinsics_of_priors

NOTHING = PhotoCalibration(float("nan"), float("inf"))


def tiled_room(width: int, height: int, focal_px: float) -> Any:
    """A grey image of tiles on a floor and two walls, towards the corner."""
    image = np.full((height, width), 90, np.uint8)
    rotation = exp_so3(np.array([[0.35, -0.6, 0.05]]))[0]
    rng = np.random.default_rng(0)
    steps = np.arange(-3, 7)
    for fixed, level in ((1, 2.0), (2, 7.0), (0, 4.0)):
        u, v = (axis for axis in range(3) if axis != fixed)
        for i in steps:
            for j in steps:
                corners = np.full((4, 3), level)
                corners[:, u] = i + np.array([0, 1, 1, 0])
                corners[:, v] = j + np.array([0, 0, 1, 1])
                there = corners @ rotation.T
                if (there[:, 2] > 0.5).all():
                    pixels = focal_px * there[:, :2] / there[:, 2:] + [width / 2 - 0.5, height / 2 - 0.5]
                    grey = int(rng.integers(20, 235))
                    cv2.fillConvexPoly(image, np.round(16 * pixels).astype(np.int32), grey, cv2.LINE_AA, 4)
    return image


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Photo:
    file = tmp_path_factory.mktemp("room") / "room.png"
    Image.fromarray(tiled_room(1600, 1200, 1500.0)).save(file)
    return single_photos(file)[0]


def test_a_rendered_room_tells_its_focal_length(room: Photo) -> None:
    for side in (1600, 800):
        found = VanishingPoints(max_side_px=side)(room)
        assert found.focal_px == pytest.approx(1500.0, rel=0.05)  # of the original size, whatever was looked at
        assert 0.03 <= found.log_sigma < 0.15


def test_a_photo_without_lines_tells_nothing(tmp_path: Path) -> None:
    assert line_segments(np.full((40, 60), 128, np.uint8)).shape == (0, 2, 2)
    Image.new("RGB", (60, 40)).save(tmp_path / "grey.png")
    nothing = VanishingPoints()(single_photos(tmp_path / "grey.png")[0])
    assert np.isnan(nothing.focal_px) and np.isinf(nothing.log_sigma)


def test_a_camera_has_the_median_of_its_photos() -> None:
    told = [PhotoCalibration(f, s) for f, s in ((1000.0, 0.05), (1020.0, 0.05), (980.0, 0.05), (3000.0, 0.2))]
    focal_px, log_sigma = focal_of_camera([*told, NOTHING]) or (0.0, 0.0)
    assert focal_px == pytest.approx(1000.0) and log_sigma == pytest.approx(0.05)  # and not less for their number
    zoom = [PhotoCalibration(f, 0.05) for f in (1000.0, 1000.0, 2000.0, 2000.0, 1400.0)]
    assert (focal_of_camera(zoom) or (0.0, 0.0))[1] > 0.4
    assert focal_of_camera([NOTHING]) is None and focal_of_camera([]) is None


def cameras_of(calibration: dict[int, PhotoCalibration] | None, **options: Any) -> CameraPriors:
    """Two photos without EXIF, one with it, and one of another size without."""
    exif = Exif(make="Maker", model="Phone 1", focal_mm=4.0, focal_35mm=28.0)
    sizes = ((1000, 800, Exif()), (1000, 800, Exif()), (1000, 800, exif), (640, 480, Exif()))
    photos = Photos(tuple(Photo(f"{i}.jpg", Path(), str(i), w, h, exif=e) for i, (w, h, e) in enumerate(sizes)), {})
    return ExifCameras(**options)(photos, cast("PerPhoto[PhotoCalibration] | None", calibration))


def test_calibration_is_asked_where_neither_files_nor_exif_know(tmp_path: Path) -> None:
    told = {0: PhotoCalibration(900.0, 0.04), 1: NOTHING, 2: PhotoCalibration(5000.0, 0.01), 3: NOTHING}
    cameras = cameras_of(told)
    assert cameras.focal_source == ("guess", "exif", "guess")  # what a single photo says is no fact
    assert [camera.params[0] for camera in cameras.cameras] == [900.0, cameras_of(None).cameras[1].params[0], 768.0]
    assert cameras.guess_log_sigma is not None
    np.testing.assert_array_equal(cameras.guess_log_sigma, [0.04, np.inf, np.inf])
    assert cameras_of(None).guess_log_sigma is None and cameras_of({1: NOTHING}).guess_log_sigma is None
    sigma = intrinsics_of_priors(cameras, 1.0).prior.sigma
    assert sigma[0, 0] == pytest.approx(36.0)
    assert np.isinf([sigma[0, 1], sigma[2, 0]]).all()  # a focal length that is shared has its prior once

    given = tmp_path / "given.json"
    given.write_text('{"images": {"0.jpg": {"width": 1000, "height": 800, "K": [[700,0,500],[0,700,400],[0,0,1]]}}}')
    first = cameras_of({i: PhotoCalibration(900.0, 0.04) for i in range(4)}, intrinsics=given)
    assert first.focal_source[0] == "given" and first.cameras[0].params[0] == 700.0
    assert first.cameras[1].params[0] == 900.0  # the photo beside it has no given one


def test_both_focal_lengths_of_a_model_are_those_of_calibration() -> None:
    camera = cameras_of({3: PhotoCalibration(500.0, 0.1)}, model="OPENCV").cameras[2]
    assert camera.params == (500.0, 500.0, 320.0, 240.0, 0.0, 0.0, 0.0, 0.0)
