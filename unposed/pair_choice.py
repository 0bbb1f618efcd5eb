"""Which photos a preset takes to see the same thing, pair by pair, without reconstructing anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unposed.pipeline.artifacts import Doubts, Photos, Ranking, SceneGraph, TwoViewGeometry
from unposed.pipeline.engine import Run, run
from unposed.pipeline.errors import ConfigError, InputError
from unposed.pipeline.graph import Graph
from unposed.pipeline.images.photos import scan
from unposed.pipeline.ports import fits
from unposed.pipeline.progress import Progress, Quiet
from unposed.pipeline.resources import machine
from unposed.pipeline.stage import Grain
from unposed.pipeline.store.store import Store, default_folder

from .pair_table import PairFacts, PairTable
from .reconstruction import checked_graph, chosen_executor, chosen_preset

STEPS = (Ranking, SceneGraph, TwoViewGeometry, Doubts)
"""What is asked of the preset."""


def pairs(
    photos: str | Path,
    out: str | Path | None = None,
    *,
    preset: str | Path = "auto",
    settings: Iterable[str] | Mapping[str, Any] = (),
    masks: str | Path | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    executor: str = "local",
    workers: int | None = None,
    ram_bytes: int | None = None,
    vram_bytes: int | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> PairTable:
    """Rank, match and verify the photos in a folder as `reconstruct` with this preset would.

    With `out`, similarity.png and graph.png are drawn there, a matrix and the verified scene graph. What is computed
    here need not be computed again by `reconstruct`.
    """
    resources, workplace = machine(device, workers, ram_bytes, vram_bytes), chosen_executor(executor)
    with closing(progress or Quiet()) as shown:
        graph = checked_graph(chosen_preset(preset, resources.device), settings)
        wanted = tuple(node for node in (_last(graph, kind) for kind in STEPS) if node)
        found = scan(photos, include=include, exclude=exclude, masks=masks)
        with Store(default_folder() if cache is None else Path(cache), report=shown.note) as store:
            done = run(replace(graph, outputs=wanted), found, store, workplace, resources, shown, seed)
            table = PairTable(found, _facts(graph, found, done), _copies(found))
    if out is not None:
        from .pictures import graph_picture, similarity_picture

        try:
            Path(out).mkdir(parents=True, exist_ok=True)
            similarity_picture(table).save(Path(out) / "similarity.png")
            graph_picture(table).save(Path(out) / "graph.png")
        except OSError as error:
            raise InputError(f"{out} cannot be written: {error.strerror or error}") from error
    return table


def _last(graph: Graph, kind: type) -> str | None:
    """The last node that gives this, of the pairs or the collection; the one a mapper would read."""
    over = (Grain.COLLECTION, Grain.PAIR)
    giving = [n for n, node in graph.nodes.items() if node.ports.grain in over and fits(node.ports.result, kind)]
    return giving[-1] if giving else None


def _facts(graph: Graph, photos: Photos, done: Run) -> tuple[PairFacts, ...]:
    ranking, edges, verification, doubts = (
        None if node is None else done.value(node) for node in (_last(graph, kind) for kind in STEPS)
    )
    if verification is None:
        raise ConfigError("this preset has no stage that verifies pairs one by one, so there is nothing to list")
    similarity = _by_pair(ranking.pairs, ranking.similarity) if ranking else {}
    chosen = _by_pair(edges.pairs, edges.similarity) if edges else {}
    reasons = _by_pair(doubts.pairs, doubts.reasons) if doubts else {}
    facts = []
    for a, b in sorted({*similarity, *chosen}):
        geometry = verification.get((a, b))
        alike = similarity.get((a, b))
        facts.append(
            PairFacts(
                photos=(photos[a].name, photos[b].name),
                similarity=None if alike is None else round(float(alike), 6),
                chosen=(a, b) in chosen,
                matches=0 if geometry is None else len(geometry.inliers),
                verified=0 if geometry is None else int(np.sum(geometry.inliers)),
                kind="none" if geometry is None else geometry.kind,
                doubt=reasons.get((a, b), ""),
            )
        )
    return tuple(facts)


def _by_pair(pairs: Any, values: Iterable[Any]) -> dict[tuple[int, int], Any]:
    return {(a, b): value for (a, b), value in zip(pairs.tolist(), values, strict=True)}


def _copies(photos: Photos) -> tuple[tuple[str, ...], ...]:
    names: dict[str, list[str]] = {}
    for photo in photos.photos:
        names.setdefault(photo.content, []).append(photo.name)
    return tuple(tuple(same) for same in names.values() if len(same) > 1)
