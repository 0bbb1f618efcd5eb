"""Image files of a folder to train Gaussian splats from: undistorted photos, smaller copies of them, and masks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from PIL import Image

from unposed.pipeline.artifacts import Bytes, Floats, Photo
from unposed.pipeline.errors import InputError
from unposed.pipeline.images.exif import upright_exif
from unposed.pipeline.images.pixels import read_mask, read_rgb
from unposed.pipeline.stage import InputUnavailable, StageError


@dataclass(frozen=True)
class SplatImages:
    """Writes the files of one photo at a time, so that memory does not grow with their number.

    Trainers look up smaller images as images_2/NAME with sides rounded down; those whose sides are multiples of the
    largest factor have one size however a trainer rounds, and their principal point stays in the middle.
    """

    folder: Path
    quality: int
    """Of the JPEG files."""
    factors: tuple[int, ...]
    """Of the smaller copies."""
    with_masks: bool
    """Whether every photo gets a mask: some trainers demand one for each photo as soon as there is any."""
    bake: str
    """What is done where a mask hides: none, black, white or alpha."""

    def begin(self) -> None:
        """Make the folders."""
        for name in ("images", "masks") if self.with_masks else ("images",):
            for factor in (1, *self.factors):
                (self.folder / _scaled(name, factor)).mkdir(parents=True)

    def write(self, photo: Photo, seen_at: Floats, name: str, max_side_px: int) -> None:
        """Write a photo under a name, resampled at the points (height, width, 2) of it that the new pixels show.

        It is read with a longer side of `max_side_px`, so that smaller pixels show the mean of what they cover.
        """
        size = photo.width, photo.height
        image = _resampled(read_rgb(photo, max_side_px), seen_at, size)
        mask = read_mask(photo) if self.with_masks else None
        grey = np.full(seen_at.shape[:2], 255, np.uint8)
        if mask is not None:
            grey = _resampled(mask.astype(np.uint8) * 255, seen_at, size)
        exif = upright_exif(photo.path)
        for factor in (1, *self.factors):
            visible = (_smaller(grey, factor) >= 128).astype(np.uint8) * 255 if self.with_masks else None
            file = self.folder / _scaled("images", factor) / name
            self._save(_smaller(image, factor), visible, file, exif)
            if visible is not None:
                Image.fromarray(visible).save((self.folder / _scaled("masks", factor) / name).with_suffix(".png"))

    def _save(self, image: Bytes, visible: Bytes | None, file: Path, exif: bytes) -> None:
        if self.bake == "alpha" and visible is not None:
            image = np.dstack([image, visible])
        elif self.bake != "none" and visible is not None:
            image = np.where(visible[..., None] > 0, image, np.uint8(255 if self.bake == "white" else 0))
        if file.suffix == ".png":
            Image.fromarray(image).save(file, exif=exif)
        else:
            Image.fromarray(image).save(file, exif=exif, quality=self.quality, subsampling=0)


def have_masks(photos: Iterable[Photo]) -> bool:
    """Whether anything is masked or transparent in any of the photos."""
    return any(_is_masked(photo) for photo in photos)


def _is_masked(photo: Photo) -> bool:
    with named_if_unreadable(photo):
        return read_mask(photo) is not None


@contextmanager
def named_if_unreadable(photo: Photo) -> Iterator[None]:
    """Name a photo that was readable when it was reconstructed, and is not now."""
    try:
        yield
    except (StageError, InputUnavailable) as error:
        raise InputError(f"{photo.path}: {error}") from error


def plain_names(names: Sequence[str], ending: str = ".jpg") -> list[str]:
    """Unique file names of ASCII letters, digits, - and _ for these names, none of which is the end of another.

    Brush finds the file of an image by the end of its path: with 5.jpg and 1_5.jpg it would train one photo with the
    camera of the other.
    """
    taken: set[str] = set()
    stems = []
    for name in names:
        plain = re.sub(r"[^0-9A-Za-z-]+", "_", str(PurePosixPath(name).with_suffix("")))
        free, number = plain, 2
        while free.lower() in taken:  # some file systems ignore case
            free, number = f"{plain}_{number}", number + 1
        taken.add(free.lower())
        stems.append(free)
    digits = len(str(len(stems)))
    numbers = [f"{number:0{digits}d}" for number in range(1, len(stems) + 1)]
    numbered = [f"{number}_{stem}" for number, stem in zip(numbers, stems, strict=True)]
    chosen = next((each for each in (stems, numbered) if not _one_ends_another(each)), numbers)
    return [f"{stem}{ending}" for stem in chosen]


def _one_ends_another(stems: Sequence[str]) -> bool:
    backwards = sorted(stem.lower()[::-1] for stem in stems)
    return any(longer.startswith(shorter) for shorter, longer in itertools.pairwise(backwards))


def _scaled(folder: str, factor: int) -> str:
    return folder if factor == 1 else f"{folder}_{factor}"


def _smaller(image: Bytes, factor: int) -> Bytes:
    if factor == 1:
        return image
    size = max(1, image.shape[1] // factor), max(1, image.shape[0] // factor)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _resampled(image: Bytes, seen_at: Floats, size: tuple[int, int]) -> Bytes:
    """The image, which spans a photo of that size, resampled by the pinhole camera."""
    scale = np.array(image.shape[1::-1], np.float32) / np.array(size, np.float32)
    x, y = (np.ascontiguousarray(seen_at[..., axis] * scale[axis] - np.float32(0.5)) for axis in (0, 1))
    new: Bytes = np.asarray(cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.uint8)
    return new
