"""Photos as a folder, a list of files and folders, or images in memory.

Images in memory are written once, losslessly, to a folder below the cache that is named after their content. Stages,
exporters and a later `load` then read them like any photo, stored results are found again, and results equal those of a
folder with the same PNG files.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unposed.pipeline.artifacts import Bytes, Photos
from unposed.pipeline.errors import InputError, StoreError
from unposed.pipeline.images.image_file import VIDEO_SUFFIXES
from unposed.pipeline.images.known_contents import KnownContents
from unposed.pipeline.images.photos import files_below, scan, single_photos

from .video.frames import video_frames

PhotoSource = str | Path | Iterable[str | Path] | Iterable[Bytes] | Mapping[str, Bytes]
"""A folder or a video; several of these and of photos; or
images (height, width, 3) uint8 RGB, in a list, an array (n, height, width, 3), or by name."""

FOLDER = "images"
"""Below the cache folder."""
MOST_NAMED = 20
"""Paths that a command for a reader names one by one."""


def collect(
    source: PhotoSource,
    cache: Path,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    masks: str | Path | None = None,
    verify: bool = False,
    least: int = 2,
    frames: int | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> tuple[Photos, Path]:
    """Read the collection, sorted by name, and the folder that its names are relative to.

    Names of files are paths below the folder that all have in common; images without a name are 0000.png, 0001.png and
    so on. include, exclude, masks and least are those of `scan`. Files that have not changed since an earlier run are
    not read again, unless `verify` asks for it.

    Videos count as their frames, `frames` of each at most; a line about each goes to `note`.
    """
    known = KnownContents(cache, verify=verify)
    chosen: dict[str, Any] = {"include": include, "exclude": exclude, "masks": masks, "known": known}
    each: list[Any] = [source] if isinstance(source, str | Path | Mapping) else list(source)
    names: list[str] | None = None  # all in the folder
    if len(each) == 1 and isinstance(each[0], str | Path) and not _is_photo(each[0], least):
        folder = Path(each[0]).expanduser()
        videos = folder.is_dir() and any(file.suffix.lower() in VIDEO_SUFFIXES for file in folder.rglob("*"))
    elif any(isinstance(one, str | Path) for one in each):
        folder, names = _common_folder(each, None if masks is None else Path(masks).expanduser())
        videos = any(PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES for name in names)
    else:
        images = _named_images(each)
        folder, names, videos = write_images(images, cache), list(images), False
    if videos:
        found = with_frames(scan(folder, names=names, least=0, **chosen), folder, known, cache, frames, note)
        return _enough(found, folder, least), folder
    return scan(folder, names=names, least=least, **chosen), folder


def _is_photo(path: str | Path, least: int) -> bool:
    """Whether a path is a collection without a folder: a video, or a photo where one is enough."""
    file = Path(path).expanduser()
    return file.is_file() and (least == 1 or file.suffix.lower() in VIDEO_SUFFIXES)


def _named_images(each: Sequence[Any]) -> dict[str, Any]:
    """Images of a mapping, the only one in the list, or of a list."""
    if len(each) != 1 or not isinstance(each[0], Mapping):
        return {f"{index:04d}.png": image for index, image in enumerate(each)}
    images = {_png_name(name): image for name, image in each[0].items()}
    if len(images) < len(each[0]):
        raise InputError("two images have the same name: .png is added where it is missing")
    return images


def with_frames(
    photos: Photos,
    folder: Path,
    known: KnownContents,
    cache: Path,
    budget: int | None,
    note: Callable[[str], None],
) -> Photos:
    """The collection with the frames of the videos in it, which were rejected as photos. A frame is named by its video
    and its time in milliseconds: walk.mp4/000012345.jpg."""
    found, rejected = list(photos.photos), dict(photos.rejected)
    for name in sorted(rejected):
        if PurePosixPath(name).suffix.lower() not in VIDEO_SUFFIXES:
            continue
        try:
            content = known.content(folder / name)
            video = video_frames(folder / name, content, cache / FOLDER, budget)
        except OSError as error:
            rejected[name] = f"cannot be read: {error.strerror or error}"
            continue
        except InputError as error:
            rejected[name] = str(error).removeprefix(f"{folder / name}: ")
            note(f"{name}: {rejected[name]}")
            continue
        del rejected[name]
        note(video.said(name))
        own = scan(video.folder, names=video.files, known=known)
        found += [replace(photo, name=f"{name}/{photo.name}") for photo in own.photos]
        rejected |= {f"{name}/{frame}": why for frame, why in own.rejected.items()}
    known.save()
    return Photos(tuple(sorted(found, key=lambda photo: photo.name)), rejected)


def paths_given(source: PhotoSource) -> list[str]:
    """Paths as they were given; none for images, and for more paths than a line has room for."""
    if isinstance(source, str | Path):
        source = [source]
    each = () if isinstance(source, Mapping) else source
    paths = [str(Path(one).expanduser()) for one in each if isinstance(one, str | Path)]
    return paths if len(paths) <= MOST_NAMED else []


def _enough(photos: Photos, folder: Path, least: int) -> Photos:
    if len(photos) < least:
        name, why = next(iter(photos.rejected.items()), ("", "nothing was found"))
        raise InputError(f"too few photos in {folder}: {name + ': ' if name else ''}{why}")
    return photos


def two_photos(a: str | Path | Bytes, b: str | Path | Bytes, cache: Path) -> Photos:
    """Read two files or images (height, width, 3) uint8 RGB, in this order; images are called a.png and b.png."""
    files = [
        image if isinstance(image, str | Path) else write_images({name: image}, cache) / name
        for name, image in (("a.png", a), ("b.png", b))
    ]
    return single_photos(*files)


def write_images(images: Mapping[str, Any], cache: Path) -> Path:
    """Write images as PNG files, unless they are there already; returns their folder."""
    pixels = {name: checked_image(name, image) for name, image in sorted(images.items())}
    folder = cache / FOLDER / _content(pixels)
    if folder.is_dir():
        with suppress(OSError):
            os.utime(folder)  # when it was used last, for `prune_images`
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
        try:
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
                list(pool.map(lambda item: _save(new / item[0], item[1]), pixels.items()))
            new.rename(folder)  # complete or not there, whatever happens in between
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        if not folder.is_dir():  # or else another run has just written the same
            raise StoreError(f"images cannot be written to {folder.parent}: {error.strerror or error}") from error
    return folder


def image_folders(cache: Path) -> list[tuple[Path, int, float]]:
    """Folders of images that were in memory: each with its bytes and when it was used last, the latest first."""
    found = []
    for folder in (cache / FOLDER).glob("*"):
        with suppress(OSError):  # another run has just removed it
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            found.append((folder, size, folder.stat().st_mtime))
    return sorted(found, key=lambda row: (-row[2], row[0].name))


def prune_images(cache: Path, *, keep_bytes: int | None = None, older_than: float | None = None) -> tuple[int, int]:
    """Remove folders of images that no run has used for `older_than` seconds, then the least recently used until
    `keep_bytes` are left; all without either. Gives their number and bytes. A run that is given the images again writes
    them again."""
    horizon = float("inf") if keep_bytes is None and older_than is None else -float("inf")
    if older_than is not None:
        horizon = time.time() - older_than
    kept = removed = freed = 0
    for folder, size, used in image_folders(cache):
        if used < horizon or (keep_bytes is not None and kept + size > keep_bytes):
            shutil.rmtree(folder, ignore_errors=True)
            removed, freed = removed + 1, freed + size
        else:
            kept += size
    return removed, freed


def _common_folder(paths: Iterable[object], masks: Path | None) -> tuple[Path, list[str]]:
    """The folder that files and folders have in common, and the names below it of these files and of what looks like a
    photo or a video in these folders."""
    given: list[Path] = []
    for path in paths:
        if not isinstance(path, str | Path):
            raise InputError(f"a list of photos holds files or images, not both: {type(path).__name__} beside a path")
        given.append(Path(path).expanduser().absolute())
        if not given[-1].is_dir() and not given[-1].is_file():
            raise InputError(f"{path}: no such file or folder")
    if len(set(given)) < len(given):
        twice = next(path for path in given if given.count(path) > 1)
        raise InputError(f"{twice} is in the list of photos twice")
    try:
        folder = Path(os.path.commonpath([path if path.is_dir() else path.parent for path in given]))
    except ValueError:  # different drives
        raise InputError("the photos have no folder in common: put them on one drive") from None
    files: list[Path] = []
    for path in given:
        below = [path / name for name in files_below(path, skip=masks)] if path.is_dir() else [path]
        if not below:
            raise InputError(f"{path}: no photos or videos in this folder: leave it out")
        files += below
    return folder, [path.relative_to(folder).as_posix() for path in dict.fromkeys(files)]


def _png_name(name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
        raise InputError(f"{name!r} cannot be the name of an image: expected a relative path such as left/0001.png")
    return name if path.suffix.lower() == ".png" else f"{name}.png"


def checked_image(name: str, image: Any) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        size = " x ".join(map(str, pixels.shape)) or "a scalar"
        raise InputError(f"image {name}: expected height x width x 3 of uint8, RGB; got {size} of {pixels.dtype}")
    return np.ascontiguousarray(pixels)


def _content(images: Mapping[str, NDArray[np.uint8]]) -> str:
    digest = hashlib.blake2b(digest_size=20)
    for name, pixels in images.items():
        digest.update(f"{name}\n{pixels.shape}\n".encode())
        digest.update(pixels.data)
    return digest.hexdigest()


def _save(file: Path, pixels: NDArray[np.uint8]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, compress_level=1)  # three times as fast as the default, and 6 % larger
