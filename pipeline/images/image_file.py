"""Opening image files nobody vouches for: known formats only, header first, a bound on the size."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile

from ..regular_files import open_regular

MAX_PIXELS = 2**28
"""268 megapixels. The largest phone sensors have 200; beyond, decoding is a way to run out of memory."""

MIN_SIDE = 16

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".webp", ".bmp", ".heic", ".heif", ".avif"})

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"})

ADVICE = {
    **dict.fromkeys((".gif", ".jp2", ".jxl", ".psd", ".exr", ".tga"), "this format is not read: convert it to PNG"),
    **dict.fromkeys(sorted(VIDEO_SUFFIXES), "a video, where photos are wanted: extract its frames"),
    **dict.fromkeys(
        (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef"),
        "a raw photo: develop it to JPEG or TIFF first",
    ),
}
"""What to tell about files that a user may well take for photos; all other suffixes are passed over in silence."""


_FILTERS = threading.Lock()


def clip_of(name: str) -> str | None:
    """The video that a photo is a frame of, by its name: walk.mp4 of walk.mp4/000012345.jpg. None: a still."""
    folder = PurePosixPath(name).parent
    return str(folder) if folder.suffix.lower() in VIDEO_SUFFIXES else None


class UnreadableImage(Exception):
    """Why a file is no photo: one line."""


def _avif(fp: IO[bytes], name: str) -> ImageFile:
    from PIL import AvifImagePlugin

    return AvifImagePlugin.AvifImageFile(fp, name)


def _heif(fp: IO[bytes], name: str) -> ImageFile:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise UnreadableImage("HEIC needs the package pillow-heif") from None
    image: ImageFile = HeifImageFile(fp, name)  # type: ignore[no-untyped-call]
    return image


def _opener(head: bytes) -> Callable[[IO[bytes], str], ImageFile] | None:
    """The class that reads a file that begins with these 32 bytes; the file's name has no say."""
    # JPEG by its own class: phones append further images (depth, gain map) and Image.open would see several frames.
    if head.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return TiffImagePlugin.TiffImageFile
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if head.startswith(b"BM"):
        return BmpImagePlugin.BmpImageFile
    if head[4:8] == b"ftyp":
        return _avif if head[8:12] in (b"avif", b"avis") else _heif
    return None


@contextmanager
def open_image(path: Path) -> Iterator[ImageFile]:
    """The image with its header read and no pixel decoded. Raises UnreadableImage, on entry only, and OSError."""
    with open_regular(path) as file, _opened(file, str(path)) as image:
        yield image


@contextmanager
def image_of(data: bytes) -> Iterator[ImageFile]:
    """The same of the bytes of a file, which cannot change while they are decoded."""
    with io.BytesIO(data) as file, _opened(file, "") as image:
        yield image


@contextmanager
def _opened(file: IO[bytes], name: str) -> Iterator[ImageFile]:
    """The formats' own classes are called, not Image.open: its guard against decompression bombs is one number for
    the whole process, which warns about honest 100-megapixel photos and is not ours to change."""
    head = file.read(32)
    if not head:
        raise UnreadableImage("empty file (0 bytes)")
    opener = _opener(head)
    if opener is None:
        raise UnreadableImage("not an image, whatever its name says: no known format begins like this")
    file.seek(0)
    try:
        with quiet():
            image = opener(file, name)
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:  # a decoder may raise anything on nonsense
        raise UnreadableImage(f"damaged or cut off, its header cannot be read ({one_line(error)})") from None
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise UnreadableImage(
                f"{width} x {height} pixels: more than the {MAX_PIXELS / 1e6:.0f} megapixels that are read"
            )
        if min(width, height) < MIN_SIDE:
            raise UnreadableImage(f"{width} x {height} pixels: too small for a photo")
        yield image


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings on the terminal about odd tags. Held under a lock, as the list of filters belongs to all threads."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def frames(image: ImageFile) -> int:
    """How many moments the file shows. Pages of a TIFF and side images of a HEIC are no moments: the first counts."""
    animated = image.format in ("PNG", "WEBP", "AVIF")
    return int(getattr(image, "n_frames", 1)) if animated else 1


def one_line(error: BaseException) -> str:
    """A foreign error message, fit to stand inside ours."""
    return " ".join(str(error).split())[:120] or type(error).__name__
