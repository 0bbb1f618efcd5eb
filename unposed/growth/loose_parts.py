"""Parts of a model that no pair holds together any more, since photos were taken out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unposed.optim.arrays import Index
from unposed.optim.mapping.spanning_forest import rooted
from unposed.retrieval.scene_graph import NOTHING_JOINS

from .mapped_anew import VIEW_GRAPH
from .warm_run import WarmResult


def with_loose_parts(warnings: Sequence[str], result: WarmResult) -> list[str]:
    """The warnings about a run after photos were taken out. That parts are to become models is none of them, as they
    stay in one."""
    if VIEW_GRAPH not in result.graph.nodes:
        return list(warnings)
    pairs = np.asarray(result.run.value(VIEW_GRAPH).pairs, np.int64)
    parts = [part_sizes(pairs, model.photos.astype(np.int64)) for model in result.sparse.models if model.rigs is None]
    loose = [sizes for sizes in parts if len(sizes) > 1]
    if not loose:
        return list(warnings)
    said = [
        f"no pair holds the parts of {', '.join(map(str, sizes))} photos together any more: they stay as they lay to "
        "each other, and photos from between would hold them"
        for sizes in loose
    ]
    return [*said, *(each for each in warnings if not each.startswith(NOTHING_JOINS))]


def part_sizes(pairs: Index, photos: Index) -> list[int]:
    """Photos in each connected part of the graph of pairs (e, 2) between these photos (p,), which are in order; the
    largest first."""
    inside = np.isin(pairs, photos).all(axis=1)
    tree = rooted(len(photos), np.searchsorted(photos, pairs[inside]))[2]
    return sorted(np.bincount(tree).tolist(), reverse=True)
