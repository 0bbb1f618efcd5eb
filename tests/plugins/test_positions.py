"""Positions by satellite in metres."""

from pathlib import Path

import numpy as np
import pytest

from unposed.pipeline.artifacts import Exif, Photo, Photos
from unposed.plugins.fine.positions import positions_m


def photos(*places: tuple[float | None, float | None, float | None]) -> Photos:
    exifs = [Exif(latitude_deg=a, longitude_deg=b, altitude_m=c) for a, b, c in places]
    return Photos(tuple(Photo(str(i), Path(str(i)), str(i), 9, 9, exif=exif) for i, exif in enumerate(exifs)), {})


@pytest.mark.parametrize(
    ("latitude", "north_m", "east_m"),
    [(0.0, 110.574, 111.320), (45.0, 111.132, 78.847), (-60.0, 111.412, 55.800)],
)
def test_a_thousandth_of_a_degree(latitude: float, north_m: float, east_m: float) -> None:
    """By the tables of geodesy."""
    half = 0.0005
    xyz, _ = positions_m(photos((latitude - half, 7.0 - half, 5.0), (latitude + half, 7.0 + half, 8.0)))
    np.testing.assert_allclose(xyz[1] - xyz[0], [east_m, north_m, 3.0], atol=2e-3)
    np.testing.assert_allclose(xyz.mean(axis=0)[:2], 0.0, atol=1e-9)


def test_the_date_line_is_no_border() -> None:
    xyz, _ = positions_m(photos((0.0, 179.9995, 0.0), (0.0, -179.9995, 0.0)))
    assert xyz[1, 0] - xyz[0, 0] == pytest.approx(111.32, abs=0.01)


def test_what_is_missing() -> None:
    xyz, height_known = positions_m(
        photos((50.0, 8.0, 100.0), (None, None, 7.0), (50.0, 8.001, None), (50.0, 8.0, 104.0))
    )
    assert np.isnan(xyz[1]).all()
    np.testing.assert_allclose(xyz[[0, 2, 3], 2], [-2.0, 0.0, 2.0])
    assert height_known.tolist() == [True, False, False, True]
    xyz, height_known = positions_m(photos((None, None, None)))
    assert np.isnan(xyz).all()
    assert not height_known.any()
