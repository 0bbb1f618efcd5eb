"""Pinhole images with their poses, their depth maps, and points seen by them. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import AnyArray, Array, Array32, Index, Index32, Mask


@dataclass(frozen=True)
class Pinhole:
    """Focal lengths, principal point and pose of an image without distortion."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    """Pixels; the centre of the top-left one is (0.5, 0.5)."""
    cam_from_world: Array
    """(3, 4)."""

    @property
    def K(self) -> Array:
        """(3, 3) calibration matrix."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def centre(self) -> Array:
        """(3,) position in the world."""
        return np.asarray(-self.cam_from_world[:, :3].T @ self.cam_from_world[:, 3])

    def smaller(self, factor: int) -> Pinhole:
        """The camera of the image whose pixels are means of factor x factor pixels."""
        return Pinhole(
            self.width // factor,
            self.height // factor,
            self.fx / factor,
            self.fy / factor,
            self.cx / factor,
            self.cy / factor,
            self.cam_from_world,
        )

    def project(self, points: AnyArray) -> tuple[AnyArray, AnyArray]:
        """Pixels (n, 2) and depths (n,) of world points (n, 3)."""
        y = points @ self.cam_from_world[:, :3].T + self.cam_from_world[:, 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = y[:, :2] / y[:, 2:] * (self.fx, self.fy) + (self.cx, self.cy)
        return xy, y[:, 2]

    def unproject(self, xy: AnyArray, depth: AnyArray) -> AnyArray:
        """World points (n, 3) at pixels (n, 2) and depths (n,)."""
        rays = np.concatenate([(xy - (self.cx, self.cy)) / (self.fx, self.fy), np.ones((len(xy), 1))], axis=1)
        points: AnyArray = (rays * depth[:, None] - self.cam_from_world[:, 3]) @ self.cam_from_world[:, :3]
        return points


@dataclass(frozen=True, eq=False)
class StereoView:
    """What stereo reads of a photo."""

    camera: Pinhole
    grey: Array32
    """(height, width) from 0 to 1."""
    visible: Mask | None = None
    """(height, width); None: everything is."""


@dataclass(frozen=True, eq=False)
class DepthEstimate:
    """Depth of every pixel of a photo, as far as it is known."""

    camera: Pinhole
    inverse: Array32
    """(height, width) 1 / depth along the optical axis in units of the world; 0 where it is not known."""
    score: Array32
    """(height, width) agreement with other photos, from 0 to 1."""


@dataclass(frozen=True, eq=False)
class DensePoints:
    """Points on surfaces, in the world."""

    xyz: Array32
    """(n, 3)."""
    normal: Array32
    """(n, 3), of length one, towards the cameras that see the point."""
    rgb: NDArray[np.uint8]
    """(n, 3)."""
    footprint: Array32
    """(n,) what a pixel of the closest photo spans at the point."""
    start: Index
    """(n + 1,): point k is seen by the views start[k] to start[k + 1]."""
    seen_by: Index32
    """(m,) rows of the photos that see each point, ascending."""

    def __len__(self) -> int:
        return len(self.xyz)

    def only(self, rows: Index) -> DensePoints:
        """The points of these rows, in their order."""
        count = np.diff(self.start)[rows]
        start = np.concatenate([[0], np.cumsum(count)])
        members = np.repeat(self.start[:-1][rows] - start[:-1], count) + np.arange(start[-1])
        return DensePoints(
            self.xyz[rows],
            self.normal[rows],
            self.rgb[rows],
            self.footprint[rows],
            start.astype(np.int64),
            self.seen_by[members],
        )
