"""Key points that stand still: what is around them looks the same at the same pixels of many photos.

Before a camera on a tripod an object turns and the background does not; a watermark, a bonnet or a lens hood is in
every photo of a camera that moves. Matches between such points obey the geometry of a camera that stands still, which
contradicts that of the scene, and often outnumber it. Of what really is seen from different places hardly anything
stays at its pixel, but by chance or near the axis of a turn, and that in a few photos only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..arrays import Array, Array32, Mask
from ..spread import spread

PLACED_SIDE_PX = 512
"""Longer side of the images in which places are compared."""
PATCH_PX = 7
"""Side of the patches that are compared: descriptors are of three times the width, and take in what moves beside."""
ALIKE = 0.95
"""Least correlation of two patches. Noise and compression leave more where nothing moves."""
FAINT = 2.0
"""Standard deviation of a patch, in grey levels, below which it is noise and equals nothing."""
OTHERS = 4
"""Other photos in which a key point must stand at the same place. Near the axis of a turn it is the two or three next
ones that do."""
COMPARED = 32
"""Photos, evenly spread, with which all are compared."""
NEAREST = 5
"""Key points around a pixel of which one that stands still hides it. Around an object the background is seen by few
photos, and some of its points are not recognised: each of them does more harm than a lost one of the object."""


@dataclass(frozen=True, eq=False)
class PlacedKeypoints:
    """Key points of a photo, in a reduced image of it."""

    grey: NDArray[np.uint8]
    """(h, w); photos of different size are not compared."""
    xy: Array
    """(n, 2) pixels of it."""


def still_keypoints(photos: Sequence[PlacedKeypoints], compared: int = COMPARED) -> list[Mask]:
    """Say of the key points (n,) of each photo whether they stand still, by comparing their patches with those at the
    same pixels of at most `compared` photos of the same size."""
    out = [np.zeros(len(each.xy), bool) for each in photos]
    for size in {each.grey.shape for each in photos}:
        members = [i for i, each in enumerate(photos) if each.grey.shape == size]
        chosen = {members[k] for k in spread(len(members), compared).tolist()}
        others = {i: _padded(photos[i].grey) for i in sorted(chosen)}
        for i in members:
            mine = _patches(_padded(photos[i].grey), photos[i].xy)
            same = np.zeros(len(mine), np.int64)
            for j, image in others.items():
                if j != i:
                    same += np.einsum("ij,ij->i", mine, _patches(image, photos[i].xy)) >= ALIKE
            out[i] = same >= OTHERS
    return out


def still_region(photo: PlacedKeypoints, still: Mask) -> Mask:
    """(h, w) where one of the nearest key points stands still: the part of the image that does not move with the rest.

    Every key point, of whatever detector, falls on either side, and so does what has no key points.
    """
    height, width = photo.grey.shape
    if not still.any():
        return np.zeros((height, width), bool)
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    count = min(NEAREST, len(photo.xy))
    _, nearest = cKDTree(photo.xy).query(np.column_stack([x.ravel(), y.ravel()]), k=count)
    return np.asarray(still[nearest].reshape(height, width, count).any(axis=2), bool)


def _padded(grey: NDArray[np.uint8]) -> Array32:
    return np.pad(grey, PATCH_PX // 2, mode="edge").astype(np.float32)


def _patches(padded: Array32, xy: Array) -> Array32:
    """(n, PATCH_PX^2) patches around points, of mean 0 and length 1; faint ones are shorter."""
    height, width = (side - PATCH_PX + 1 for side in padded.shape)
    column, row = np.clip(xy.astype(np.int64), 0, (width - 1, height - 1)).T[:, :, None, None]
    steps = np.arange(PATCH_PX)
    found = padded[row + steps[:, None], column + steps].reshape(len(xy), PATCH_PX**2)
    found -= found.mean(axis=1, keepdims=True)
    length = np.linalg.norm(found, axis=1, keepdims=True)
    patches: Array32 = found / np.maximum(length, np.float32(FAINT * PATCH_PX))
    return patches
