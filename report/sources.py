"""What a report is made of, as a run leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, Ints, Photos, Ranking, SparseModels


@dataclass(frozen=True, eq=False)
class ReportSources:
    """A finished run: its models and summary, and those intermediate results that are stored.

    None: the preset has no such stage, or the run ended before it. What is missing leaves out its panel, no more.
    """

    photos: Photos
    sparse: SparseModels
    summary: Mapping[str, Any]
    """The content of summary.json."""
    command: str
    """What repeats the run in a shell."""
    tried: Ints
    """(n, 2) photo indices a < b of all pairs that were matched, sorted."""
    ranking: Ranking | None = None
    view_graph: ViewGraph | None = None
    doubts: Doubts | None = None
    priors: CameraPriors | None = None

    def doubted(self) -> dict[tuple[int, int], str]:
        """Reason by doubted pair."""
        if self.doubts is None:
            return {}
        return {(a, b): why for (a, b), why in zip(self.doubts.pairs.tolist(), self.doubts.reasons, strict=True)}

    def trusted(self) -> tuple[Ints, Ints]:
        """Verified pairs (e, 2) that are not doubted, and their numbers of matches (e,)."""
        pairs, matches = self.verified()
        doubted = self.doubted()
        keep = np.array([(a, b) not in doubted for a, b in pairs.tolist()], bool)
        return pairs[keep], matches[keep]

    def verified(self) -> tuple[Ints, Ints]:
        """Verified pairs (e, 2), doubted ones included, and their numbers of matches (e,)."""
        if self.view_graph is not None:
            return np.asarray(self.view_graph.pairs).reshape(-1, 2), np.asarray(self.view_graph.match_count)
        reports = self.sparse.reports
        if not reports:
            return np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
        pairs = np.concatenate([np.asarray(each.pairs).reshape(-1, 2) for each in reports])
        return pairs, np.concatenate([np.asarray(each.matches) for each in reports])
