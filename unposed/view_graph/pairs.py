"""Rank, match and verify the pairs of a collection as a preset does, without a reconstruction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import Doubts, Photos, Ranking, TwoViewGeometry
from unposed.pipeline.engine import Run
from unposed.pipeline.errors import ConfigError, InputError
from unposed.pipeline.graph import Graph
from unposed.pipeline.ports import fits
from unposed.pipeline.registry import Registry
from unposed.pipeline.stage import Grain

from ..clip_pairs import holds_clips
from ..options import DEFAULTS, RunChanges, RunOptions, Settings
from ..photo_sources import PhotoSource, collect
from ..run_log import RunLog
from ..run_setup import checked_graph, chosen_preset, workplace
from .pair_table import PairFacts, PairTable


def pairs(
    photos: PhotoSource,
    out: str | Path | None = None,
    *,
    preset: str | Path = "auto",
    settings: Settings = (),
    masks: str | Path | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    options: RunOptions = DEFAULTS,
    **changes: Unpack[RunChanges],
) -> PairTable:
    """Rank, match and verify photos as `reconstruct` with this preset does, and list their pairs.

    out: folder that receives similarity.png and graph.png, the similarity matrix and the view graph.
    The other options are those of `reconstruct`, which reuses the results.
    """
    with workplace(options.merged(changes)) as (place, shown), RunLog(None, shown) as log:
        checked = partial(checked_graph, chosen_preset(preset), settings, registry=Registry())
        checked(clips=True)  # before any photo is read, and without knowing whether there are clips
        found, _ = collect(
            photos,
            place.cache,
            include=include,
            exclude=exclude,
            masks=masks,
            verify=place.options.verify_photos,
        )
        graph = place.affordable(checked(clips=holds_clips(found)), log.note)
        wanted = tuple(filter(None, (_last(graph, Ranking), *_verifying(graph), _last(graph, Doubts))))
        place, found = place.fitting(graph, found, log.note)
        with place.open_store(log.note) as store:
            done = place.run(replace(graph, outputs=wanted), found, store, log)
            table = PairTable(found, _facts(graph, found, done), _copies(found), done.lost_photos)
    if out is not None:
        from .drawings import graph_drawing, similarity_drawing

        try:
            Path(out).mkdir(parents=True, exist_ok=True)
            similarity_drawing(table).save(Path(out) / "similarity.png")
            graph_drawing(table).save(Path(out) / "graph.png")
        except OSError as error:
            raise InputError(f"{out} cannot be written: {error.strerror or error}") from error
    return table


def _last(graph: Graph, kind: type) -> str | None:
    """The last node with this result, which a mapper would read."""
    over = (Grain.COLLECTION, Grain.PAIR)
    giving = [n for n, node in graph.nodes.items() if node.ports.grain in over and fits(node.ports.result, kind)]
    return giving[-1] if giving else None


def _verifying(graph: Graph) -> tuple[str, ...]:
    """The nodes whose verified pairs make up the view graph, or the last one where there is no view graph."""
    builder, last = _last(graph, ViewGraph), _last(graph, TwoViewGeometry)
    read = [graph.nodes[source] for source in graph.nodes[builder].reads] if builder else []
    over_pairs = (node for node in read if node.ports.grain is Grain.PAIR)
    found = tuple(node.name for node in over_pairs if fits(node.ports.result, TwoViewGeometry))
    return found or ((last,) if last else ())


def _facts(graph: Graph, photos: Photos, done: Run) -> tuple[PairFacts, ...]:
    ranking, doubts = (
        None if node is None else done.value(node) for node in (_last(graph, kind) for kind in (Ranking, Doubts))
    )
    nodes = _verifying(graph)
    if not nodes:
        raise ConfigError("this preset has no stage that verifies pairs one by one, so there is nothing to list")
    similarity = _by_pair(ranking.pairs, ranking.similarity) if ranking else {}
    chosen = {(a, b) for name in nodes for a, b in done.value(str(graph.nodes[name].edges)).pairs.tolist()}
    geometries = [done.value(name) for name in nodes]
    reasons = _by_pair(doubts.pairs, doubts.reasons) if doubts else {}
    facts = []
    for a, b in sorted({*similarity, *chosen}):
        found = [each[a, b] for each in geometries if (a, b) in each]
        geometry = max(found, key=_verified, default=None)  # as the view graph takes the better one
        alike = similarity.get((a, b))
        facts.append(
            PairFacts(
                photos=(photos[a].name, photos[b].name),
                similarity=None if alike is None else round(float(alike), 6),
                chosen=(a, b) in chosen,
                matches=0 if geometry is None else len(geometry.inliers),
                verified=0 if geometry is None else _verified(geometry),
                kind="none" if geometry is None else geometry.kind,
                doubt=reasons.get((a, b), ""),
            )
        )
    return tuple(facts)


def _verified(geometry: TwoViewGeometry) -> int:
    return 0 if geometry.kind == "none" else int(np.sum(geometry.inliers))


def _by_pair(pairs: Any, values: Iterable[Any]) -> dict[tuple[int, int], Any]:
    return {(a, b): value for (a, b), value in zip(pairs.tolist(), values, strict=True)}


def _copies(photos: Photos) -> tuple[tuple[str, ...], ...]:
    names: dict[str, list[str]] = {}
    for photo in photos.photos:
        names.setdefault(photo.content, []).append(photo.name)
    return tuple(tuple(same) for same in names.values() if len(same) > 1)
