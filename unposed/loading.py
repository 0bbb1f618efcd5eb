"""Results of earlier runs, from their folders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unposed.pipeline.artifacts import Photos, SparseModels
from unposed.pipeline.colmap_files import keypoints_by_image
from unposed.pipeline.colmap_model import from_colmap, read_model
from unposed.pipeline.errors import InputError
from unposed.pipeline.images.photos import scan, single_photos
from unposed.pipeline.logs import module_logger
from unposed.pipeline.regular_files import read_text

from .output import settled
from .reconstruction import Reconstruction
from .summary_rules import summary_problem

LOG = module_logger(__name__)


def load(out: str | Path, photos: str | Path | None = None) -> Reconstruction:
    """Load the result that `reconstruct` wrote to `out`. `photos` is the photo folder, if it has moved."""
    out = settled(Path(out))
    summary = _read_summary(out)
    models = [out / model["model"] for model in summary["models"]]
    folder, masks = Path(photos or summary["photos_folder"]), summary["masks_folder"]
    reasons = {name: photo.get("reason") for name, photo in summary["photos"].items()}
    if photos is None and not folder.is_dir():
        raise InputError(f"{out}: its photos are no longer in {folder}: say where they are (--photos DIR)")
    files = {name: photo["file"] for name, photo in summary["photos"].items() if "file" in photo}
    if photos is not None:  # where these have moved, too
        files = {name: folder / name if not Path(file).exists() else file for name, file in files.items()}
    below = [name for name in reasons if name not in files]
    collection = scan(folder, names=below, masks=masks if masks and Path(masks).is_dir() else None, least=0)
    collection = with_files(collection, files)
    _require(collection, [name for name, why in reasons.items() if why is None], folder)
    if changed := _changed(collection, summary["photos"]):
        some = changed[0] if len(changed) == 1 else f"{changed[0]} and {len(changed) - 1} more"
        LOG.warning("changed since %s was made: %s; put the old ones back, or reconstruct again", out, some)
    sparse = tuple(from_colmap(read_model(model), collection, keypoints_by_image(model)) for model in models)
    left_out = {index: why for index, photo in enumerate(collection.photos) if (why := reasons[photo.name]) is not None}
    return Reconstruction(collection, SparseModels(sparse, left_out, tuple(summary["warnings"])), summary, out)


def with_files(photos: Photos, files: Mapping[str, str | Path]) -> Photos:
    """The collection with photos of other folders: their files by name."""
    found, rejected = list(photos.photos), dict(photos.rejected)
    for name, file in files.items():
        try:
            found.append(replace(single_photos(file)[0], name=name))
        except InputError as error:
            rejected[name] = str(error)
    return Photos(tuple(sorted(found, key=lambda photo: photo.name)), rejected)


def _read_summary(out: Path) -> dict[str, Any]:
    """The summary of a finished reconstruction. InputError if there is none, or it is not as `reconstruct` writes it:
    names in it are paths that are read, and written by exporters, so they stay within their folders."""
    file = out / "summary.json"
    if not out.is_dir():
        what = "a file" if out.exists() else "no such folder"
        raise InputError(f"{out}: {what}; give the folder that unposed reconstruct writes")
    try:
        summary = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError):
        what = f"{out}: no finished reconstruction (summary.json) in it"
        raise InputError(f"{what}; give the folder that unposed reconstruct writes") from None
    if isinstance(summary, dict):
        summary.setdefault("masks_folder", None)
    if (problem := summary_problem(summary)) is not None:
        raise InputError(f"{file}: {problem}")
    read: dict[str, Any] = summary
    return read


def _require(collection: Photos, registered: Sequence[str], folder: Path) -> None:
    """InputError if photos of the models are gone."""
    known = {photo.name for photo in collection.photos}
    if gone := [name for name in registered if name not in known]:
        why = collection.rejected.get(gone[0], "not there")
        what = f"{len(gone)} of {len(registered)} registered photos cannot be used, {gone[0]} for one: {why}"
        raise InputError(f"{folder}: {what}; if they are elsewhere, say where (--photos DIR)")


def _changed(collection: Photos, photos: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Photos of the models whose files have other bytes than when they were registered, by name."""
    now = {photo.name: photo.content for photo in collection.photos}
    return [name for name, each in photos.items() if "content" in each and now.get(name) not in (None, each["content"])]
