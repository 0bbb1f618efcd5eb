"""How good single photos are, from reduced images: sharpness, exposure, and copies of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array, Index
from unposed.pipeline.artifacts import Bytes

QUALITY_SIDE_PX = 1024
"""Longer side of the images that are judged: near to the size that key points are looked for in."""
BLURRED, BLURRED_FOR_ITS_SET = 0.38, 0.66
"""Sharpness below which a photo counts as blurred, and the same as a share of the median of its set. At 1,024 px, the
photos of 22 sets have 0.37 to 0.87, and at most 0.42 after a Gaussian blur of 1.5 px, 0.36 of 3 to 9 px; a motion of
9 px takes a third off."""
OCTAVES = 3
"""Sizes, each half of the one before, that detail is looked for at: what is left in a photo far out of focus is noise,
which is sharp at full size."""
BLOWN, DARK = 0.2, 0.5
"""Share of the pixels that may be white, or black."""
WHITE, BLACK = 253, 6
SAME = 0.05
"""RMS difference of two photos, as small copies of standard deviation 1, below which nothing has moved between them: of
frames of a video it is 0.02, of photos from two places 0.3 to 1."""
COPY_PX = 32
COPY_ROWS = 256
"""Photos that are compared with all before them in one product."""


@dataclass(frozen=True, eq=False)
class PhotoQuality:
    """What the pixels of one photo say."""

    sharpness: float
    """RMS second difference over that of the image at half the size, at the size and along the axis of the least."""
    white: float
    black: float
    """Share of the pixels."""
    mean_grey: float
    small: Array
    """(COPY_PX^2,) copy with mean 0 and standard deviation 1."""


def photo_quality(grey: Bytes) -> PhotoQuality:
    """Judge a photo by its grey image (h, w)."""
    small = cv2.resize(grey, (COPY_PX, COPY_PX), interpolation=cv2.INTER_AREA).astype(np.float64).ravel()
    small = (small - small.mean()) / max(float(small.std()), 1.0)
    white, black = float(np.mean(grey >= WHITE)), float(np.mean(grey <= BLACK))
    return PhotoQuality(sharpness(grey), white, black, float(grey.mean()), small)


def sharpness(grey: Bytes) -> float:
    """Compare the finest detail of an image (h, w) with that at half the size; blur, also by motion, takes the former.

    s = min over both axes and some octaves of rms(I'') / rms(J''), J the image I at half the size. Photos lose detail
    towards high frequencies alike (amplitude 1 / f), so that s hardly depends on what they show.
    """

    def detail(values: NDArray[Any], axis: int) -> float:
        return float(np.sqrt(np.mean(np.square(np.diff(values, 2, axis=axis)))))

    found = [1.0]
    image: NDArray[Any] = grey.astype(np.float32)
    for _ in range(OCTAVES):
        if min(image.shape) < 8:
            break
        half = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
        found += [detail(image, axis) / max(detail(half, axis), 1e-6) for axis in (0, 1)]
        image = half
    return min(found)


def blurred(sharp: Array) -> Index:
    """Indices of the photos whose sharpness is low, or far below that of the others."""
    usual = float(np.median(sharp)) if len(sharp) else 0.0
    return np.flatnonzero((sharp < BLURRED) | (sharp < BLURRED_FOR_ITS_SET * usual))


def copies(small: Array) -> list[tuple[int, ...]]:
    """Groups of photos (n, COPY_PX^2) between which nothing has moved."""
    groups: dict[int, list[int]] = {}
    for start in range(0, len(small), COPY_ROWS):
        rows = small[start : start + COPY_ROWS]
        photos = np.arange(start, start + len(rows))
        square = 2.0 * (1.0 - small[: start + len(rows)] @ rows.T / small.shape[1])
        same = square < SAME**2
        first = np.where(same.any(axis=0), np.minimum(same.argmax(axis=0), photos), photos)
        for photo, group in zip(photos.tolist(), first.tolist(), strict=True):
            groups.setdefault(group, []).append(photo)
    return [tuple(group) for group in groups.values() if len(group) > 1]
