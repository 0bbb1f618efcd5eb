"""The refinement of MASt3R-SfM as published: Adam, until matched points meet in the photos."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.optim.pointmaps.first_order_alignment import (
    FINE_PHASE,
    FirstOrderProblem,
    alignment_result,
    run_adam,
)
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import (
    CameraPriors,
    Doubts,
    InitialModels,
    PairMatches,
    Photos,
    SparseModels,
    TwoViewGeometry,
)
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPair

from ..shared.first_order_chain import chain_of
from ..shared.models import (
    bundle_of,
    intrinsics_of_priors,
    reasons_left_out,
    sparse_model,
    triangulated_subset,
    without_doubts,
)

SCALE_TRACKS_PER_PHOTO = 150
"""Points that give the predicted depths of each photo their scale in the start."""


@dataclass(frozen=True)
class Adam:
    """First order, on depths of anchors, without tracks: the yardstick of fine.bundle."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 2

    iterations: Annotated[int, Within("[1, inf)")] = FINE_PHASE.iterations
    rate: Annotated[float, Within("(0, 1]")] = FINE_PHASE.rate
    principal: bool = FINE_PHASE.principal
    """Free as published, though nothing holds it: held, rotations are several times as exact where it is central."""
    depth: bool = FINE_PHASE.depth
    """Whether the depths of the anchors move as well."""
    tracks_per_photo: Annotated[int, Within("[20, inf)")] = 1000
    """Points of the result, made of the matches when the cameras are found."""

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        matching: PerPair[PairMatches],
        verification: PerPair[TwoViewGeometry],
        coarse: InitialModels,
        doubts: Doubts | None = None,
    ) -> SparseModels:
        graph = without_doubts(view_graph, doubts)
        intrinsics = intrinsics_of_priors(cameras, graph.unit_px)
        phase = replace(
            FINE_PHASE, iterations=self.iterations, rate=self.rate, principal=self.principal, depth=self.depth
        )
        models = []
        for model in coarse.models:
            own = graph.among(np.isin(np.arange(len(photos)), model.photos))
            bundle, theirs = bundle_of(model, len(photos), intrinsics)
            subset = triangulated_subset(
                own, theirs.with_values(bundle.intrinsics), bundle.cam_from_world, SCALE_TRACKS_PER_PHOTO
            )
            chain = chain_of(model.photos.tolist(), graph.pairs, matching, verification)
            problem = FirstOrderProblem(chain.matched, chain.tree)
            start = problem.state_of(*chain.start(sparse_model(subset, graph.keypoints)))
            state, losses = run_adam(problem, start, phase)
            found = alignment_result(problem, state, losses)
            poses = chain.poses(found, len(photos))
            bundle = triangulated_subset(own, chain.intrinsics(found, intrinsics), poses, self.tracks_per_photo)
            models.append(sparse_model(bundle, graph.keypoints))
        return SparseModels(tuple(models), reasons_left_out(graph, models), coarse.warnings)
