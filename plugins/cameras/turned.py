"""Which groups of photos were taken by one camera that was turned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from unposed.optim.quarter_turns import CameraTurns
from unposed.pipeline.artifacts import Photo

QUARTERS_OF_ORIENTATION = {1: 0, 8: 1, 3: 2, 6: 3}
"""Quarters, counter-clockwise, that bring a photo upright, by its orientation in EXIF, unless it is mirrored."""


def camera_turns(groups: Sequence[tuple[Hashable | None, Sequence[Photo]]]) -> CameraTurns | None:
    """Turns of the cameras of groups of photos, each with what tells its camera from others, or None where that is
    given; None if no camera was turned. The photos of a group have one size and one orientation.

    Photos whose orientation is in EXIF are known to be turned to the left or to the right. Of others, which were turned
    by some program, portrait and landscape only tell that it was either.
    """
    bodies: dict[Hashable, list[int]] = defaultdict(list)
    for group, (body, photos) in enumerate(groups):
        if body is not None and photos[0].orientation in QUARTERS_OF_ORIENTATION and photos[0].view is None:
            bodies[body, frozenset((photos[0].width, photos[0].height))].append(group)
    camera, quarters = np.arange(len(groups)), np.zeros(len(groups), np.int64)
    uncertain = np.zeros(len(groups), np.bool_)
    for same in bodies.values():
        first = max(same, key=lambda group: len(groups[group][1]))
        upright, shape = _upright_and_shape(groups[first][1][0])
        for group in same:
            own_upright, own_shape = _upright_and_shape(groups[group][1][0])
            camera[group], uncertain[group] = first, own_shape != shape
            quarters[group] = (upright - own_upright + uncertain[group]) % 4
    return CameraTurns(camera, quarters, uncertain) if quarters.any() else None


def _upright_and_shape(photo: Photo) -> tuple[int, tuple[int, int]]:
    """Quarters that bring a photo upright, and its width and height as it is stored."""
    quarters = QUARTERS_OF_ORIENTATION[photo.orientation]
    return quarters, (photo.height, photo.width) if quarters % 2 else (photo.width, photo.height)
