"""What a run has found so far, left in its folder for the viewer, and removed before the result is published."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from unposed.pipeline.artifacts import InitialModel, InitialModels, Photos, SparseModel
from unposed.pipeline.colmap_model import read_model, write_models
from unposed.pipeline.errors import InputError

from .output import LOCK, NEW
from .reconstruction import Reconstruction

SO_FAR = "so-far"
FOLDER = "photos.txt"
"""Where the photos are."""


def preview_of(photos: Photos, folder: Path, new: Path | None) -> Callable[[InitialModels], None]:
    """Writes models of photos in `folder` below that of the new result; does nothing where there is none."""
    return (lambda models: None) if new is None else partial(_write, photos, folder, new)


def discard(new: Path) -> None:
    """Remove it, since a result is to be published."""
    for name in (SO_FAR, f".{SO_FAR}"):
        shutil.rmtree(new / name, ignore_errors=True)


def folder_so_far(out: Path) -> Path:
    """Where it is, if there is any."""
    return out / NEW / SO_FAR


def at_work(out: Path) -> bool:
    """Whether a run that has found something holds the folder; one that was killed has left it behind."""
    if not folder_so_far(out).exists():
        return False
    try:
        with FileLock(out / LOCK, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def load_so_far(out: Path, photos: str | Path | None) -> Reconstruction:
    """The models that a run at work in `out` has found; InputError if they are gone, since the run has ended."""
    place = folder_so_far(out)
    try:
        folder = place.joinpath(FOLDER).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        raise InputError(f"{out}: no run is at work in it") from None
    found = [read_model(each) for each in place.joinpath("sparse").iterdir()]
    with suppress(InputError):  # frames of a video, and photos of a list of files, are in no folder
        return Reconstruction.from_pycolmap(found, photos or folder)
    return Reconstruction.from_pycolmap(found)


def _write(photos: Photos, folder: Path, new: Path, models: InitialModels) -> None:
    """Complete or not at all: what is read has been renamed. A preview is no reason to end a run."""
    discard(new)
    aside = new / f".{SO_FAR}"
    try:
        aside.mkdir()
        write_models([_with_points(each) for each in models.models], photos, aside / "sparse")
        (aside / FOLDER).write_text(str(folder.absolute()), encoding="utf-8", errors="surrogateescape")
        aside.rename(new / SO_FAR)
    except Exception:  # pycolmap raises many kinds
        discard(new)


def _with_points(model: InitialModel) -> SparseModel:
    """The model itself, or with none."""
    if isinstance(model, SparseModel):
        return model
    none = np.zeros(0, np.int64)
    return SparseModel(
        cameras=model.cameras,
        photos=model.photos,
        camera_of_photo=model.camera_of_photo,
        cam_from_world=model.cam_from_world,
        xy=np.zeros((0, 2)),
        xy_start=np.zeros(len(model.photos) + 1, np.int64),
        points=np.zeros((0, 3)),
        rgb=np.zeros((0, 3), np.uint8),
        error_px=np.zeros(0),
        obs_xy=none,
        obs_point=none,
    )
