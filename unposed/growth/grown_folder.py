"""A run about a folder that has grown goes on from the result that is there, where that is safe.

It is where the result is of the same request, its photos have not changed, all of them are in one model whose verdict
does not warn, and few are new. It is taken where all new photos are registered and the verdict does not warn then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unposed.pipeline.artifacts import Photos
from unposed.pipeline.errors import UnposedError
from unposed.pipeline.registry import Registry
from unposed.pipeline.store.keys import photo_key
from unposed.pipeline.store.store import Store

from .. import summary as facts
from ..loading import load
from ..reconstruction import Reconstruction
from ..run_log import RunLog
from ..run_setup import Workplace
from .add import Growth, GrowthOptions, grow, joined_photos, photos_added_since
from .warm_run import CAMERAS, warm_settings

SAME = ("photos_folder", "masks_folder", "settings", "effort", "seed", "versions", "weights")
"""What has to be as it was, of a summary."""
GIVEN_VALUES = ("poses", "rigs", "intrinsics")
"""Options of the cameras whose files may say something else by now."""


def gone_on(
    out: Path,
    collection: Photos,
    origin: Mapping[str, Any],
    started: facts.Clock,
    place: Workplace,
    store: Store,
    log: RunLog,
) -> Growth | None:
    """The result in `out` with the new photos of a collection; None where all is to be mapped anew.

    origin: what is requested, as summary.json has it.
    """
    made = result_to_go_on_from(out, collection, origin)
    if made is None:
        return None
    old = {photo.name for photo in made.photos.photos}
    joined = joined_photos(made.photos.photos, [photo for photo in collection.photos if photo.name not in old])
    how = GrowthOptions(anew=False)
    few = photos_added_since(made) + len(joined.new) <= how.max_new_share * made.summary["registered"]
    if not joined.new or joined.passed_over or not few:
        return None
    names = ", ".join(photo.name for photo in joined.new)
    log.note(f"going on from the result in {out}, which lacks {names} (--anew maps all anew)")
    made = replace(made, photos=replace(made.photos, rejected=collection.rejected))
    growth = grow(made, joined, (), how, started, place, store, log)
    grown = growth.made
    if len(grown.models) == 1 and len(grown[0]) == len(grown.photos) and _trusted(grown.summary):
        return replace(growth, made=replace(grown, summary={**grown.summary, **origin}))
    log.note("all photos are mapped anew: not every new one found its place in the result")
    return None


def result_to_go_on_from(out: Path, collection: Photos, origin: Mapping[str, Any]) -> Reconstruction | None:
    """The result in a folder, if it is of this request and all its photos are in the collection as they were."""
    try:
        made = load(out)
        warm_settings(made.summary["settings"], None, Registry())
    except (UnposedError, OSError, KeyError):  # no result, or a damaged one, is replaced
        return None
    there = {photo.name: photo_key(photo) for photo in collection.photos}
    summary = made.summary
    safe = (
        all(summary.get(key) == origin.get(key) for key in SAME)
        and not any(summary["settings"][CAMERAS].get(key) for key in GIVEN_VALUES)
        and all(there.get(photo.name) == photo_key(photo) for photo in made.photos.photos)
        and len(summary["models"]) == 1
        and len(made.sparse.models[0].photos) == len(made.photos)
        and _trusted(summary)
    )
    return made if safe else None


def _trusted(summary: Mapping[str, Any]) -> bool:
    """Whether the verdict about the only model is there and does not warn."""
    verdict = summary["models"][0].get("refinement", {}).get("verdict") or {}
    return verdict.get("trusted") is True
