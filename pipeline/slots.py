"""The names under which plugins are found, and what a plugin of each slot is."""

from __future__ import annotations

from dataclasses import dataclass
from types import UnionType

from .artifacts import Cameras, Doubts, Features, LocalGeometry, PairMatches, Ranking, SceneGraph, Scenes, Tokens
from .stage import Grain


@dataclass(frozen=True)
class Slot:
    """A stage slot fixes the grain and the artifact; `export` and `executor` are no nodes of a graph."""

    grains: tuple[Grain, ...]
    gives: type | UnionType | None


SLOTS: dict[str, Slot] = {
    "cameras": Slot((Grain.COLLECTION,), Cameras),
    "features": Slot((Grain.PHOTO,), Features | Tokens),
    "retrieval": Slot((Grain.COLLECTION,), Ranking),
    "graph": Slot((Grain.COLLECTION,), SceneGraph),
    "matching": Slot((Grain.PAIR,), PairMatches),
    "verification": Slot((Grain.PAIR, Grain.GROUP), LocalGeometry),
    "doubts": Slot((Grain.COLLECTION,), Doubts),
    "coarse": Slot((Grain.COLLECTION,), Scenes),
    "fine": Slot((Grain.COLLECTION,), Scenes),
    "export": Slot((), None),
    "executor": Slot((), None),
}
"""An export is called as (scenes: Scenes, photos: Photos, folder: Path) -> None; for executors see executor.py."""

STAGE_SLOTS = tuple(name for name, slot in SLOTS.items() if slot.grains)
