"""Colours and visibility of key points, read from the pixels below them; and what photos without any have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unposed.pipeline.artifacts import Bools, Bytes, Features, Floats


def no_features(descriptors: NDArray[np.generic]) -> Features:
    """The features of a photo without key points; `descriptors` (0, d) have the type of those of others."""
    none = np.zeros(0, np.float32)
    return Features(np.zeros((0, 2), np.float32), none, descriptors, np.zeros((0, 3), np.uint8), none)


def colours(image: Bytes, xy: Floats) -> Bytes:
    """(n, 3) colour of the pixel at each point."""
    row, column = _pixel(image.shape[1], image.shape[0], xy)
    return image[row, column]


def visible(mask: Bools, image: Bytes, xy: Floats) -> Bools:
    """(n,) whether the mask shows points of the image; the mask spans the image at its own resolution."""
    height, width = mask.shape
    return mask[_pixel(width, height, xy * (width / image.shape[1], height / image.shape[0]))]


def _pixel(width: int, height: int, xy: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    column, row = np.clip(xy.astype(np.int64), 0, (width - 1, height - 1)).T
    return row, column
