"""GPS positions in EXIF, in metres in a local frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unposed.optim.alignment.geodesy import EQUATOR_M, FLATTENING
from unposed.optim.arrays import Array
from unposed.pipeline.artifacts import Photos


def positions_m(photos: Photos) -> tuple[Array, NDArray[np.bool_]]:
    """(photos, 3) positions in metres east, north and up from their mean, and (photos,) where the height is known.

    NaN for photos without position. Unknown heights are the mean of the others. The earth is taken as flat around the
    mean, which is exact to a few centimetres within a kilometre or two.
    """
    latitude, longitude, height = (
        np.array([np.nan if value is None else value for value in values], np.float64)
        for values in zip(
            *((p.exif.latitude_deg, p.exif.longitude_deg, p.exif.altitude_m) for p in photos.photos), strict=True
        )
    )
    known = np.isfinite(latitude) & np.isfinite(longitude)
    out = np.full((len(latitude), 3), np.nan)
    if not known.any():
        return out, known
    measured = known & np.isfinite(height)
    level = float(height[measured].mean()) if measured.any() else 0.0
    first_latitude, first_longitude = latitude[known][0], longitude[known][0]
    # The far side of the date line is next to the near one.
    east_deg = (longitude[known] - first_longitude + 180.0) % 360.0 - 180.0
    north_deg = latitude[known] - first_latitude
    middle = np.radians(first_latitude + north_deg.mean())
    squared = FLATTENING * (2.0 - FLATTENING)
    bend = 1.0 - squared * np.sin(middle) ** 2
    along_parallel = EQUATOR_M / np.sqrt(bend) * np.cos(middle)
    along_meridian = EQUATOR_M * (1.0 - squared) / bend**1.5
    out[known, 0] = np.radians(east_deg - east_deg.mean()) * along_parallel
    out[known, 1] = np.radians(north_deg - north_deg.mean()) * along_meridian
    out[known, 2] = np.where(measured[known], height[known], level) - level
    return out, measured
