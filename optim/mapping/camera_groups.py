"""Which photos one camera took, where each was given a camera of its own: a lens that zooms, two cameras of one size.

A camera per photo takes the focal lengths of photos that one camera took for different ones, and lets poses drift with
them. Focal lengths that were found photo by photo lie together where the camera was the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..arrays import Array, Index, Mask
from ..bundle.intrinsics import Intrinsics
from ..cameras import FX
from ..option_ranges import Count, Share
from .drafts import Draft


@dataclass(frozen=True)
class CameraGroupOptions:
    """When photos that were given a camera each are found to share some."""

    max_groups: Count = 4
    """Cameras that are tried for photos of one size, two first; 1: none are."""
    min_photos: Count = 2
    """Photos that a camera must have taken in the mean."""
    min_cost_ratio: Share = 0.9
    """Cost with a camera per photo over that with a few, down to which a few are enough: more freedom always fits a
    little better. Over 0.97 where photos share a camera, about 0.5 where they do not."""


def with_camera_groups(
    single: Draft,
    intrinsics: Intrinsics,
    size_of_photo: Index,
    draft: Callable[[Intrinsics], Draft | None],
    options: CameraGroupOptions,
) -> Intrinsics | None:
    """As few cameras as fit about as well as one per photo does, with the focal lengths found; None without any.

    `single` is the model with a camera per photo and `intrinsics` are these; photos of equal `size_of_photo` (photos,)
    may share one.
    """
    posed = np.isfinite(single.bundle.cam_from_world[:, 0, 0])
    log_focal = np.log(single.bundle.intrinsics[single.bundle.camera_of_photo, FX])
    for camera_of_photo in _few_cameras(log_focal, size_of_photo, posed, options):
        few = intrinsics.grouped(camera_of_photo)
        middle = [np.median(log_focal[camera_of_photo == camera]) for camera in range(len(few.models))]
        found = draft(few.with_focals(np.exp(middle)))
        if found is not None and single.cost >= options.min_cost_ratio * found.cost:
            return few.with_focals(found.bundle.intrinsics[:, FX])
    return None


def _few_cameras(log_focal: Array, size: Index, posed: Mask, options: CameraGroupOptions) -> Iterator[Index]:
    """(photos,) cameras, fewer ones first; photos that are not posed, or of few of their size, keep their own."""
    for groups in range(2, options.max_groups + 1):
        label, changed = np.arange(len(posed)), False
        for each in np.unique(size[posed]):
            own = np.flatnonzero(posed & (size == each))
            if len(own) >= groups * options.min_photos:
                part = nearest_groups(log_focal[own], groups)
                label[own] = own[np.unique(part, return_index=True)[1]][part]
                changed = True
        if not changed:
            return
        yield np.unique(label, return_inverse=True)[1]


def nearest_groups(values: Array, groups: int) -> Index:
    """(n,) groups of numbers, 0 that of the least, so that the sum of distances from the medians of groups is least."""
    order = np.argsort(values, kind="stable")
    x, n = values[order], len(values)
    total = np.append(0.0, np.cumsum(x))
    least, cuts = np.full(n + 1, np.inf), list[Index]()
    least[0] = 0.0
    for _ in range(groups):
        best, cut = np.full(n + 1, np.inf), np.zeros(n + 1, np.int64)
        for end in range(1, n + 1):
            begin = np.arange(end)
            middle = (begin + end) // 2
            below = x[middle] * (middle - begin) - (total[middle] - total[begin])
            above = total[end] - total[middle] - x[middle] * (end - middle)
            cost = least[:end] + below + above
            cut[end] = int(np.argmin(cost))
            best[end] = cost[cut[end]]
        least = best
        cuts.append(cut)
    out, end = np.zeros(n, np.int64), n
    for group in reversed(range(groups)):
        first = int(cuts[group][end])
        out[order[first:end]] = group
        end = first
    return out
