"""Where new photos are tied to another model, or to what is in none, all is mapped anew: going on does not join them.

A photo is localized by points, which two photos of the model have to show. Where each of several photos sees what one
other shows, as on the far side of a ring, none has such points before the others are there. Nor does going on find
other poses or another focal length than a few photos had let pass: where the verdict warns, all is mapped anew, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from unposed.pipeline.errors import NoReconstruction
from unposed.pipeline.graph import build_graph
from unposed.pipeline.registry import Registry
from unposed.pipeline.store.store import Store

from ..run_log import RunLog
from ..run_setup import Workplace
from .warm_run import WarmResult, WarmStart, in_old_frames

VIEW_GRAPH = "view_graph"


def mapped_anew_if_better(
    result: WarmResult,
    start: WarmStart,
    new: Collection[str],
    settings: Mapping[str, Any],
    place: Workplace,
    store: Store,
    log: RunLog,
    *,
    suspected: bool = False,
) -> WarmResult | None:
    """What the preset makes of all photos, features and pairs from the store, in the old frames.

    None where the verdict about the largest model does not warn, what it goes on from is not `suspected` to be wrong
    and no verified pair of a new photo leads out of its model, or out of none; where a photo is lost; or where nothing
    is gained: no photo, no model that two have become, and no better verdict where it warns or there was suspicion.
    """
    before = _model_of_photo(result, start)
    doubted, probability = _verdict(result)
    doubted |= suspected
    if not new or not (doubted or _leads_outside(result, start, new, before)):
        return None
    graph = build_graph(settings, Registry())
    try:
        done = place.run(graph, start.photos, store, log)
    except NoReconstruction:
        return None
    if done.sparse is None:
        return None
    anew = in_old_frames(start, done.sparse, graph, done)
    after = _model_of_photo(anew, start)
    models, models_anew = len(result.sparse.models), len(anew.sparse.models)
    surer = doubted and models_anew <= models and _verdict(anew)[1] > probability
    gained = after.keys() > before.keys() or models_anew < models or surer
    if not gained or not after.keys() >= before.keys():
        return None
    log.note("all photos were mapped anew, which registers more, joins models or is surer")
    return anew


def _verdict(result: WarmResult) -> tuple[bool, float]:
    """Whether the verdict about the largest model warns, and its probability; no and 0 where there is none."""
    verdict = result.sparse.reports[0].verdict if result.sparse.reports else None
    return (False, 0.0) if verdict is None else (not verdict.trusted, verdict.probability)


def _model_of_photo(result: WarmResult, start: WarmStart) -> dict[str, int]:
    """Of registered photos, by name."""
    photos, models = start.photos, result.sparse.models
    return {photos[index].name: number for number, model in enumerate(models) for index in model.photos.tolist()}


def _leads_outside(result: WarmResult, start: WarmStart, new: Collection[str], models: Mapping[str, int]) -> bool:
    """Whether a verified pair of a new photo has photos in two models, or one in none."""
    if VIEW_GRAPH not in result.graph.nodes:
        return False
    names = [photo.name for photo in start.photos.photos]
    is_new, model = np.array([name in new for name in names]), np.array([models.get(name, -1) for name in names])
    pairs = result.run.value(VIEW_GRAPH).pairs
    a, b = model[pairs].T
    return bool((is_new[pairs].any(axis=1) & ((a != b) | (a < 0))).any())
