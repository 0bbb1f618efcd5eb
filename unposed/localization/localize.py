"""Localize photos in a finished reconstruction, which stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Unpack

from unposed.pipeline.artifacts import Camera, Photo, Photos
from unposed.pipeline.config import build
from unposed.pipeline.errors import InputError
from unposed.pipeline.progress import Progress
from unposed.pipeline.registry import Registry
from unposed.pipeline.threads import hold_this_thread, one_thread_each

from ..loading import load
from ..options import DEFAULTS, RunChanges, RunOptions, Settings
from ..output import SUMMARY, locked_folder, publish, settled
from ..photo_sources import PhotoSource, collect
from ..reconstruction import Reconstruction
from ..run_log import RunLog
from ..run_setup import workplace
from ..settings import built_options
from .camera_guess import CameraSource
from .files import write_localizations
from .localizer import Localizer
from .options import LocalizationOptions
from .prepare import make_localizer
from .result import Localization

STEP = "localize"
"""Name of the work in events of progress."""


def localize(
    out: str | Path | Reconstruction,
    photos: PhotoSource,
    folder: str | Path | None = None,
    *,
    camera: CameraSource = "auto",
    intrinsics: str | Path | None = None,
    settings: Settings = (),
    photos_folder: str | Path | None = None,
    options: RunOptions = DEFAULTS,
    **changes: Unpack[RunChanges],
) -> dict[str, Localization]:
    """Localize photos in the finished reconstruction in `out`; gives what was found by name of the photo.

    photos: as of `reconstruct`, and one photo will do.
    folder: receives poses.json, and for each model k poses-k.txt (TUM) and sparse/k (COLMAP text) of the photos that
    fit one place.
    camera: `auto` takes the camera of the model's photos of the same kind, or another if that explains more; `model`
    that camera; `free` estimates focal length and distortion, whatever is known.
    intrinsics: file of known intrinsics, as of `reconstruct`.
    settings: options of `unposed.localization.options`, such as `partners=20`.
    photos_folder: the photos of the model, if they have moved.
    options: how to run; its fields may also be given as keywords.
    """
    made = out if isinstance(out, Reconstruction) else load(out, photos_folder)
    how = built_options(LocalizationOptions, settings, "localize")
    if folder is not None and (settled(Path(folder)) / SUMMARY).exists():
        raise InputError(f"{folder} holds a reconstruction, which would be replaced: give another folder with -o")
    with workplace(options.merged(changes)) as (place, shown), RunLog(None, shown) as log:
        collection, root = collect(photos, place.cache, verify=place.options.verify_photos, least=1)
        known = {} if intrinsics is None else _given(collection, Path(intrinsics))
        with place.open_store(log.note) as store, one_thread_each():
            localizer = make_localizer(
                made, store, place.resources, camera=camera, options=how, seed=place.options.seed, progress=log
            )
        found = _all(localizer, collection, known, place.resources.threads, log)
        for name, why in collection.rejected.items():
            found.append(Localization(Photo(name, root / name, "", 0, 0), (), f"not read: {why}"))
    if folder is not None:
        with locked_folder(Path(folder)) as new:
            write_localizations(found, new)
            written = {file.name for file in new.iterdir()}
            publish(new, Path(folder))
            for older in Path(folder).glob("poses-*.txt"):  # of models in which nothing was found this time
                if older.name not in written:
                    older.unlink()
    return {each.photo.name: each for each in sorted(found, key=lambda each: each.photo.name)}


def _all(
    localizer: Localizer, photos: Photos, known: Mapping[str, Camera], threads: int, progress: Progress
) -> list[Localization]:
    """Localize every photo, several at a time."""

    def one(photo: Photo) -> Localization:
        hold_this_thread()
        return localizer.localize(photo, known.get(photo.name))

    found = []
    progress.begin(STEP, len(photos), 0)
    with one_thread_each(), ThreadPoolExecutor(threads) as pool:
        for each in pool.map(one, photos.photos):
            progress.advance(STEP, each.pose is None)
            found.append(each)
    progress.end(STEP, 0.0)
    return found


def _given(photos: Photos, file: Path) -> dict[str, Camera]:
    """Known cameras by name of the photo."""
    stage: Any = build(Registry().find("cameras", "exif"), {"intrinsics": str(file)}, "cameras")
    priors = stage(photos)
    found = {
        photo.name: priors.cameras[own]
        for photo, own in zip(photos.photos, priors.camera_of_photo.tolist(), strict=True)
        if priors.focal_source[own] == "given"
    }
    if not found:
        raise InputError(f"{file}: knows the camera of none of the photos")
    return found
