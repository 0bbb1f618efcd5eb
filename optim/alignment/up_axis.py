"""What is up, from the photos themselves or from the largest plane of the points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array, Mask
from ..option_ranges import Count, Positive, Share

_ROUNDS = 10


@dataclass(frozen=True)
class UpAxisOptions:
    """How photos and points say what is up."""

    pitch_weight: Positive = 0.02
    """Weight of the mean up direction of the photos beside their horizontal axes: cameras are rolled by a degree or
    two, and tilted up and down by ten or twenty, but photos in one direction leave the tilt to that."""
    plane_samples: Count = 1000
    """Samples of three points that are tried."""
    plane_error: Positive = 0.01
    """Distance of points on the plane, over the median distance of points from the cameras."""
    min_plane_share: Share = 0.1
    """Share of the points on the plane below which there is none."""
    min_cameras_above: Share = 0.9
    """Share of the cameras on one side of it: walls of a room have that, too, but a floor has most points."""


@dataclass(frozen=True, eq=False)
class UpAxis:
    """An up direction in the world, and what supports it."""

    up: Array
    """(3,) unit vector."""
    spread_deg: float
    """Median angle between the horizontal axes of the photos and the horizontal plane."""


@dataclass(frozen=True, eq=False)
class GroundPlane:
    """A plane that many points lie on, with the cameras above it."""

    up: Array
    """(3,) unit normal."""
    origin: Array
    """(3,) the point of the plane below the mean of the cameras."""
    on_plane: Mask
    """(n,) points."""


def up_of_photos(cam_from_world: Array, options: UpAxisOptions | None = None) -> UpAxis:
    """Estimate the up direction from poses (n, 3, 4) of upright photos: cameras are rarely rolled, so that

        sum_i w_i (x_i . up)^2 - pitch_weight sum_i w_i (up_0 . up)^2

    is least, with x_i the horizontal axis of photo i and up_0 the mean of the directions that are up in the photos.
    Reweighted, so that a minority of rolled photos has no influence.
    """
    options = options or UpAxisOptions()
    x, y = cam_from_world[:, 0, :3], cam_from_world[:, 1, :3]
    weight = np.ones(len(x))
    up = -y.mean(axis=0)
    for _ in range(_ROUNDS):
        mean = -(weight[:, None] * y).sum(axis=0)
        mean /= max(float(np.linalg.norm(mean)), 1e-300)
        matrix = (x * weight[:, None]).T @ x - options.pitch_weight * weight.sum() * np.outer(mean, mean)
        up = np.linalg.eigh(matrix)[1][:, 0]
        up = up if up @ mean >= 0 else -up
        sine = np.abs(x @ up)
        scale = 3.0 * max(float(np.median(sine)), np.sin(np.radians(0.5)))
        weight = 1.0 / (1.0 + (sine / scale) ** 2) ** 2
    return UpAxis(np.asarray(up), float(np.degrees(np.arcsin(np.median(np.abs(x @ up))))))


def ground_plane(
    points: Array, centres: Array, options: UpAxisOptions | None = None, seed: int = 0
) -> GroundPlane | None:
    """Find the plane of most points that has the cameras (p, 3) on one side; None where no plane has enough."""
    options = options or UpAxisOptions()
    if len(points) < 10:
        return None
    middle = np.median(centres, axis=0)
    bound = options.plane_error * float(np.median(np.linalg.norm(points - middle, axis=1)))
    rng = np.random.default_rng(seed)
    best: Mask = np.zeros(len(points), bool)
    for _ in range(options.plane_samples):
        a, b, c = points[rng.choice(len(points), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        length = float(np.linalg.norm(normal))
        if length <= 1e-12 * bound**2:
            continue
        normal /= length
        on_plane = np.abs((points - a) @ normal) <= bound
        if on_plane.sum() > best.sum() and _one_side(centres, a, normal, options):
            best = on_plane
    if best.sum() < max(10.0, options.min_plane_share * len(points)):
        return None
    for _ in range(3):
        foot = points[best].mean(axis=0)
        normal = np.linalg.svd(points[best] - foot, full_matrices=False)[2][2]
        best = np.abs((points - foot) @ normal) <= bound
    normal = normal if np.median((centres - foot) @ normal) >= 0 else -normal
    mean = centres.mean(axis=0)
    return GroundPlane(normal, mean - (mean - foot) @ normal * normal, best)


def level_rotation(up: Array) -> Array:
    """(3, 3) rotation of least angle that turns a unit vector into z."""
    axis = np.cross(up, [0.0, 0.0, 1.0])
    sine, cosine = float(np.linalg.norm(axis)), float(up[2])
    if sine < 1e-12:
        return np.eye(3) if cosine > 0 else np.diag([1.0, -1.0, -1.0])
    k = np.array([[0.0, -axis[2], axis[1]], [axis[2], 0.0, -axis[0]], [-axis[1], axis[0], 0.0]])
    return np.asarray(np.eye(3) + k + k @ k * ((1.0 - cosine) / sine**2))


def _one_side(centres: Array, foot: Array, normal: Array, options: UpAxisOptions) -> bool:
    above = float(np.mean((centres - foot) @ normal > 0))
    return max(above, 1.0 - above) >= options.min_cameras_above
