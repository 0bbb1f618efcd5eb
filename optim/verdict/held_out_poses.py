"""Poses tested by points that they had no part in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..arrays import Array, Index, Mask
from ..bundle.problem import Bundle
from ..cameras import FX, FY, fisheyes, project, unproject
from ..localization.pose_refinement import refine_absolute_pose, reprojection_errors_px
from ..option_ranges import Count, Positive, Within
from ..poses import camera_centres
from ..rotations import rotation_angle_deg
from .blame import blamed


@dataclass(frozen=True)
class HeldOutPoseOptions:
    """Which points test the pose of a photo, and when it fails. Pixels are those of the images that are trained on."""

    min_points: Count = 12
    """Points that test a photo at least. Half of them must determine a pose."""
    max_others_px: Positive = 2.0
    """Error of the other photos of a point up to which it tests: these must agree among themselves."""
    max_spread_px: Positive = 3.0
    """Standard deviation, in the photo, of a point that the other photos know to a pixel: rays that are nearly parallel
    do not say where it should be seen."""
    max_error_px: Positive = 2.0
    """Median error from which on a pose may fail. Half a degree is 5 to 13 pixels; poses that nobody has touched were
    below this on 11 of 13 sets of photos, and at 2.4 at most."""
    moved_ratio: Annotated[float, Within("(0, 1]")] = 0.5
    """It fails where the pose that half of the points ask for has less than this part of the error, by the other half:
    nothing then speaks for the old one. Points that are inexact have as large an error either way."""
    hopeless_px: Positive = 6.0
    """Median error at which a pose fails even if no other is better."""


@dataclass(frozen=True)
class PoseTest:
    """How well points that only other photos have placed fit a photo; not a number where too few do."""

    points: int
    """Points that tested it."""
    error_px: float
    """Median distance from where the pose says that they are."""
    moved_px: float
    """The same with the pose that half of the points ask for, tested by the other half."""
    turn_deg: float
    """Angle between the two poses."""
    fails: bool = False

    @property
    def tested(self) -> bool:
        """Whether there were enough points."""
        return bool(np.isfinite(self.error_px))


def held_out_poses(
    bundle: Bundle, image_scale: Array, options: HeldOutPoseOptions = HeldOutPoseOptions()
) -> list[PoseTest]:
    """Test the pose of every photo by points that the other photos place without it. Errors are in pixels of smaller
    images, `image_scale` (cameras,) of them per pixel of the photo.

    A point is placed by the rays of the other photos. A ray at distance r in a camera of focal length f weighs
    (f / r)^2, so that with its direction d and centre c the point is (sum A)^-1 sum A c, A = (f / r)^2 (I - d d^T), and
    the inverse its covariance. Half of the points give the photo a new pose, the other half tests it, and the other way
    round.

    Points that a wrong photo helps to place are wrong in others, too; see `blamed`.
    """
    everyone = np.ones(len(bundle.cam_from_world), bool)
    tests = _RayTest(bundle, image_scale)

    def again(photo: int, wrong: set[int]) -> PoseTest:
        used = everyone.copy()
        used[list(wrong)] = False
        return tests.test(photo, used, options)

    found = [tests.test(photo, everyone, options) for photo in range(len(everyone))]
    return blamed(found, again, lambda each: each.points * float(np.log(each.error_px / max(each.moved_px, 1e-3))))


class _RayTest:
    """The rays of all observations, by point and by photo."""

    def __init__(self, bundle: Bundle, image_scale: Array) -> None:
        self.bundle, self.image_scale = bundle, image_scale
        camera = bundle.camera_of_photo[bundle.photo]
        self.fisheye = fisheyes(bundle.models)
        plane = unproject(bundle.xy, bundle.intrinsics[camera], self.fisheye[camera])
        ray = np.concatenate([plane, np.ones((len(plane), 1))], axis=1)
        ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        direction = np.einsum("mji,mj->mi", bundle.cam_from_world[bundle.photo, :, :3], ray)
        self.centres = camera_centres(bundle.cam_from_world)
        focal = np.sqrt(bundle.intrinsics[:, FX] * bundle.intrinsics[:, FY]) * image_scale
        self.focal = focal[camera]
        apart = np.linalg.norm(bundle.points[bundle.point] - self.centres[bundle.photo], axis=1)
        across = np.eye(3) - direction[:, :, None] * direction[:, None, :]
        self.matrix = (self.focal / np.maximum(apart, 1e-300))[:, None, None] ** 2 * across
        self.vector = np.einsum("mij,mj->mi", self.matrix, self.centres[bundle.photo])
        self.by_point = np.argsort(bundle.point, kind="stable")
        self.start = np.searchsorted(bundle.point[self.by_point], np.arange(len(bundle.points) + 1))
        self.by_photo = np.argsort(bundle.photo, kind="stable")
        self.photo_start = np.searchsorted(bundle.photo[self.by_photo], np.arange(len(bundle.cam_from_world) + 1))

    def test(self, photo: int, used: Mask, options: HeldOutPoseOptions) -> PoseTest:
        """Test a photo by the points of the others that are used."""
        bundle = self.bundle
        own = self.by_photo[self.photo_start[photo] : self.photo_start[photo + 1]]
        kept, points = self._placed(own, photo, used, options)
        if len(kept) < options.min_points:
            return PoseTest(len(kept), float("nan"), float("nan"), float("nan"))
        camera = int(bundle.camera_of_photo[photo])
        model, intrinsics, scale = bundle.models[camera], bundle.intrinsics[camera], float(self.image_scale[camera])
        pose, xy = bundle.cam_from_world[photo], bundle.xy[kept]
        error = reprojection_errors_px(xy, points, pose, model, intrinsics) * scale
        moved, turned = [], []
        half = np.arange(len(kept)) % 2 == 0
        for giving in (half, ~half):
            loss_px = options.max_error_px / scale
            new = refine_absolute_pose(
                xy[giving], points[giving], pose, model, intrinsics, None, loss_px=loss_px
            ).cam_from_world
            moved.append(reprojection_errors_px(xy[~giving], points[~giving], new, model, intrinsics) * scale)
            turned.append(rotation_angle_deg((new[:, :3] @ pose[:, :3].T)[None])[0])
        error_px, moved_px = float(np.median(error)), float(np.median(np.concatenate(moved)))
        off = error_px > options.max_error_px and moved_px < options.moved_ratio * error_px
        return PoseTest(len(kept), error_px, moved_px, float(np.mean(turned)), off or error_px > options.hopeless_px)

    def _placed(self, own: Index, photo: int, used: Mask, options: HeldOutPoseOptions) -> tuple[Index, Array]:
        """Those of a photo's observations whose points the others place well, and where they do (n, 3)."""
        bundle = self.bundle
        count = self.start[bundle.point[own] + 1] - self.start[bundle.point[own]]
        row = np.repeat(np.arange(len(own)), count)
        first = np.repeat(self.start[bundle.point[own]] - np.cumsum(count) + count, count)
        other = self.by_point[first + np.arange(len(row))]
        keep = used[bundle.photo[other]] & (bundle.photo[other] != photo)
        row, other = row[keep], other[keep]
        matrix, vector = np.zeros((len(own), 3, 3)), np.zeros((len(own), 3))
        np.add.at(matrix, row, self.matrix[other])
        np.add.at(vector, row, self.vector[other])
        spread = np.linalg.eigvalsh(matrix)
        firm = (np.bincount(row, minlength=len(own)) >= 2) & (spread[:, 0] > 1e-9 * spread[:, 2])
        matrix[~firm] = np.eye(3)
        points = np.linalg.solve(matrix, vector[..., None])[..., 0]
        worst = np.zeros(len(own))
        np.maximum.at(worst, row, self._errors_px(points[row], other))
        turn = bundle.cam_from_world[photo, :, :3]
        in_camera = points @ turn.T + bundle.cam_from_world[photo, :, 3]
        covariance = turn @ np.linalg.inv(matrix) @ turn.T
        depth = np.maximum(in_camera[:, 2], 1e-300)
        sigma_px = np.sqrt(np.maximum(covariance[:, 0, 0] + covariance[:, 1, 1], 0.0)) * self.focal[own] / depth
        firm &= (worst <= options.max_others_px) & (in_camera[:, 2] > 0) & (sigma_px <= options.max_spread_px)
        return own[firm], np.asarray(points[firm], np.float64)

    def _errors_px(self, points: Array, observation: Index) -> Array:
        """(m,) errors of points in the photos of observations; infinite behind them."""
        bundle = self.bundle
        photo = bundle.photo[observation]
        camera, pose = bundle.camera_of_photo[photo], bundle.cam_from_world[photo]
        y = np.einsum("mij,mj->mi", pose[:, :, :3], points) + pose[:, :, 3]
        ahead = y[:, 2] > 0
        pixels = project(np.where(ahead[:, None], y, 1.0), bundle.intrinsics[camera], self.fisheye[camera])
        apart = np.linalg.norm(pixels - bundle.xy[observation], axis=1) * self.image_scale[camera]
        return np.where(ahead, apart, np.inf)
