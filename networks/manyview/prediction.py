"""What a network says of a group of views: depth, confidence and cameras in one frame and at one scale."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class GroupPrediction(NamedTuple):
    """Predictions of b groups of s images of one size, in the order of the images."""

    depth: Tensor
    """(b, s, height, width) along the optical axis, in the unit of the poses."""
    confidence: Tensor
    """(b, s, height, width), larger is more confident; only the order within one group matters."""
    cam_from_world: Tensor
    """(b, s, 3, 4); the world is any frame."""
    focal_px: Tensor
    """(b, s, 2) along x and y, in pixels of the image. The principal point is the middle of the image unless
    `principal_px` is given."""
    principal_px: Tensor | None = None
    """(b, s, 2) from the corner of the image; None: its middle."""


def one_group(seen: GroupPrediction, group: int) -> GroupPrediction:
    """The prediction of one of the groups, with the axis of groups."""
    rows = slice(group, group + 1)
    principal = None if seen.principal_px is None else seen.principal_px[rows]
    return GroupPrediction(
        seen.depth[rows], seen.confidence[rows], seen.cam_from_world[rows], seen.focal_px[rows], principal
    )
