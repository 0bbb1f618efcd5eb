"""The names under which plugins are found, and what a plugin of each slot is."""

from __future__ import annotations

from dataclasses import dataclass
from types import UnionType

from unposed.optim.view_graph import ViewGraph

from .artifacts import (
    CameraPriors,
    Doubts,
    Features,
    InitialModels,
    PairMatches,
    Ranking,
    SceneGraph,
    SparseModels,
    Tokens,
    TwoViewGeometry,
)
from .stage import Grain


@dataclass(frozen=True)
class Slot:
    """A stage slot fixes the grain and the artifact; `export` and `executor` are no nodes of a graph."""

    grains: tuple[Grain, ...]
    gives: type | UnionType | None


SLOTS: dict[str, Slot] = {
    "cameras": Slot((Grain.COLLECTION,), CameraPriors),
    "features": Slot((Grain.PHOTO,), Features | Tokens),
    "retrieval": Slot((Grain.COLLECTION,), Ranking),
    "graph": Slot((Grain.COLLECTION,), SceneGraph),
    "matching": Slot((Grain.PAIR,), PairMatches),
    "verification": Slot((Grain.PAIR, Grain.GROUP), TwoViewGeometry),
    "view_graph": Slot((Grain.COLLECTION,), ViewGraph),
    "doubts": Slot((Grain.COLLECTION,), Doubts),
    "coarse": Slot((Grain.COLLECTION,), InitialModels),
    "fine": Slot((Grain.COLLECTION,), SparseModels),
    "export": Slot((), None),
    "executor": Slot((), None),
}
"""An export is called as (scenes: SparseModels, photos: Photos, folder: Path) -> None; for executors see
executor.py."""

STAGE_SLOTS = tuple(name for name, slot in SLOTS.items() if slot.grains)
