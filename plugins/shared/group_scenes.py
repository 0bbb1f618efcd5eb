"""Local scenes of all groups as arrays, and how far photos in them are to be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from unposed.optim.arrays import Array
from unposed.optim.groups.scenes import GroupScenes
from unposed.optim.pointmaps.pair_depths import LATTICE_SIDE
from unposed.pipeline.artifacts import LocalScene
from unposed.pipeline.config import Within
from unposed.pipeline.stage import PerGroup

from .point_maps import grid_lattice


@dataclass(frozen=True)
class OverlapTrust:
    """How far what a group says of a photo is trusted."""

    enough_overlap: Annotated[float, Within("(0, 1]")] = 0.2
    """Overlap with another photo of the group from which on a photo is trusted fully; below it in proportion."""
    min_overlap: Annotated[float, Within("[0, 1]")] = 0.02
    """Overlap below which a photo has nothing in common with the others of its group, which then says nothing of it."""


def group_scenes(local: PerGroup[LocalScene], size: Array, options: OverlapTrust) -> GroupScenes:
    """The memberships of groups of photos of these sizes (photos, 2)."""
    group, photo, poses, lattices, focals, trusts = [], [], [], [], [], []
    for number, (members, scene) in enumerate(local.items()):
        overlap = scene.overlap - np.eye(len(members))
        best = np.maximum(overlap.max(axis=0), overlap.max(axis=1))
        trust = np.where(best >= options.min_overlap, np.minimum(best / options.enough_overlap, 1.0), 0.0)
        for place in np.flatnonzero(trust > 0).tolist():
            group.append(number)
            photo.append(members[place])
            poses.append(scene.cam_from_local[place])
            lattices.append(grid_lattice(scene.grids[place], size[members[place]]))
            focals.append(scene.focals_px[place])
            trusts.append(trust[place])
    return GroupScenes(
        np.array(group, np.int64),
        np.array(photo, np.int64),
        np.array(poses, np.float64).reshape(-1, 3, 4),
        np.array(lattices, np.float64).reshape(len(lattices), LATTICE_SIDE**2),
        np.array(focals, np.float64),
        np.array(trusts, np.float64),
    )
