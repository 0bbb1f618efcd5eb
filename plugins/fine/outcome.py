"""What becomes of one model in the fine stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unposed.optim.mapping.refinement import RefinementResult
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import InitialModel, Photos, RefinementReport, SparseModel

from ..shared.models import sparse_model
from .model_start import ModelStart
from .report import refinement_report, warning_about


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result of the refinement of one model."""

    model: SparseModel
    report: RefinementReport
    inconsistent: tuple[int, ...]
    """Photos whose given poses are inconsistent with their matches."""
    warnings: tuple[str, ...]

    @property
    def registered(self) -> bool:
        """Whether photos are registered: two at least."""
        return len(self.model.photos) >= 2


def outcome_of(
    initial: InitialModel,
    start: ModelStart,
    result: RefinementResult,
    inconsistent: Sequence[int],
    photos: Photos,
    graph: ViewGraph,
) -> Outcome:
    """The outcome of the refinement of an initial model."""
    model = sparse_model(result.bundle, graph.keypoints)
    warnings = [*start.warnings, *([warning_about(photos, np.array(inconsistent))] if inconsistent else [])]
    if len(model.photos) < 2:
        warnings.append(
            f"{len(initial.photos)} photos match each other but give no points: the camera hardly moved between them, "
            "or its given intrinsics are wrong"
        )
    report = refinement_report(result, graph, model)
    return Outcome(model, report, tuple(inconsistent), tuple(warnings))
