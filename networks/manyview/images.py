"""Photos as networks for many views read them: resized to whole patches, each family by its own rule, and cropped to
one size for a group."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import ImageSizeError
from ..mast3r.images import Bytes, ImageFrame
from .config import PATCH_PX

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of each channel in [0, 1], over the images of ImageNet."""


def fit_da3(photo: Bytes, longest_px: int) -> Bytes:
    """Resize a photo (h, w, 3): its longer side to `longest_px`, then each side to the nearest multiple of 14."""
    height, width = photo.shape[:2]
    scale = longest_px / max(width, height)
    image = photo
    if scale != 1.0:
        image = _resized(image, max(1, round(width * scale)), max(1, round(height * scale)))
    sides = [_whole_patches(side) for side in image.shape[:2]]
    return _resized(image, sides[1], sides[0])


def fit_vggt(photo: Bytes, longest_px: int) -> Bytes:
    """Resize a photo (h, w, 3) at once: its longer side to `longest_px`, the other to a multiple of 14."""
    height, width = photo.shape[:2]
    per_patch = max(height, width) * PATCH_PX / longest_px
    size = max(1, round(width / per_patch)) * PATCH_PX, max(1, round(height / per_patch)) * PATCH_PX
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC))


def fit_pi3(photo: Bytes, pixels: int) -> Bytes:
    """Resize a photo (h, w, 3) to sides of whole patches with at most so many pixels, near its aspect."""
    columns, rows = pi3_patches(photo.shape[1], photo.shape[0], pixels)
    size = columns * PATCH_PX, rows * PATCH_PX
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))


def pi3_patches(width: int, height: int, pixels: int) -> tuple[int, int]:
    """Columns and rows of patches of the image of a photo."""
    scale = (pixels / (width * height)) ** 0.5
    columns, rows = round(width * scale / PATCH_PX), round(height * scale / PATCH_PX)
    while columns * rows * PATCH_PX**2 > pixels:
        if columns / max(rows, 1) > width / height:
            columns -= 1
        else:
            rows -= 1
    if not (columns > 0 and rows > 0):
        raise _too_narrow(width, height)
    return columns, rows


def view_frames(
    photo_sizes: Sequence[tuple[int, int]], images: Sequence[Bytes], step: int = PATCH_PX
) -> tuple[list[Bytes], list[ImageFrame]]:
    """Crop images to the smallest height and width among them, in multiples of `step`, about their middle, and give
    their frames in photos of these (width, height).

    The middle of the photo stays the middle of the image, where all families put the principal point.
    """
    size = min(image.shape[0] for image in images), min(image.shape[1] for image in images)
    size = size[0] // step * step or size[0], size[1] // step * step or size[1]
    if min(size) < PATCH_PX:
        raise _too_narrow(*photo_sizes[0])
    cropped, frames = [], []
    for (width, height), image in zip(photo_sizes, images, strict=True):
        top, left = (image.shape[0] - size[0]) // 2, (image.shape[1] - size[1]) // 2
        per_px = width / image.shape[1], height / image.shape[0]
        cropped.append(image[top : top + size[0], left : left + size[1]])
        frames.append(ImageFrame(size, ((left + 0.5) * per_px[0], (top + 0.5) * per_px[1]), per_px))
    return cropped, frames


def normalised(groups: Sequence[Sequence[Bytes]], device: torch.device | str = "cpu") -> Tensor:
    """(b, s, 3, h, w) float32 on a device from groups of images (h, w, 3) of one size, sent there as bytes."""
    stacked = torch.from_numpy(np.stack([np.stack(images) for images in groups])).to(device).movedim(-1, 2)
    mean, std = (torch.tensor(each, device=device).view(3, 1, 1) for each in (MEAN, STD))
    return (stacked.float() / 255.0 - mean) / std


def _resized(image: Bytes, width: int, height: int) -> Bytes:
    if image.shape[:2] == (height, width):
        return image
    grows = width > image.shape[1] or height > image.shape[0]
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC if grows else cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def _whole_patches(side: int) -> int:
    """The nearest multiple of 14, the larger one where two are."""
    return max(PATCH_PX, (side + PATCH_PX // 2) // PATCH_PX * PATCH_PX)


def _too_narrow(width: int, height: int) -> ImageSizeError:
    return ImageSizeError(f"a photo of {width} x {height} px is too narrow: it has less than a patch of {PATCH_PX} px")
