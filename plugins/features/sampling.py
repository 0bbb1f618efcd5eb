"""What all key point extractors do with the pixels under their points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unposed.pipeline.artifacts import Bools, Bytes, Floats


def colours(picture: Bytes, xy: Floats) -> Bytes:
    """(n, 3) colour of the pixel each point falls on."""
    row, column = _pixel(picture.shape[1], picture.shape[0], xy)
    return picture[row, column]


def visible(mask: Bools, picture: Bytes, xy: Floats) -> Bools:
    """(n,) whether points of the picture lie where the mask shows; the mask spans the picture at a size of its own."""
    height, width = mask.shape
    return mask[_pixel(width, height, xy * (width / picture.shape[1], height / picture.shape[0]))]


def _pixel(width: int, height: int, xy: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    column, row = np.clip(xy.astype(np.int64), 0, (width - 1, height - 1)).T
    return row, column
