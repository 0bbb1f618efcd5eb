"""Doubts of a finished reconstruction, and about the pairs of a few new photos."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from unposed.optim.arrays import Array, Index
from unposed.optim.groups.layout import GroupLayout
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Photos
from unposed.pipeline.regular_files import read_text
from unposed.pipeline.stage import StageError

from .doppelgangers import Doppelgangers, DoubtedPairs


@dataclass(frozen=True)
class KnownDoubts(Doppelgangers):
    """Keeps the doubts of an earlier run, and searches the pairs of new photos, among these and their partners.

        {"photos": [names], "doubts": [[name, name, reason]], "rival_margin": number or null}

    Pairs of two photos that are listed are doubted if they were. `rival_margin` is the least one of the earlier run.
    """

    version: ClassVar[int] = 1

    known: Path = field(kw_only=True)
    """The file."""

    def searched(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        layout: GroupLayout | None = None,
    ) -> tuple[list[DoubtedPairs], Array]:
        said = read_doubts(self.known)
        names = [photo.name for photo in photos.photos]
        listed = set(said["photos"])
        new = np.array([name not in listed for name in names], bool)
        near = new.copy()
        near[view_graph.pairs[new[view_graph.pairs].any(axis=1)]] = True
        local, margin = super().searched(photos, cameras, view_graph.among(near), layout)
        found = [_only(each, np.flatnonzero(new[each.pairs].any(axis=1))) for each in local]
        index = {name: row for row, name in enumerate(names)}
        verified = {(int(a), int(b)) for a, b in view_graph.pairs}
        old = [(*sorted((index[a], index[b])), why) for a, b, why in said["doubts"] if a in index and b in index]
        old = [each for each in old if each[:2] in verified and not new[list(each[:2])].any()]
        pairs = np.array([each[:2] for each in old], np.int32).reshape(-1, 2)
        others = len(view_graph) - sum(each.tested for each in found)
        found.append(DoubtedPairs(pairs, tuple(each[2] for each in old), np.zeros(len(pairs)), others, np.inf))
        least = said["rival_margin"]
        return found, margin if least is None else np.where(new, margin, np.minimum(margin, least))


def read_doubts(file: Path) -> Mapping[str, Any]:
    """The content of a file of known doubts; StageError if it is none."""
    try:
        said: dict[str, Any] = json.loads(read_text(file))
        least = None if said["rival_margin"] is None else float(said["rival_margin"])
        doubts = [(str(a), str(b), str(why)) for a, b, why in said["doubts"]]
        return {"photos": [str(name) for name in said["photos"]], "doubts": doubts, "rival_margin": least}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise StageError(f"{file.name}: cannot be read as known doubts: {error}") from error


def _only(found: DoubtedPairs, rows: Index) -> DoubtedPairs:
    reasons = tuple(found.reasons[row] for row in rows.tolist())
    return replace(found, pairs=found.pairs[rows], reasons=reasons, matches=found.matches[rows])
