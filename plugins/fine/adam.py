"""Refinement of MASt3R-SfM as published: Adam on reprojection errors of matched points."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.optim.pointmaps.first_order_alignment import (
    FINE_PHASE,
    FirstOrderOptions,
    FirstOrderProblem,
    alignment_result,
    run_adam,
)
from unposed.optim.pointmaps.kinematic_tree import KinematicTreeOptions
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
from unposed.pipeline.stage import Grain, PerPair, Resources

from ..shared.first_order_chain import chain_of
from ..shared.models import (
    TriangulatedSubsetOptions,
    initial_bundle,
    intrinsics_of_priors,
    reasons_left_out,
    sparse_model,
    triangulated_subset,
    without_doubts,
)


@dataclass(frozen=True)
class FineAdam(TriangulatedSubsetOptions):
    """First-order refinement of the depths at anchors, without tracks: the baseline of fine.bundle."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 3

    iterations: Annotated[int, Within("[1, inf)")] = FINE_PHASE.iterations
    """Steps of Adam."""
    rate: Annotated[float, Within("(0, 1]")] = FINE_PHASE.rate
    """Initial learning rate; it falls to zero along a cosine."""
    gamma: Annotated[float, Within("(0, inf)")] = FINE_PHASE.gamma
    """Exponent of the loss of the reprojection errors."""
    principal: bool = FINE_PHASE.principal
    """Whether principal points are free, as published, though nothing constrains them: constant ones give rotations
    several times as exact where they are central."""
    depth: bool = FINE_PHASE.depth
    """Whether the depths of the anchors are free as well."""
    tracks_per_photo: Annotated[int, Within("[20, inf)")] = 1000
    """Points of the result, triangulated under the refined poses; long tracks first."""
    scale_subset: TriangulatedSubsetOptions = field(default_factory=TriangulatedSubsetOptions)
    """Points that determine the initial scale of the predicted depths of each photo."""
    bounds: FirstOrderOptions = field(default_factory=FirstOrderOptions)
    """Bounds of focal lengths and projections, and the weight of predicted points."""
    tree: KinematicTreeOptions = field(default_factory=KinematicTreeOptions)
    """The tree along which poses are relative to each other."""

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        matching: PerPair[PairMatches],
        verification: PerPair[TwoViewGeometry],
        coarse: InitialModels,
        resources: Resources,
        doubts: Doubts | None = None,
    ) -> SparseModels:
        graph = without_doubts(view_graph, doubts)
        intrinsics = intrinsics_of_priors(cameras, graph.keypoint_error_px)
        phase = replace(
            FINE_PHASE,
            iterations=self.iterations,
            rate=self.rate,
            gamma=self.gamma,
            principal=self.principal,
            depth=self.depth,
        )
        models = []
        for model in coarse.models:
            own = graph.among(np.isin(np.arange(len(photos)), model.photos))
            bundle, theirs = initial_bundle(model, len(photos), intrinsics)
            subset = triangulated_subset(
                own, theirs.with_values(bundle.intrinsics), bundle.cam_from_world, self.scale_subset
            )
            chain = chain_of(model.photos.tolist(), graph.pairs, matching, verification, self.tree)
            problem = FirstOrderProblem(chain.matched, chain.tree, self.bounds)
            start = problem.state_of(*chain.start(sparse_model(subset, graph.keypoints)))
            state, losses = run_adam(problem, start, phase, resources.report)
            found = alignment_result(problem, state, losses)
            poses = chain.poses(found, len(photos))
            bundle = triangulated_subset(own, chain.intrinsics(found, intrinsics), poses, self)
            models.append(sparse_model(bundle, graph.keypoints))
        return SparseModels(tuple(models), reasons_left_out(graph, models), coarse.warnings)
