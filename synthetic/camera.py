"""Ground-truth cameras: lenses with OpenCV distortion, poses, projection and viewing rays.

Pixels are COLMAP's: the centre of the top-left pixel is (0.5, 0.5). Cameras look along +z with y down; the z axis of
the world points up. The projection is deliberately independent of optim/cameras.py, with names of its own: an error
there must not cancel out here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Doubles = NDArray[np.float64]
Projection = Literal["perspective", "equidistant", "equirectangular"]


@dataclass(frozen=True)
class Lens:
    """Camera body and lens; photos that share one share their intrinsics."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    dist: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """OpenCV's k1, k2, p1, p2."""
    make: str = ""
    """Maker's name; an empty one writes no EXIF."""
    model: str = ""
    sensor_mm: float = 36.0
    """Long side of the sensor in millimetres, which converts the focal length to that of EXIF."""
    projection: Projection = "perspective"
    """`equidistant` is a fisheye, r = f theta; `equirectangular` a panorama of all directions, whose longitude and
    latitude grow by 1 / fx a pixel. Neither has distortion."""

    @property
    def K(self) -> Doubles:
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, eq=False)
class Shot:
    """One photo to render: name, lens, pose and exposure."""

    name: str
    lens: Lens
    cam_from_world: Doubles
    """(3, 4) float64."""
    exposure: float = 1.0
    """Factor of the light on the sensor."""
    noise: float = 0.5
    """Standard deviation of the sensor noise in 8-bit levels."""
    stored_sideways: bool = False
    """Store the pixels rotated by 90 degrees with an EXIF orientation, as cameras held upright do."""

    @property
    def centre(self) -> Doubles:
        """Position of the camera in the world."""
        centre: Doubles = -self.cam_from_world[:, :3].T @ self.cam_from_world[:, 3]
        return centre


def simple_lens(width: int, height: int, field_of_view_deg: float, **more: str | float) -> Lens:
    """A lens without distortion and with a central principal point, whose long side spans the given angle."""
    focal = max(width, height) / 2 / np.tan(np.radians(field_of_view_deg) / 2)
    return Lens(width, height, focal, focal, width / 2, height / 2, **more)  # type: ignore[arg-type]


def panorama_lens(width: int) -> Lens:
    """An equirectangular panorama."""
    focal = width / (2.0 * np.pi)
    return Lens(width, width // 2, focal, focal, width / 2, width / 4, projection="equirectangular")


def fisheye_lens(width: int, height: int, field_of_view_deg: float) -> Lens:
    """An equidistant fisheye whose long side spans the given angle."""
    focal = max(width, height) / np.radians(field_of_view_deg)
    return Lens(width, height, focal, focal, width / 2, height / 2, projection="equidistant")


def look_at(eye: ArrayLike, target: ArrayLike, roll_deg: float = 0.0) -> Doubles:
    """Pose cam_from_world (3, 4) of an upright camera at `eye` that looks at `target`, then rolled clockwise."""
    eye, target = np.asarray(eye, float), np.asarray(target, float)
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    rotation = np.stack([c * right + s * down, c * down - s * right, forward])
    return np.column_stack([rotation, -rotation @ eye])


def distort_opencv(xy: Doubles, dist: tuple[float, float, float, float]) -> Doubles:
    """Distort points (2, n) of the plane z = 1 by OpenCV's model."""
    k1, k2, p1, p2 = dist
    x, y = xy
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * k2)
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ]
    )


def undistort_opencv(xy: Doubles, dist: tuple[float, float, float, float], steps: int = 6) -> Doubles:
    """Invert `distort_opencv` by six steps of Newton's method, which reach rounding for usable lenses."""
    k1, k2, p1, p2 = dist
    ideal = xy.copy()
    if not any(dist):
        return ideal
    for _ in range(steps):
        x, y = ideal
        r2 = x * x + y * y
        radial, slope = 1 + r2 * (k1 + r2 * k2), 2 * (k1 + 2 * r2 * k2)
        xx = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x
        xy_ = slope * x * y + 2 * p1 * x + 2 * p2 * y
        yy = radial + slope * y * y + 6 * p1 * y + 2 * p2 * x
        ex, ey = distort_opencv(ideal, dist) - xy
        ideal -= np.stack([yy * ex - xy_ * ey, xx * ey - xy_ * ex]) / (xx * yy - xy_ * xy_)
    return ideal


def project_points(shot: Shot, points: ArrayLike) -> tuple[Doubles, Doubles]:
    """Project world points (n, 3) to pixels (n, 2) and depths (n,), which are <= 0 behind the camera; distances instead
    of depths where the lens is no perspective one."""
    cam = np.asarray(points, float) @ shot.cam_from_world[:, :3].T + shot.cam_from_world[:, 3]
    depth = cam[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        xy = distort_opencv((cam[:, :2] / depth[:, None]).T, shot.lens.dist)
    lens = shot.lens
    if lens.projection == "equirectangular":
        xy = np.stack([np.arctan2(cam[:, 0], depth), np.arctan2(cam[:, 1], np.hypot(cam[:, 0], depth))])
    elif lens.projection == "equidistant":
        off = np.hypot(cam[:, 0], cam[:, 1])
        xy = np.arctan2(off, depth) / np.maximum(off, 1e-300) * cam[:, :2].T
    if lens.projection != "perspective":
        depth = np.linalg.norm(cam, axis=1)
    return np.column_stack([lens.fx * xy[0] + lens.cx, lens.fy * xy[1] + lens.cy]), depth


def viewing_rays(shot: Shot, xy_px: ArrayLike) -> Doubles:
    """World directions (3, n) through pixels (n, 2): of a perspective lens scaled so that the ray parameter of a point
    is its depth, of others of unit length."""
    lens = shot.lens
    u, v = np.asarray(xy_px, float).T
    x, y = (u - lens.cx) / lens.fx, (v - lens.cy) / lens.fy
    if lens.projection == "equirectangular":
        rays = np.stack([np.cos(y) * np.sin(x), np.sin(y), np.cos(y) * np.cos(x)])
    elif lens.projection == "equidistant":
        angle = np.hypot(x, y)
        rays = np.stack([np.sinc(angle / np.pi) * x, np.sinc(angle / np.pi) * y, np.cos(angle)])
    else:
        rays = np.vstack([undistort_opencv(np.stack([x, y]), lens.dist), np.ones_like(x)])
    directions: Doubles = shot.cam_from_world[:, :3].T @ rays
    return directions
