"""Positions on the ellipsoid WGS 84 in metres: earth-centred (EPSG 4978), and east, north, up about an origin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array

EQUATOR_M, FLATTENING = 6378137.0, 1.0 / 298.257223563
"""Semi-major axis and flattening of the ellipsoid."""


@dataclass(frozen=True)
class GeodeticOrigin:
    """Where x points to the east, y to the north, and z up (EPSG 4979)."""

    latitude_deg: float
    longitude_deg: float
    height_m: float
    """Above the ellipsoid, or above the sea where the devices that measured it say so."""

    @property
    def ecef_from_enu(self) -> Array:
        """(4, 4) from east, north, up in metres to earth-centred coordinates."""
        latitude, longitude = np.radians([self.latitude_deg, self.longitude_deg])
        s, c, sl, cl = np.sin(longitude), np.cos(longitude), np.sin(latitude), np.cos(latitude)
        out = np.eye(4)
        out[:3, :3] = np.array([[-s, -sl * c, cl * c], [c, -sl * s, cl * s], [0.0, cl, sl]])
        out[:3, 3] = ecef_m(self.latitude_deg, self.longitude_deg, self.height_m)
        return out


def ecef_m(latitude_deg: ArrayLike, longitude_deg: ArrayLike, height_m: ArrayLike) -> Array:
    """(..., 3) earth-centred coordinates."""
    latitude, longitude = np.radians(np.asarray(latitude_deg, float)), np.radians(np.asarray(longitude_deg, float))
    height = np.asarray(height_m, float)
    squared = FLATTENING * (2.0 - FLATTENING)
    radius = EQUATOR_M / np.sqrt(1.0 - squared * np.sin(latitude) ** 2)
    flat = (radius + height) * np.cos(latitude)
    upright = (radius * (1.0 - squared) + height) * np.sin(latitude)
    return np.stack([flat * np.cos(longitude), flat * np.sin(longitude), upright], axis=-1)


def enu_m(latitude_deg: ArrayLike, longitude_deg: ArrayLike, height_m: ArrayLike, origin: GeodeticOrigin) -> Array:
    """(..., 3) metres to the east, north and up of the origin."""
    frame = origin.ecef_from_enu
    return np.asarray((ecef_m(latitude_deg, longitude_deg, height_m) - frame[:3, 3]) @ frame[:3, :3])


def median_origin(latitude_deg: Array, longitude_deg: Array, height_m: Array) -> GeodeticOrigin:
    """The origin in the middle of positions (n,), of which a minority may be anywhere; heights may be NaN.

    The far side of the date line is next to the near one.
    """
    turn = (longitude_deg - longitude_deg[0] + 180.0) % 360.0 - 180.0
    longitude = (float(np.median(turn)) + float(longitude_deg[0]) + 180.0) % 360.0 - 180.0
    known = np.isfinite(height_m)
    return GeodeticOrigin(
        float(np.median(latitude_deg)), longitude, float(np.median(height_m[known])) if known.any() else 0.0
    )
