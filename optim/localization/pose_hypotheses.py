"""Absolute poses of one photo from 2D-3D correspondences, most of which may be wrong.

RANSAC finds the pose with most inliers; what it does not explain is searched once more, since a photo of a place that
exists twice has inliers in both. Whether inliers are significant is an a-contrario test as of two-view geometries: a
random pixel lies within the error bound r of the projection of a random point with probability p = pi r^2 / area.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log, pi
from typing import Annotated

import numpy as np

from ..arrays import Array, Mask
from ..bundle.problem import IntrinsicsPrior
from ..cameras import FX, FY, params_of
from ..option_ranges import Angle, Count, Positive, Share, Within
from ..pair.two_view_geometry import log_false_alarms
from ..rotations import rotation_angle_deg
from .pose_refinement import RefinedPose, refine_absolute_pose, reprojection_errors_px


@dataclass(frozen=True)
class PoseHypothesisOptions:
    """When points determine the pose of a photo; lengths in units of the expected key point error."""

    max_error: Positive = 4.0
    """Correspondences with larger reprojection errors are no inliers."""
    loss_scale: Positive = 0.8
    """Scale of the loss in the refinement, as in bundle adjustment."""
    min_inliers: Annotated[int, Within("[4, inf)")] = 12
    """A photo with fewer inliers is not localized: of photos of other places up to ten agree by chance and by
    repeated texture."""
    min_inlier_ratio: Share = 0.05
    """Likewise, with a smaller share of its matched key points among the inliers."""
    false_alarms: Annotated[float, Within("(0, 1]")] = 1e-6
    """Expected number of equally good poses among random correspondences, at most."""
    max_iterations: Count = 4000
    """Samples of RANSAC."""
    min_second_share: Share = 0.5
    """A second pose is a hypothesis from this share of the inliers of the first one on. Wrong matches of one place
    give a tenth of them at most."""
    min_second_turn_deg: Angle = 5.0
    """Two poses are different if one is turned by more against the other,"""
    min_second_offset: Positive = 0.1
    """or is further from it, in units of the median distance of its points."""


@dataclass(frozen=True, eq=False)
class PhotoCamera:
    """What is known of the camera of a photo that is localized."""

    model: str
    """By COLMAP's name."""
    intrinsics: Array
    """(8,) as in optim.cameras."""
    size: tuple[int, int]
    """Width and height in pixels."""
    prior: IntrinsicsPrior | None
    """None: the intrinsics are known and stay."""
    focal_known: bool
    """Whether the focal length is near enough for a minimal solver without one."""


@dataclass(frozen=True, eq=False)
class PoseHypothesis:
    """A pose that many correspondences agree with."""

    refined: RefinedPose
    inliers: Mask
    """(m,) over the correspondences."""
    error_px: float
    """RMS reprojection error of the inliers."""


@dataclass(frozen=True, eq=False)
class PoseSearch:
    """The hypotheses of a photo, that of most inliers first, and the inliers of the best pose whether accepted or
    not."""

    hypotheses: tuple[PoseHypothesis, ...]
    most_inliers: int


def search_poses(
    xy: Array,
    points: Array,
    camera: PhotoCamera,
    *,
    keypoint_error_px: float,
    point_covariance: Array | None = None,
    options: PoseHypothesisOptions | None = None,
    seed: int = 0,
) -> PoseSearch:
    """Estimate the absolute poses that correspondences of pixels (m, 2) and points (m, 3) support: none, one or two.

    `point_covariance` (m, 3, 3) is in square noise of key points; None: the points are exact. A key point may
    correspond to several points.
    """
    options = options or PoseHypothesisOptions()
    left: Mask = np.ones(len(xy), bool)
    found: list[PoseHypothesis] = []
    most = 0
    while len(found) < 2:
        pose = _one_pose(xy, points, left, camera, keypoint_error_px, point_covariance, options, seed)
        if pose is None:
            break
        most = max(most, int(pose.inliers.sum()))
        if not _is_significant(xy, left, pose.inliers, camera, options, keypoint_error_px):
            break
        if found and pose.inliers.sum() < options.min_second_share * found[0].inliers.sum():
            break
        if found and not _differ(found[0], pose, points, options):
            break
        found.append(pose)
        error = _errors(xy, points, pose.refined, camera.model)
        left = left & (error > 3.0 * options.max_error * keypoint_error_px)
        if left.sum() < options.min_second_share * found[0].inliers.sum():
            break  # too few for a second one, however many of them agree
    return PoseSearch(tuple(sorted(found, key=lambda each: -int(each.inliers.sum()))), most)


def _one_pose(
    xy: Array,
    points: Array,
    among: Mask,
    camera: PhotoCamera,
    keypoint_error_px: float,
    point_covariance: Array | None,
    options: PoseHypothesisOptions,
    seed: int,
) -> PoseHypothesis | None:
    """The pose with most inliers among some of the correspondences, refined on them."""
    rows = np.flatnonzero(among)
    if len(rows) < options.min_inliers:
        return None
    max_error_px = options.max_error * keypoint_error_px
    start = (_calibrated_pose if camera.focal_known else _uncalibrated_pose)(
        xy[rows], points[rows], camera, max_error_px, options.max_iterations, seed
    )
    if start is None:
        return None
    pose, intrinsics = start
    inliers: Mask = among & (reprojection_errors_px(xy, points, pose, camera.model, intrinsics) < max_error_px)
    prior = camera.prior
    refined = None
    for _ in range(2):  # the second time on the inliers of the refined pose
        if inliers.sum() < 4:
            return None
        refined = refine_absolute_pose(
            xy[inliers],
            points[inliers],
            pose,
            camera.model,
            intrinsics,
            prior,
            loss_px=options.loss_scale * keypoint_error_px,
            point_covariance=None if point_covariance is None else point_covariance[inliers],
        )
        pose, intrinsics = refined.cam_from_world, refined.intrinsics
        error = reprojection_errors_px(xy, points, pose, camera.model, intrinsics)
        inliers = among & (error < max_error_px)
    if refined is None or not inliers.any():
        return None
    return PoseHypothesis(refined, inliers, float(np.sqrt(np.mean(error[inliers] ** 2))))


def _calibrated_pose(
    xy: Array, points: Array, camera: PhotoCamera, max_error_px: float, iterations: int, seed: int
) -> tuple[Array, Array] | None:
    import poselib

    pose, info = poselib.estimate_absolute_pose(
        xy,
        points,
        {
            "model": camera.model,
            "width": camera.size[0],
            "height": camera.size[1],
            "params": list(params_of(camera.model, camera.intrinsics)),
        },
        {"max_reproj_error": max_error_px, "seed": seed, "max_iterations": iterations},
        {},
    )
    if not np.any(info["inliers"]):
        return None
    return np.concatenate([pose.R, np.asarray(pose.t)[:, None]], axis=1), camera.intrinsics


def _uncalibrated_pose(
    xy: Array, points: Array, camera: PhotoCamera, max_error_px: float, iterations: int, seed: int
) -> tuple[Array, Array] | None:
    """The same with a focal length from four points, without distortion: the refinement finds that."""
    import pycolmap

    centre = [float(camera.intrinsics[2]), float(camera.intrinsics[3])]
    pinhole = pycolmap.Camera(
        model="SIMPLE_PINHOLE",
        width=camera.size[0],
        height=camera.size[1],
        params=[float(camera.intrinsics[FX]), *centre],
    )
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.estimate_focal_length = True
    options.ransac.max_error, options.ransac.random_seed = max_error_px, seed
    options.ransac.max_num_trials = iterations
    found = pycolmap.estimate_absolute_pose(xy, points, pinhole, options)
    if found is None:
        return None
    intrinsics = camera.intrinsics.copy()
    intrinsics[[FX, FY]] = pinhole.params[0]
    return found["cam_from_world"].matrix(), intrinsics


def without_focal_prior(camera: PhotoCamera) -> PhotoCamera:
    """The same camera with an unknown focal length."""
    if camera.prior is None:
        return replace(camera, focal_known=False)
    sigma = camera.prior.sigma.copy()
    sigma[:, [FX, FY]] = np.inf
    return replace(camera, prior=replace(camera.prior, sigma=sigma), focal_known=False)


def _errors(xy: Array, points: Array, refined: RefinedPose, model: str) -> Array:
    return reprojection_errors_px(xy, points, refined.cam_from_world, model, refined.intrinsics)


def _is_significant(
    xy: Array,
    among: Mask,
    inliers: Mask,
    camera: PhotoCamera,
    options: PoseHypothesisOptions,
    keypoint_error_px: float,
) -> bool:
    """Whether the inliers are more than chance gives, counted by key points: one with several points is one."""
    count = len(np.unique(xy[inliers], axis=0))
    total = len(np.unique(xy[among], axis=0))
    if count < max(options.min_inliers, options.min_inlier_ratio * total):
        return False
    points_per_key_point = among.sum() / total
    area = float(camera.size[0] * camera.size[1])
    chance = min(1.0, points_per_key_point * pi * (options.max_error * keypoint_error_px) ** 2 / area)
    sample = 3 if camera.focal_known else 4
    return log_false_alarms(total, count, sample, chance) <= log(options.false_alarms)


def _differ(first: PoseHypothesis, second: PoseHypothesis, points: Array, options: PoseHypothesisOptions) -> bool:
    a, b = first.refined.cam_from_world, second.refined.cam_from_world
    if rotation_angle_deg(a[:, :3] @ b[:, :3].T) > options.min_second_turn_deg:
        return True
    centre_a, centre_b = (-pose[:, :3].T @ pose[:, 3] for pose in (a, b))
    distance = float(np.median(np.linalg.norm(points[first.inliers] - centre_a, axis=1)))
    return bool(np.linalg.norm(centre_a - centre_b) > options.min_second_offset * distance)
