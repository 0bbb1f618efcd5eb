"""Intake: a folder becomes a collection. Headers are read, and the content of files that changed; pixels are not."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from ..artifacts import Photo, Photos
from ..errors import InputError
from .decoding_memory import decoding_bytes
from .exif import read_exif
from .image_file import ADVICE, SUFFIXES, UnreadableImage, frames, open_image
from .known_contents import KnownContents, stamp
from .panoramas import VIEWS, is_panorama, views_of

RESULT = {"summary.json", "run.log"}
"""Files of a folder that a run has written."""


def scan(
    folder: Path | str,
    *,
    names: Iterable[str] | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    masks: Path | str | None = None,
    known: KnownContents | None = None,
    least: int = 2,
) -> Photos:
    """All photos at or below folder, sorted by name; hidden files and folders, and results of runs, are passed over.

    Panoramas of all directions are cut into views, which are photos that are named below it: pano.jpg/front.
    names: the files to read, by path below the folder, or views of them; None: every file that looks like a photo.
    include, exclude: shell patterns. One with a slash is held against the whole name (`left/*`), one without against
    its last part (`*.png`). An empty include takes everything.
    masks: folder of masks named as the photos are, with `.png` appended (a/b.jpg.png) or as the suffix (a/b.png).
    known: what earlier runs have read; None: every file is read.
    least: photos that must be usable, else InputError.
    """
    root, known = _folder(folder, "photo folder"), known or KnownContents()
    mask_root = None if masks is None else _folder(masks, "mask folder")
    every = files_below(root, skip=mask_root) if names is None else {_file_of(root, name) for name in names}
    names = [name for name in sorted(every) if (not include or _matches(name, include)) and not _matches(name, exclude)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        outcomes = list(pool.map(lambda name: _read(root, name, mask_root, known), names))
    known.save()
    photos = tuple(sorted((photo for found in outcomes if not isinstance(found, str) for photo in found), key=_name))
    rejected = {n: outcome for n, outcome in zip(names, outcomes, strict=True) if isinstance(outcome, str)}
    _check(root, photos, rejected, least, filtered=bool(include or exclude))
    if mask_root is not None and not any(photo.mask for photo in photos):
        raise InputError(
            f"no mask in {mask_root} belongs to a photo: expected names such as {photos[0].name}.png, white shows"
        )
    return Photos(photos, rejected)


def single_photos(*files: Path | str) -> Photos:
    """These photos, in this order, under their own names. InputError names the first that cannot be used."""
    photos = []
    for file in map(Path, files):
        outcome = _read(file.parent, file.name, None, KnownContents()) if file.is_file() else "no such file"
        if isinstance(outcome, str):
            raise InputError(f"{file}: {outcome}")
        if len(outcome) > 1:
            raise InputError(f"{file}: a panorama of all directions, which only a reconstruction takes apart")
        photos += outcome
    return Photos(tuple(photos), {})


def _folder(path: Path | str, what: str) -> Path:
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise InputError(f"{what} {folder} is a file: give the folder that holds it")
    parent = folder.parent
    siblings = [p.name for p in parent.iterdir() if p.is_dir()] if parent.is_dir() else []
    near = get_close_matches(folder.name, siblings, n=1)
    hint = f": did you mean {parent / near[0]}?" if near else ""
    raise InputError(f"no such {what}: {folder}{hint}")


def files_below(root: Path, skip: Path | None = None) -> Iterator[str]:
    """Names of everything in reach that looks like a photo or could be taken for one.

    Links to folders are followed, each real folder once, so that a loop of links ends. Results of runs are passed over:
    their pictures are no photos; so is the folder `skip`, which holds masks.
    """
    visited = set() if skip is None or skip.samefile(root) else {_identity(skip)}
    for folder, folders, files in os.walk(root, followlinks=True):
        if _identity(Path(folder)) in visited:
            folders.clear()
            continue
        visited.add(_identity(Path(folder)))
        if Path(folder) != root and RESULT.issubset(files):
            folders.clear()
            continue
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
        for file in files:
            suffix = Path(file).suffix.lower()
            if not file.startswith(".") and (suffix in SUFFIXES or suffix in ADVICE):
                yield (Path(folder) / file).relative_to(root).as_posix()


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _matches(name: str, patterns: Sequence[str]) -> bool:
    last = name.rpartition("/")[2]
    return any(fnmatchcase(name if "/" in pattern else last, pattern) for pattern in patterns)


def _name(photo: Photo) -> str:
    return photo.name


def _file_of(root: Path, name: str) -> str:
    """The file that a photo is in, which is another one if it is a view of a panorama."""
    folder, _, view = name.rpartition("/")
    return folder if view in VIEWS and (root / folder).is_file() else name


def _read(root: Path, name: str, mask_root: Path | None, known: KnownContents) -> list[Photo] | str:
    """The photo, or the views of a panorama, or the reason why the file is neither."""
    if not name.isprintable():  # control characters, and bytes that are no UTF-8
        return "its name has characters that cannot be printed: rename it"
    path = root / name
    if advice := ADVICE.get(path.suffix.lower()):
        return advice
    if path.exists() and not path.is_file():
        return "not a file but a pipe, a device or the like"
    try:
        before = stamp(path)
        with open_image(path) as image:
            if (count := frames(image)) > 1:
                return f"an animation of {count} frames: save the frames as single photos"
            exif, orientation = read_exif(image)
            memory = decoding_bytes(image, before[0])
            width, height = image.size if orientation < 5 else image.size[::-1]
            panorama = orientation == 1 and is_panorama(image, exif)
        photo = Photo(name, path, known.content(path), width, height, orientation, exif, decoding_bytes=memory)
        if stamp(path) != before:  # or else the size of one file would stand beside the content of another
            return "it was changed while it was read: run again"
        mask = None if mask_root is None else _mask(mask_root, name)
        photo = photo if mask is None else replace(photo, mask=mask, mask_content=known.content(mask))
        return views_of(photo) if panorama else [photo]
    except UnreadableImage as error:
        return str(error)
    except MemoryError:
        return "there is no memory left to read its header"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _mask(mask_root: Path, name: str) -> Path | None:
    for candidate in (mask_root / f"{name}.png", (mask_root / name).with_suffix(".png")):
        if candidate.is_file():
            return candidate
    return None


def _check(root: Path, photos: Sequence[Photo], rejected: dict[str, str], least: int, filtered: bool) -> None:
    if len(photos) >= least:
        return
    found = "only one usable photo" if photos else "no photos"
    if rejected:
        name, reason = next(iter(rejected.items()))
        more = f" and {len(rejected) - 1} more" if len(rejected) > 1 else ""
        remedy = f"{name}{more} cannot be used: {reason}"
    elif filtered:
        remedy = "check the include and exclude patterns"
    elif photos:
        remedy = "at least two that overlap are needed"
    else:
        remedy = f"expected files that end in {', '.join(sorted(SUFFIXES))}"
    raise InputError(f"{found} in {root}: {remedy}")
