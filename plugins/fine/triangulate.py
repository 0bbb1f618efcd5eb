"""Triangulation under the initial poses, without bundle adjustment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, InitialModels, Photos, SparseModels
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain

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
class Triangulation(TriangulatedSubsetOptions):
    """Triangulates tracks under the initial poses: to evaluate a coarse stage alone, or for poses that are exact."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 2

    tracks_per_photo: Annotated[int, Within("[20, inf)")] = 1000
    """Long tracks first."""

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        coarse: InitialModels,
        doubts: Doubts | None = None,
    ) -> SparseModels:
        graph = without_doubts(view_graph, doubts)
        models = []
        for initial in coarse.models:
            own = graph.among(np.isin(np.arange(len(photos)), initial.photos))
            bundle, intrinsics = initial_bundle(
                initial, len(photos), intrinsics_of_priors(cameras, graph.keypoint_error_px)
            )
            intrinsics = intrinsics.with_values(bundle.intrinsics)
            subset = triangulated_subset(own, intrinsics, bundle.cam_from_world, self)
            models.append(sparse_model(subset, graph.keypoints))
        return SparseModels(tuple(models), reasons_left_out(graph, models), coarse.warnings)
