"""Poses that an initial model has and a refined one lacks, carried over by the photos that both have."""

from __future__ import annotations

import numpy as np

from ..arrays import Array
from ..poses import camera_centres
from ..rotations import nearest_rotation


def carried_poses(before: Array, after: Array, neighbours: int) -> Array:
    """Poses `cam_from_world` (n, 3, 4) of the photos that have one before and none after, NaN for all others.

    Refinement bends a model and changes its scale, so each photo goes with its surroundings: by the similarity that
    takes the poses before of the nearest photos of both to those after. NaN where fewer than two photos have both.
    """
    in_before, in_after = np.isfinite(before[:, 0, 0]), np.isfinite(after[:, 0, 0])
    out = np.full_like(after, np.nan)
    both = np.flatnonzero(in_before & in_after)
    if len(both) < 2:
        return out
    centre_before, centre_after = camera_centres(before), camera_centres(after)
    for photo in np.flatnonzero(in_before & ~in_after).tolist():
        away = np.linalg.norm(centre_before[both] - centre_before[photo], axis=1)
        near = both[np.argsort(away, kind="stable")[:neighbours]]
        # A rotation of the world that turns all cameras alike: from the cameras themselves, since centres may be
        # on a line.
        turn = nearest_rotation(np.einsum("nji,njk->ik", after[near, :, :3], before[near, :, :3]))
        mean_before, mean_after = centre_before[near].mean(axis=0), centre_after[near].mean(axis=0)
        turned = (centre_before[near] - mean_before) @ turn.T
        spread = float((turned**2).sum())
        scale = float((turned * (centre_after[near] - mean_after)).sum()) / spread if spread > 0.0 else 0.0
        if not scale > 0.0:
            continue
        rotation = before[photo, :, :3] @ turn.T
        centre = mean_after + scale * turn @ (centre_before[photo] - mean_before)
        out[photo] = np.column_stack([rotation, -rotation @ centre])
    return out
