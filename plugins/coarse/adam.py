"""Coarse alignment of MASt3R-SfM as published: Adam on a kinematic chain of poses, minimising 3D point distances."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

import networkx as nx

from unposed.optim.pointmaps.first_order_alignment import COARSE_PHASE, FirstOrderOptions, align_first_order
from unposed.optim.pointmaps.kinematic_tree import KinematicTreeOptions
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, InitialModels, PairMatches, Photos, TwoViewGeometry
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPair, Resources

from ..shared.first_order_chain import chain_of
from ..shared.models import initial_model, intrinsics_of_priors, reasons_left_out, without_doubts


@dataclass(frozen=True)
class CoarseAdam:
    """First-order alignment of the depths that a matcher predicts: the baseline of coarse.align."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 3

    iterations: Annotated[int, Within("[1, inf)")] = COARSE_PHASE.iterations
    """Steps of Adam."""
    rate: Annotated[float, Within("(0, 1]")] = COARSE_PHASE.rate
    """Initial learning rate; it falls to zero along a cosine."""
    gamma: Annotated[float, Within("(0, inf)")] = COARSE_PHASE.gamma
    """Exponent of the loss of the distances between matched points."""
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
        resources: Resources,
        doubts: Doubts | None = None,
    ) -> InitialModels:
        graph = without_doubts(view_graph, doubts)
        intrinsics = intrinsics_of_priors(cameras, graph.keypoint_error_px)
        components = nx.connected_components(nx.Graph(graph.pairs.tolist()))
        models = []
        for member in sorted(components, key=lambda photos: (-len(photos), min(photos))):
            chain = chain_of(sorted(member), graph.pairs, matching, verification, self.tree)
            phase = replace(COARSE_PHASE, iterations=self.iterations, rate=self.rate, gamma=self.gamma)
            found = align_first_order(chain.matched, chain.tree, (phase,), options=self.bounds, report=resources.report)
            poses = chain.poses(found, len(photos))
            models.append(initial_model(chain.intrinsics(found, intrinsics), poses, graph.keypoints))
        return InitialModels(tuple(models), reasons_left_out(graph, models))
