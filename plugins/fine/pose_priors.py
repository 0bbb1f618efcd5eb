"""Given poses, or positions in EXIF, as priors of the poses of a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unposed.optim.bundle.pose_priors import PosePriors, align_to_pose_priors, no_pose_priors
from unposed.optim.bundle.problem import Bundle
from unposed.pipeline.artifacts import CameraPriors, Photos

from .positions import positions_m


def pose_priors_of(
    cameras: CameraPriors, photos: Photos, gps_sigma_m: float | None, height_sigma_ratio: float
) -> PosePriors | None:
    """Given poses as constants, or else GPS positions as priors."""
    nothing = no_pose_priors(len(photos))
    if cameras.cam_from_world is not None:
        return replace(nothing, fixed=np.asarray(np.isfinite(cameras.cam_from_world).all(axis=(1, 2))))
    if gps_sigma_m is None:
        return None
    positions, height_known = positions_m(photos)
    sigma = np.where(np.isfinite(positions), gps_sigma_m * np.array([1.0, 1.0, height_sigma_ratio]), np.inf)
    sigma[~height_known, 2] *= height_sigma_ratio
    return replace(nothing, centre=positions, centre_sigma=sigma)


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
