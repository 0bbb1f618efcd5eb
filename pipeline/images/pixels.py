"""Pixels of a photo on demand: upright, 8-bit, reduced while decoding where the format allows.

A reduced image keeps the borders of the photo: its pixel grid spans the same rectangle, so the exact factors
from image to photo coordinates are photo.width / image width and photo.height / image height (`photo_per_px`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Transpose
from PIL.ImageFile import ImageFile

from ..artifacts import Bools, Bytes, Photo
from ..freed_memory import give_back_freed_memory
from ..stage import StageError
from .content import read_content
from .decoding_memory import LARGE_WEBP
from .image_file import UnreadableImage, image_of, one_line
from .panoramas import cut_view

OPAQUE_MOST = 100_000

LARGE_BYTES = 1 << 26
"""Memory for decoding a photo from which it is given back at once. Smaller photos of one size soon use it again."""

PANORAMAS_KEPT = 2
"""Panoramas kept as they were decoded last: six views of each are cut in a row."""

END_OF_JPEG = b"\xff\xd9"

_OPAQUE: set[str] = set()
"""Contents of photos that were found to have no transparency, so that they are not read again to ask for a mask."""

_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def read_rgb(photo: Photo, max_side: int | None = None) -> Bytes:
    """(h, w, 3) uint8, upright, its longer side at most max_side. Transparent parts are black."""
    return _read(photo, "RGB", max_side)


def read_grey(photo: Photo, max_side: int | None = None) -> Bytes:
    """(h, w) uint8 luma (ITU-R 601), upright, its longer side at most max_side. Cheaper than read_rgb."""
    return _read(photo, "L", max_side)


def read_mask(photo: Photo) -> Bools | None:
    """(h, w) bool, upright, of any size but spanning the photo; True is visible. None: everything is.

    In a mask file white shows and black hides; one that never reaches half of white (labels 0 and 1) hides where it
    is zero. Without a mask file, the transparent parts of the photo are hidden.
    """
    if photo.mask is None:
        return _opaque(photo)
    what = f"mask {photo.mask.name}"
    data = read_content(photo.mask, photo.mask_content, what)
    with _decoding(what), image_of(data) as image:
        mask = _eight_bit(image).convert("L")
        as_stored = (photo.height, photo.width) if photo.orientation >= 5 else None
        if mask.size == as_stored and photo.width != photo.height:
            mask = mask.transpose(_UPRIGHT[photo.orientation])
        values = np.asarray(mask)
    visible: Bools = values >= (128 if values.max() >= 128 else 1)
    return _seen_in_view(photo, visible)


def photo_per_px(photo: Photo, image: Bytes) -> tuple[float, float]:
    """(x, y) factors that take pixel coordinates of a reduced image to those of the photo."""
    height, width = image.shape[:2]
    return photo.width / width, photo.height / height


def reduced_size(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """Size with the longer side at most max_side; never enlarged."""
    scale = 1.0 if max_side is None else min(1.0, max_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


@contextmanager
def _decoding(what: str) -> Iterator[None]:
    """Whatever a decoder throws at us becomes one line about the file, but for a lack of memory: that is no trait of
    the file, and passes when there is more."""
    try:
        yield
    except UnreadableImage as error:
        raise StageError(f"{what}: {error}") from None
    except MemoryError:
        raise MemoryError(f"{what}: too large to decode in the memory there is") from None
    except Exception as error:  # a decoder may raise anything on nonsense
        if "memory" in str(error):  # how decoders' own codes come out
            raise MemoryError(f"{what}: {one_line(error)}") from None
        raise StageError(f"{what}: the file is damaged or cut off ({one_line(error)})") from None


def _read(photo: Photo, mode: Literal["RGB", "L"], max_side: int | None) -> Bytes:
    size = reduced_size(photo.width, photo.height, max_side)
    if photo.view is None:
        image = _upright(photo, mode, size)
        if photo.decoding_bytes >= LARGE_BYTES:
            give_back_freed_memory()
        return image
    width = round(photo.view.panorama_width * size[0] / photo.width)
    panorama = _panorama(photo.path, photo.content, photo.orientation, mode, (width, max(1, width // 2)))
    return cut_view(panorama, photo.view, size[0])


@lru_cache(maxsize=PANORAMAS_KEPT)
def _panorama(path: Path, content: str, orientation: int, mode: Literal["RGB", "L"], size: tuple[int, int]) -> Bytes:
    return _upright(Photo("", path, content, *size, orientation), mode, size)


def _seen_in_view(photo: Photo, visible: Bools) -> Bools:
    """A mask of the whole file, or what the view of it shows."""
    if photo.view is None:
        return visible
    side = min(photo.width, max(1, round(visible.shape[1] / np.pi)))
    return cut_view(visible.astype(np.uint8), photo.view, side, smooth=False) > 0


def _upright(photo: Photo, mode: Literal["RGB", "L"], size: tuple[int, int]) -> Bytes:
    if photo.orientation >= 5:
        size = size[::-1]
    data = read_content(photo.path, photo.content, "photo")
    with _decoding("photo"), image_of(data) as file:
        if photo.content and not file.has_transparency_data:
            _remember_opaque(photo.content)
        if mode == "RGB" and size == file.size and (whole := _whole_jpeg(file, data)) is not None:
            return whole if photo.orientation <= 1 else _turned(Image.fromarray(whole), photo.orientation)
        # JPEG decodes at 1/2, 1/4 or 1/8 for a fraction of the time and memory. The last row and column of such a
        # image may stick out of the photo: `box` is where the photo ends, and resizing to it keeps borders exact.
        drafted = file.draft(mode, size) if file.format == "JPEG" else None
        image = _half_webp(data) if _is_large_webp(file, size) else _eight_bit(file)
        box = drafted[1] if drafted else (0, 0, *image.size)
        if size != image.size or box[2:] != image.size:
            image = image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)
        if image.mode in ("RGBa", "La"):  # alpha has been multiplied in: what is left is the image over black
            bands = image.split()[:-1]
            image = Image.merge("RGB", bands) if len(bands) == 3 else bands[0]
        image = image if image.mode == mode else image.convert(mode)  # which would copy it
        return _turned(image, photo.orientation)


def _turned(image: Image.Image, orientation: int) -> Bytes:
    return np.asarray(image.transpose(_UPRIGHT[orientation]) if orientation > 1 else image)


def _whole_jpeg(file: ImageFile, data: bytes) -> Bytes | None:
    """The colours of a JPEG file at its full size; None where it is of another kind, or may be cut off.

    The same values as Pillow's, which calls the same library, in six tenths of the time: no copy with four bytes for
    three colours is made. A file that does not end as it should is left to Pillow, which says so, and so is one whose
    last pixels are equal: OpenCV fills with one colour what follows damage. In progressive files that does not show.
    """
    if file.format != "JPEG" or file.mode != "RGB" or "progressive" in file.info or not data.endswith(END_OF_JPEG):
        return None
    import cv2  # here, since starting up must not wait for it

    whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if whole is None or whole.shape[1::-1] != file.size or (whole[-1, -8:] == whole[-1, -1]).all():
        return None
    return np.asarray(whole, np.uint8)


def _is_large_webp(image: ImageFile, size: tuple[int, int]) -> bool:
    """Whether half of it is enough, and worth reading by other means."""
    large = image.width * image.height > LARGE_WEBP and 2 * max(size) <= max(image.size)
    return large and image.format == "WEBP" and not image.has_transparency_data


def _half_webp(data: bytes) -> Image.Image:
    """Every two by two pixels averaged. Pillow decodes a WebP as if it were an animation, at 16 bytes a pixel; the same
    library called by OpenCV takes 4."""
    import cv2  # here, since few will need it, and starting up must not wait for it

    half = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION)
    if half is None:
        raise UnreadableImage("the file is damaged or cut off")
    return Image.fromarray(cv2.cvtColor(half, cv2.COLOR_BGR2RGB))


def _opaque(photo: Photo) -> Bools | None:
    """Where the photo itself is not transparent; None if nowhere."""
    if photo.content in _OPAQUE:
        return None
    data = read_content(photo.path, photo.content, "photo")
    with _decoding("photo"), image_of(data) as image:
        if not image.has_transparency_data:
            return None
        alpha = image.convert("RGBA").getchannel("A")
        if photo.orientation > 1:
            alpha = alpha.transpose(_UPRIGHT[photo.orientation])
        opaque = np.asarray(alpha) >= 128
    return None if bool(opaque.all()) else _seen_in_view(photo, opaque)


def _remember_opaque(content: str) -> None:
    if len(_OPAQUE) >= OPAQUE_MOST:
        _OPAQUE.clear()
    _OPAQUE.add(content)


def _eight_bit(image: ImageFile) -> Image.Image:
    """Decoded at 8 bits per channel, in a mode that may be averaged: L, RGB, or with alpha multiplied in."""
    image.load()
    if image.has_transparency_data:
        return image.convert("RGBA").convert("RGBa") if image.mode != "RGBA" else image.convert("RGBa")
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bit_values(np.asarray(image)))
    return image.convert("RGB")


def _eight_bit_values(values: NDArray[np.generic]) -> Bytes:
    """Deep grey values to 8 bits. White is the least 2^k - 1 that holds the brightest pixel, since 10 to 14 bit
    sensors are often stored in 16 bits unscaled; for fractions up to one, white is one."""
    deep = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    top = float(deep.max())
    fractions = values.dtype.kind == "f" and top <= 1.0
    white = 1.0 if fractions else 2.0 ** max(8, int(np.ceil(np.log2(top + 1.0)))) - 1.0
    eight: Bytes = (np.clip(deep * np.float32(255.0 / white), 0.0, 255.0) + np.float32(0.5)).astype(np.uint8)
    return eight
