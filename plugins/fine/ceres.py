"""The fine stage with Ceres as its solver, as a reference for our own bundle adjustment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unposed.optim.bundle.ceres import adjust_by_ceres, ceres_loss
from unposed.optim.bundle.losses import loss_by_name
from unposed.optim.mapping.refinement import Solver
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, InitialModels, Photos, SparseModels
from unposed.pipeline.stage import Resources, StageError

from .bundle import BundleAdjustment


@dataclass(frozen=True)
class CeresBundleAdjustment(BundleAdjustment):
    """Bundle adjustment by Ceres through pycolmap.

    All key points have equal weight, and there are no priors: intrinsics that the photos do not determine may end far
    off.
    """

    version: ClassVar[int] = 12

    def __post_init__(self) -> None:
        ceres_loss(loss_by_name(self.loss, self.barron_shape))  # an error now, not after matching

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        coarse: InitialModels,
        resources: Resources,
        doubts: Doubts | None = None,
    ) -> SparseModels:
        if cameras.rigs is not None:
            raise StageError("Ceres is not told of rigs and panoramas: take fine.use=bundle")
        rough = cameras.cam_from_world is not None and (cameras.pose_sigma is not None or self.pose_sigma is not None)
        if cameras.given_sigma is not None or rough:
            raise StageError("Ceres is not told how exact given cameras and poses are: take fine.use=bundle")
        return super().__call__(photos, cameras, view_graph, coarse, resources, doubts)

    def solver(self, device: str) -> Solver:
        return adjust_by_ceres
