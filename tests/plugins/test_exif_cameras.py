"""Which photos share a camera, and what EXIF says about its focal length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unposed.optim.intrinsics_priors import IntrinsicsPriorOptions
from unposed.pipeline.artifacts import Exif, Photo, Photos
from unposed.pipeline.config import build
from unposed.pipeline.errors import ConfigError
from unposed.plugins.cameras.exif import ExifCameras
from unposed.plugins.cameras.focal_prior import SENSOR_MM, focal_px, sensor_mm

PHONE = Exif(make="Maker", model="Phone 1", focal_mm=4.0, focal_35mm=28.0)


def photos(*items: tuple[str, int, int, Exif]) -> Photos:
    return Photos(tuple(Photo(n, Path(n), n, w, h, exif=exif) for n, w, h, exif in items), {})


def groups(collection: Photos, grouping: str) -> list[int]:
    cameras = ExifCameras(grouping=grouping)(collection)  # type: ignore[arg-type]
    assert cameras.camera_of_photo.dtype == np.int32 and cameras.camera_of_photo.max() == len(cameras.cameras) - 1
    assert len(cameras.focal_source) == len(cameras.cameras)
    assert cameras.grouping == ("assumed" if grouping == "auto" else "given")
    return [int(row) for row in cameras.camera_of_photo]


MIXED = photos(
    ("a/1.jpg", 4000, 3000, PHONE),
    ("a/2.jpg", 4000, 3000, PHONE),
    ("a/3.jpg", 3000, 4000, PHONE),
    ("b/4.jpg", 4000, 3000, Exif(make="Maker", model="Phone 2", focal_mm=4.0, focal_35mm=28.0)),
    ("b/5.jpg", 4000, 3000, Exif(make="Maker", model="Phone 1", focal_mm=7.0, focal_35mm=52.0)),
    ("b/6.jpg", 4000, 3000, Exif()),
    ("c/7.jpg", 4000, 3000, Exif()),
    ("c/8.jpg", 640, 480, Exif()),
)


@pytest.mark.parametrize(
    ("grouping", "expected"),
    [
        ("auto", [0, 0, 1, 2, 3, 4, 4, 5]),
        ("single", [0, 0, 1, 0, 0, 0, 0, 2]),
        ("folder", [0, 0, 1, 2, 2, 2, 3, 4]),
        ("image", [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_groups(grouping: str, expected: list[int]) -> None:
    assert groups(MIXED, grouping) == expected


def test_every_camera_has_the_size_of_its_photos() -> None:
    for grouping in ("auto", "single", "folder", "image"):
        cameras = ExifCameras(grouping=grouping)(MIXED)
        for photo, row in zip(MIXED.photos, cameras.camera_of_photo, strict=True):
            camera = cameras.cameras[row]
            assert (camera.width, camera.height) == (photo.width, photo.height)


def test_upright_and_across_have_one_focal_length() -> None:
    across, upright = ExifCameras()(photos(("1", 4000, 3000, PHONE), ("2", 3000, 4000, PHONE))).cameras
    assert across.params[0] == upright.params[0]
    assert across.params[1:3] == (2000.0, 1500.0) and upright.params[1:3] == (1500.0, 2000.0)


def test_standard_deviations_reach_all_stages_by_one_option() -> None:
    stage = build(ExifCameras, {"prior": {"exif_focal_sigma": 0.2}}, "cameras")
    assert stage(MIXED).prior == IntrinsicsPriorOptions(exif_focal_sigma=0.2)
    with pytest.raises(ConfigError, match=r"cameras.prior.crop_sigma: expected float in \(0, inf\), got -1"):
        build(ExifCameras, {"prior": {"crop_sigma": -1}}, "cameras")


def test_guess_and_model() -> None:
    collection = photos(("1", 1000, 800, Exif()))
    cameras = ExifCameras(default_focal=0.8, model="OPENCV")(collection)
    assert cameras.focal_source == ("guess",)
    assert cameras.cameras[0].model == "OPENCV"
    assert cameras.cameras[0].params == (800.0, 800.0, 500.0, 400.0, 0.0, 0.0, 0.0, 0.0)
    assert ExifCameras()(collection).cameras[0].params == (1200.0, 500.0, 400.0, 0.0)


@pytest.mark.parametrize("model", ["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE"])
def test_parameters_are_as_colmap_counts_them(model: str) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    camera = ExifCameras(model=model)(photos(("1", 1000, 800, Exif()))).cameras[0]  # type: ignore[arg-type]
    theirs = pycolmap.Camera(model=model, width=1000, height=800, params=camera.params)
    assert theirs.verify_params() and theirs.mean_focal_length() == 1200
    assert (theirs.principal_point_x, theirs.principal_point_y) == (500, 400)


def test_full_frame_and_its_crops() -> None:
    """50 mm before a sensor of 36 x 24 mm, however the file says so."""
    width, height = 6000, 4000
    expected = 50 / 36 * width
    full_frame = Exif(make="NIKON CORPORATION", model="NIKON D800", focal_mm=50.0)
    assert focal_px(full_frame, width, height) == pytest.approx(expected, rel=5e-3)  # 35.9 mm by the database
    assert focal_px(full_frame, height, width) == focal_px(full_frame, width, height)
    assert focal_px(Exif(focal_35mm=50.0), width, height) == pytest.approx(expected, rel=1e-3)
    assert focal_px(Exif(focal_mm=50.0, sensor_mm=36.0), width, height) == pytest.approx(expected)
    # 16:9 loses height, 1:1 and 4:3 lose width: the pixels stay where they are
    for w, h in ((6000, 3375), (4000, 4000), (5333, 4000)):
        assert focal_px(full_frame, w, h) == pytest.approx(expected, rel=5e-3)
    assert focal_px(Exif(focal_mm=33.3, focal_35mm=50.0), 6000, 3375) == pytest.approx(expected, rel=1e-3)


def test_film_equivalent_compares_diagonals() -> None:
    """A phone: 12 megapixels of 1.22 micrometres behind 3.99 mm, which its maker calls 28 mm."""
    expected = 3.99e-3 / 1.22e-6
    assert focal_px(Exif(focal_mm=3.99, focal_35mm=28.0), 4032, 3024) == pytest.approx(expected, rel=0.01)
    assert focal_px(Exif(make="Apple", model="iPhone 7", focal_mm=3.99), 3024, 4032) == pytest.approx(
        expected, rel=0.01
    )
    assert focal_px(Exif(focal_mm=3.99, focal_35mm=28.0), 4032, 2268) == pytest.approx(expected, rel=0.01)


def test_digital_zoom() -> None:
    """The bare focal length knows nothing of it, the equivalent has it in."""
    plain = focal_px(Exif(make="Apple", model="iPhone 7", focal_mm=3.99), 4032, 3024)
    zoomed = Exif(make="Apple", model="iPhone 7", focal_mm=3.99, focal_35mm=56.0, digital_zoom=2.0)
    assert plain is not None and focal_px(zoomed, 4032, 3024) == pytest.approx(2 * plain)
    assert focal_px(Exif(focal_35mm=56.0, digital_zoom=2.0), 4032, 3024) == pytest.approx(2 * plain, rel=0.02)


def test_the_other_lens_of_a_phone_goes_by_its_equivalent() -> None:
    """The database knows the main camera's sensor; behind the wide lens is a smaller one."""
    main = Exif(make="Apple", model="iPhone 11 Pro", focal_mm=4.25, focal_35mm=26.0)
    wide = Exif(make="Apple", model="iPhone 11 Pro", focal_mm=1.54, focal_35mm=13.0)
    assert focal_px(main, 4032, 3024) == pytest.approx(26.0 * 5040 / np.hypot(36, 24), rel=0.05)
    assert focal_px(wide, 4032, 3024) == pytest.approx(13.0 * 5040 / np.hypot(36, 24), rel=1e-6)


def test_stale_pixel_density_yields_to_the_equivalent() -> None:
    shrunk = Exif(focal_mm=50.0, focal_35mm=50.0, sensor_mm=6.0)
    assert focal_px(shrunk, 1000, 667) == pytest.approx(50 / 36 * 1000, rel=1e-3)


@pytest.mark.parametrize(
    "exif",
    [
        Exif(),
        Exif(focal_mm=50.0),
        Exif(make="Canon", model="Canon EOS 5D"),
        Exif(focal_35mm=5000.0),
        Exif(focal_35mm=3.0),
        Exif(focal_mm=0.5, sensor_mm=60.0),
    ],
)
def test_nothing_usable(exif: Exif) -> None:
    assert focal_px(exif, 4000, 3000) is None


@pytest.mark.parametrize(
    ("exif", "mm"),
    [
        (Exif(make="Canon", model="Canon EOS 5D Mark II"), 36.0),
        (Exif(make="SONY", model="ILCE-6000"), 23.6),
        (Exif(make="OLYMPUS IMAGING CORP.", model="E-M5"), 17.3),
        (Exif(lens="iPhone 4S back camera 4.28mm f/2.4"), 4.57),
        (Exif(lens="iPhone 4S front camera 1.85mm f/2.4"), None),
        (Exif(make="Canon"), None),
        (Exif(model="unheard of"), None),
    ],
)
def test_known_sensors(exif: Exif, mm: float | None) -> None:
    assert sensor_mm(exif) == (None if mm is None else pytest.approx(mm, rel=0.01))


def test_the_table_is_sane() -> None:
    assert len(SENSOR_MM) > 60
    assert all(name == name.lower().strip() and 2 < mm <= 36 for name, mm in SENSOR_MM.items())
