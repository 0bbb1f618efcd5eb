"""Resize and crop photos for the network: the longer side to a given size, then centred to whole patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ImageSizeError
from .config import PATCH_PX

Bytes = NDArray[np.uint8]

SQUARE_PX = 224
"""Networks trained on images of this size see a central square."""


@dataclass(frozen=True)
class ImageFrame:
    """Position of the pixels of a network's image in the photo."""

    size: tuple[int, int]
    """Height and width of the image."""
    origin_px: tuple[float, float]
    """x and y in the photo of the centre of the image's top-left pixel."""
    step_px: tuple[float, float]
    """Photo pixels per image pixel, along x and y."""

    def to_photo(self, xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Image coordinates (..., 2), with pixel centres at whole numbers, to photo coordinates, with pixel centres at
        halves."""
        return np.asarray(xy, np.float64) * self.step_px + self.origin_px

    def from_photo(self, xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Photo coordinates (..., 2) to image coordinates."""
        inside: NDArray[np.float64] = (np.asarray(xy, np.float64) - self.origin_px) / self.step_px
        return inside


def fit_image(photo: Bytes, size: int, *, squares: bool = False, step: int = PATCH_PX) -> tuple[Bytes, ImageFrame]:
    """Resize and crop an upright photo (h, w, 3) so that its longer side is `size`, and return its frame in the photo.

    Square results are cropped to 4:3 unless `squares` is set: the networks were trained on 4:3 and wider. A size of 224
    gives a central square. Sides are multiples of `step`, which holds whole patches.
    """
    from PIL import Image  # here: a network is used without it, too, on images of its size

    height, width = photo.shape[:2]
    reduced, box = resize_and_crop(width, height, size, squares=squares, step=step)
    longest = max(width, height)
    filter_ = Image.Resampling.LANCZOS if longest > max(reduced) else Image.Resampling.BICUBIC
    left, top, right, bottom = box
    image = Image.fromarray(photo).resize(reduced, filter_).crop(box)
    per_px = width / reduced[0], height / reduced[1]
    frame = ImageFrame((bottom - top, right - left), ((left + 0.5) * per_px[0], (top + 0.5) * per_px[1]), per_px)
    return np.asarray(image), frame


def resize_and_crop(
    width: int, height: int, size: int, *, squares: bool = False, step: int = PATCH_PX
) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """Width and height to resize to, and the crop (left, top, right, bottom) of the resized image."""
    longest, shortest = max(width, height), min(width, height)
    target = round(size * longest / shortest) if size == SQUARE_PX else size
    w, h = (round(side * target / longest) for side in (width, height))
    x, y = w // 2, h // 2
    if size == SQUARE_PX:
        half_w = half_h = min(x, y)
    else:
        half_w, half_h = (_whole(2 * x, step) // 2, _whole(2 * y, step) // 2)
        if w == h and not squares:
            half_h = 3 * half_w // 4
    if not (half_w and half_h):
        raise ImageSizeError(
            f"a photo of {width} x {height} px is too narrow: reduced to {size} px its shorter side has {min(w, h)}, "
            f"and {PATCH_PX} are needed"
        )
    return (w, h), (x - half_w, y - half_h, x + half_w, y + half_h)


def _whole(side: int, step: int) -> int:
    """The largest multiple of `step` in a side, or of a patch where that is none."""
    return side // step * step or side // PATCH_PX * PATCH_PX


def image_batch(images: Sequence[Bytes], device: torch.device | str = "cpu") -> Tensor:
    """(b, 3, h, w) float32 in [-1, 1] on a device from images (h, w, 3) of one size, sent there as bytes."""
    stacked = torch.from_numpy(np.stack(images)).to(device).movedim(-1, 1)
    return (stacked.float() / 255.0 - 0.5) / 0.5
