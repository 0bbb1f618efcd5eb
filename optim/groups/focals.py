"""Focal lengths of cameras out of those that networks predict for the photos of groups."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Mask
from ..bundle.intrinsics import Intrinsics
from ..cameras import FX
from .scenes import GroupScenes


def focals_of_groups(scenes: GroupScenes, intrinsics: Intrinsics, known: Mask) -> Intrinsics:
    """Intrinsics with the median focal length of all predictions for the photos of each camera, on a logarithmic scale,
    where some are far off. Cameras with a `known` (cameras,) focal length, and those without a prediction, keep theirs.
    """
    focal: Array = intrinsics.values[:, FX].copy()
    camera = intrinsics.camera_of_photo[scenes.photo]
    usable = np.isfinite(scenes.focal_px) & (scenes.focal_px > 0) & (scenes.trust > 0)
    for number in np.unique(camera[usable]):
        if not known[number]:
            focal[number] = np.exp(np.median(np.log(scenes.focal_px[usable & (camera == number)])))
    return intrinsics.with_focals(focal)
