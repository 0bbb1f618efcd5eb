"""Given poses, or positions in EXIF, as priors of the poses of a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unposed.optim.arrays import Array, Mask
from unposed.optim.bundle.pose_priors import PosePriors, align_to_pose_priors, no_pose_priors
from unposed.optim.bundle.problem import Bundle
from unposed.optim.evaluation import rotation_and_centre
from unposed.pipeline.artifacts import CameraPriors, Photos

from .positions import positions_m


def pose_priors_of(
    cameras: CameraPriors,
    photos: Photos,
    gps_sigma_m: float | None,
    height_sigma_ratio: float,
    given_sigma: tuple[float, float] | None = None,
) -> PosePriors | None:
    """Given poses as constants or, where they have standard deviations, as priors; or else GPS positions as priors.

    given_sigma: of given poses that have no other, degrees and units of the world.
    """
    nothing = no_pose_priors(len(photos))
    if cameras.cam_from_world is not None:
        poses = np.asarray(cameras.cam_from_world, np.float64)
        known = np.asarray(np.isfinite(poses).all(axis=(1, 2)))
        sigma = given_pose_sigma(cameras, given_sigma)
        rough = known & is_rough(sigma)
        rotation, centre = rotation_and_centre(np.where(rough[:, None, None], poses, np.eye(3, 4)))
        return replace(
            nothing,
            fixed=known & ~rough,
            centre=centre,
            centre_sigma=np.where(rough, sigma[:, 1], np.inf)[:, None] * np.ones(3),
            rotation=rotation,
            rotation_sigma_rad=np.where(rough, np.radians(sigma[:, 0]), np.inf),
        )
    if gps_sigma_m is None:
        return None
    positions, height_known = positions_m(photos)
    sigma = np.where(np.isfinite(positions), gps_sigma_m * np.array([1.0, 1.0, height_sigma_ratio]), np.inf)
    sigma[~height_known, 2] *= height_sigma_ratio
    return replace(nothing, centre=positions, centre_sigma=sigma)


def given_pose_sigma(cameras: CameraPriors, otherwise: tuple[float, float] | None) -> Array:
    """(photos, 2) standard deviations of given poses, degrees and units of the world; 0 for exact ones."""
    photos = len(cameras.camera_of_photo)
    sigma = np.zeros((photos, 2)) if cameras.pose_sigma is None else np.asarray(cameras.pose_sigma, np.float64)
    return sigma if otherwise is None else np.where(is_rough(sigma)[:, None], sigma, otherwise)


def is_rough(sigma: Array) -> Mask:
    """(photos,) which given poses may move, by their standard deviations (photos, 2)."""
    return np.asarray((sigma > 0.0).any(axis=1))


def anchored(
    start: Bundle, cameras: CameraPriors, anchors: PosePriors | None
) -> tuple[Bundle, PosePriors | None, tuple[str, ...]]:
    """The start in the frame of the anchors; without anchors, and with a warning, where these determine no frame."""
    if anchors is None:
        return start, None, ()
    given = start.cam_from_world if cameras.cam_from_world is None else cameras.cam_from_world
    there = align_to_pose_priors(start, anchors, np.asarray(given, np.float64))
    if there is not None:
        return there, anchors, ()
    what = "poses" if cameras.cam_from_world is not None else "positions"
    warning = f"a model has too few known {what}, or inconsistent ones, and stays in a frame of its own"
    return start, None, (warning,)
