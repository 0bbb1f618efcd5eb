"""Photos that come to a model: their features in the store, where they were taken, and with whom they are matched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from unposed.pipeline.artifacts import Camera, Photo, Photos
from unposed.pipeline.engine import Run, run
from unposed.pipeline.errors import NoReconstruction
from unposed.pipeline.graph import PHOTOS, Graph
from unposed.pipeline.progress import Progress
from unposed.pipeline.store.store import Store
from unposed.retrieval.photo_votes import VoteTable, photo_votes

from ..localization.localizer import Localizer
from ..localization.model_map import largest_unit_rows, model_vote_table
from ..localization.node_values import nodes_over_photos
from ..localization.result import Localization
from ..run_setup import Workplace
from .warm_run import name_pair


def localized_photos(
    localizer: Localizer,
    photos: Sequence[Photo],
    cameras: Mapping[str, Camera],
    place: Workplace,
    store: Store,
    progress: Progress,
) -> list[Localization]:
    """Localize photos whose features go to the store; `cameras`: those that are known, by name of the photo."""
    views, lost = _values(localizer, photos, place, store, progress)

    def one(row: int) -> Localization:
        photo = photos[row]
        if photo.name in lost:
            return Localization(photo, (), f"its features could not be extracted: {lost[photo.name]}")
        return localizer.localize(photo, cameras.get(photo.name), partial(_stored, views, photo, row))

    with ThreadPoolExecutor(place.resources.threads) as pool:
        return list(pool.map(one, range(len(photos))))


def pairs_by_votes(
    localizer: Localizer,
    photos: Sequence[Photo],
    partners: int,
    place: Workplace,
    store: Store,
    progress: Progress,
    *,
    among: bool = False,
) -> set[tuple[str, str]]:
    """The most promising pairs of each photo, by names: with photos of the model, or `among` the photos themselves."""
    views, lost = _values(localizer, photos, place, store, progress)
    rows = [row for row, photo in enumerate(photos) if photo.name not in lost]
    if not rows or not partners:
        return set()
    count = localizer.options.compared_keypoints
    features = [views[localizer.appearance][row] for row in rows]
    own = [photos[row].name for row in rows]
    table: VoteTable = model_vote_table(features, count) if among else localizer.table
    others = own if among else [each.photo.name for each in localizer.model_map.photos]
    pairs = set()
    for name, each in zip(own, features, strict=True):
        votes = photo_votes(table, largest_unit_rows(each, count), background=localizer.options.usual_quantile)
        best = [others[k] for k in np.argsort(-votes, kind="stable").tolist() if others[k] != name]
        pairs |= {name_pair(name, other) for other in best[:partners]}
    return pairs


def _values(
    localizer: Localizer, photos: Sequence[Photo], place: Workplace, store: Store, progress: Progress
) -> tuple[dict[str, Any], dict[str, str]]:
    """Values of the nodes over photos that are matched and compared, by node; and photos without, with the reason."""
    graph = localizer.nodes.graph
    names = tuple(dict.fromkeys([localizer.appearance, *nodes_over_photos(graph, localizer.matching)]))
    collection = Photos(tuple(photos), {})
    try:
        done = run(Graph(graph.nodes, names, None), collection, store, resources=place.resources, progress=progress)
    except NoReconstruction as error:  # none of them has values; the photos of the model go on without
        lost = _reasons(error.run)
        if lost.keys() < {photo.name for photo in photos}:
            raise
        return {}, lost
    return {name: done.value(name) for name in names}, _reasons(done)


def _reasons(done: Run) -> dict[str, str]:
    """Why photos have no values, by name."""
    return {failure.photos[0]: failure.reason for failure in done.failures}


def _stored(views: Mapping[str, Any], photo: Photo, row: int, name: str) -> Any:
    return photo if name == PHOTOS else views[name][row]
