"""How far off photos are that are not in a model: ours, and pycolmap's absolute pose on the same correspondences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pycolmap
from truth import Truth, without_camera_rotation

import unposed
from unposed.optim.arrays import Array
from unposed.optim.evaluation import rotation_and_centre
from unposed.optim.rotations import nearest_rotation, rotation_angle_deg
from unposed.optim.similarity import fit_similarity, flatness

RIGHT_DEG, RIGHT_OFFSET = 5.0, 0.05
"""A pose is right within so many degrees, and so much of the extent of the set."""


class LeftOutJudge:
    """Errors of photos after the model of the others is aligned with the truth."""

    def __init__(self, truth: Truth, is_left: Array) -> None:
        self.truth, self.is_left = truth, is_left

    def errors(self, poses: Array) -> Array:
        """(photos, 2) degrees, and position over the extent; NaN where not registered."""
        truth = self.truth
        moved = without_camera_rotation(truth, poses)
        held = truth.known & ~self.is_left & np.isfinite(moved[:, 0, 0])
        out = np.full((len(poses), 2), np.nan)
        if held.sum() < 3:
            return out
        rotation, centre = rotation_and_centre(np.where(np.isfinite(moved), moved, np.eye(3, 4)))
        true_rotation, true_centre = rotation_and_centre(
            np.where(np.isfinite(truth.cam_from_world), truth.cam_from_world, np.eye(3, 4))
        )
        world = fit_similarity(centre[held], true_centre[held])
        turn = world.rotation
        if flatness(centre[held]) < 1e-3:
            turn = nearest_rotation((true_rotation[held].transpose(0, 2, 1) @ rotation[held]).sum(axis=0))
        extent = np.linalg.norm(np.ptp(true_centre[truth.known], axis=0))
        known = truth.known & np.isfinite(moved[:, 0, 0])
        out[known, 0] = rotation_angle_deg(rotation[known] @ turn.T @ true_rotation[known].transpose(0, 2, 1))
        out[known, 1] = np.linalg.norm(world(centre[known]) - true_centre[known], axis=1) / extent
        return out


def by_pycolmap(localizer: unposed.Localizer, found: unposed.Localization, model: int, *, free: bool) -> Array | None:
    """pycolmap's absolute pose on the correspondences that ours had with a model; as many inliers are asked for."""
    points = localizer.model_map.points
    own = localizer.model_map.point_model[found.matched_point] == model
    xy, seen = found.matched_xy[own], points[found.matched_point[own]]
    if len(xy) < 4:
        return None
    photo = found.photo
    guess = next(iter(localizer.cameras.of_photo(photo, model, None)))
    camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=photo.width, height=photo.height, params=[1, 0, 0, 0])
    camera.params = [guess.intrinsics[0], guess.intrinsics[2], guess.intrinsics[3], guess.intrinsics[4]]
    estimation, refinement = pycolmap.AbsolutePoseEstimationOptions(), pycolmap.AbsolutePoseRefinementOptions()
    estimation.ransac.random_seed = 0
    estimation.estimate_focal_length = refinement.refine_focal_length = refinement.refine_extra_params = free
    answer = pycolmap.estimate_and_refine_absolute_pose(xy, seen, camera, estimation, refinement)
    if answer is None or answer["num_inliers"] < localizer.options.pose.min_inliers:
        return None
    return np.asarray(answer["cam_from_world"].matrix())


def poses_by_name(made: unposed.Reconstruction, names: Sequence[str], model: int = 0) -> Array:
    """(photos, 3, 4) of a model, the largest one unless told; NaN where a photo is not in it."""
    out = np.full((len(names), 3, 4), np.nan)
    rows = {name: row for row, name in enumerate(names)}
    for name, pose in zip(made[model].photo_names, made[model].cam_from_world, strict=True):
        out[rows[name]] = pose
    return out


def right_photos(errors: Array) -> int:
    with np.errstate(invalid="ignore"):
        return int(((errors[:, 0] < RIGHT_DEG) & (errors[:, 1] < RIGHT_OFFSET)).sum())


def percent_off(errors: Array) -> float:
    return round(100 * float(np.nanmedian(errors[:, 1])), 3) if np.isfinite(errors[:, 1]).any() else np.nan


def medians(of: str, errors: Array) -> dict[str, float]:
    degrees, offset = np.nanmedian(errors, axis=0) if len(errors) else (np.nan, np.nan)
    return {f"deg{of}": round(float(degrees), 3), f"%{of}": round(100 * float(offset), 3)}
