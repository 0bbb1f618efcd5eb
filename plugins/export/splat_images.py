"""Image files of a folder to train Gaussian splats from: undistorted photos, smaller copies of them, and masks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from PIL import Image

from unposed.pipeline.artifacts import Bytes, Floats, Photo
from unposed.pipeline.errors import InputError
from unposed.pipeline.images.exif import upright_exif
from unposed.pipeline.images.pixels import read_mask, read_rgb, reduced_size
from unposed.pipeline.stage import InputUnavailable, StageError

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
"""What Windows takes for devices, whatever the ending."""
SEGMENT_BYTES = 65533
"""What a segment of a JPEG file holds."""


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

    def write(self, photo: Photo, resampling: Resampling, name: str) -> None:
        """Write a photo under a name, as a pinhole camera sees it."""
        image = resampling.bgr(read_rgb(photo, resampling.read_side_px))
        mask = read_mask(photo) if self.with_masks else None
        grey = np.full(image.shape[:2], 255, np.uint8)
        if mask is not None:
            grey = resampling.mask(mask.astype(np.uint8) * 255)
        exif = upright_exif(photo.path)
        before = 1
        for factor in (1, *self.factors):
            image, before = _smaller(image, factor // before), factor  # a mean of means is a mean, and soon made
            visible = (_smaller(grey, factor) >= 128).astype(np.uint8) * 255 if self.with_masks else None
            file = self.folder / _scaled("images", factor) / name
            self._save(image, visible, file, exif)
            if visible is not None:
                Image.fromarray(visible).save((self.folder / _scaled("masks", factor) / name).with_suffix(".png"))

    def _save(self, image: Bytes, visible: Bytes | None, file: Path, exif: bytes) -> None:
        if self.bake == "alpha" and visible is not None:
            image = np.dstack([image, visible])
        elif self.bake != "none" and visible is not None:
            image = np.where(visible[..., None] > 0, image, np.uint8(255 if self.bake == "white" else 0))
        if file.suffix == ".png":
            Image.fromarray(image[..., [2, 1, 0, 3][: image.shape[2]]]).save(file, exif=exif)
        else:
            file.write_bytes(_jpeg(image, self.quality, exif))


class Resampling:
    """Resamples the photos of one camera at the points of them that the pixels of a pinhole camera show; the tables are
    made once for all of them, and so is the memory for images of the size of photos: to get it anew takes as long as
    to fill it."""

    def __init__(self, seen_at: Floats, photo_size: tuple[int, int], shrunk: float, sharp_pixels: float) -> None:
        """`seen_at`: (height, width, 2) points of the photo. `shrunk`: pixels of the pinhole camera per pixel of the
        photo, at most 1; it is read at this size, so that pixels show the mean of what they cover. Images of more than
        `sharp_pixels` are resampled bilinearly."""
        self.read_side_px = max(1, round(shrunk * max(photo_size)))
        self._read_size = reduced_size(*photo_size, self.read_side_px)
        self._sharp = self._read_size[0] * self._read_size[1] <= sharp_pixels
        scale = np.array(self._read_size, np.float32) / np.array(photo_size, np.float32)
        self._x, self._y = (seen_at[..., axis] * scale[axis] - np.float32(0.5) for axis in (0, 1))
        self._wide: Any = None
        self._resampled: Any = None
        self._bgr: Any = None

    def bgr(self, rgb: Bytes) -> Bytes:
        """(height, width, 3) blue, green and red of a photo that was read at `read_side_px`, until the next is asked
        for."""
        if self._sharp:
            resampled = _remapped(rgb, self._x, self._y, cv2.INTER_CUBIC)
            return np.asarray(cv2.cvtColor(resampled, cv2.COLOR_RGB2BGR), np.uint8)
        # OpenCV interpolates four bytes at once but not three: a third of the time, with a fourth that nobody needs.
        self._wide = cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA, dst=self._wide)
        self._resampled = _remapped(self._wide, self._x, self._y, cv2.INTER_LINEAR, self._resampled)
        self._bgr = cv2.cvtColor(self._resampled, cv2.COLOR_RGBA2BGR, dst=self._bgr)
        return np.asarray(self._bgr, np.uint8)

    def mask(self, grey: Bytes) -> Bytes:
        """A mask of any size."""
        half, size = np.float32(0.5), (grey.shape[1], grey.shape[0])
        x, y = (
            (table + half) * np.float32(new / read) - half
            for table, new, read in zip((self._x, self._y), size, self._read_size, strict=True)
        )
        return np.asarray(_remapped(grey, x, y, cv2.INTER_LINEAR), np.uint8)


def _remapped(image: Any, x: Floats, y: Floats, interpolation: int, into: Any = None) -> Any:
    return cv2.remap(image, x, y, interpolation, into, borderMode=cv2.BORDER_REPLICATE)


def _jpeg(image: Bytes, quality: int, exif: bytes) -> bytes:
    """A JPEG file of blue, green and red, without reduced colours. Made by OpenCV, which takes half the time of Pillow
    but writes no EXIF data: they are put behind the marker that begins the file, unless they are larger than a segment
    may be."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    data = cv2.imencode(".jpg", image, options)[1].tobytes()
    if not exif or len(exif) > SEGMENT_BYTES:
        return data
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


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
        plain += "_" * (plain.lower() in RESERVED)
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
