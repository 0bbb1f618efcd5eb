"""What the refinement of one model begins with, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass

from unposed.optim.bundle.pose_priors import DepthPriors, PosePriors
from unposed.optim.bundle.problem import Bundle, IntrinsicsPrior
from unposed.optim.mapping.refinement import RefinementResult
from unposed.optim.view_graph import ViewGraph


@dataclass(frozen=True, eq=False)
class ModelStart:
    """Input of the refinement of one model."""

    bundle: Bundle
    prior: IntrinsicsPrior
    anchors: PosePriors | None
    depths: DepthPriors | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Refined:
    """One hypothesis of a model, refined."""

    start: ModelStart
    graph: ViewGraph
    """The edges that took part."""
    result: RefinementResult
