"""The fine stage with Ceres as its solver, as a reference for our own bundle adjustment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unposed.optim.bundle.ceres import adjust_by_ceres, ceres_loss
from unposed.optim.bundle.losses import loss_by_name
from unposed.optim.mapping.refinement import Solver

from .bundle import BundleAdjustment


@dataclass(frozen=True)
class CeresBundleAdjustment(BundleAdjustment):
    """Bundle adjustment by Ceres through pycolmap.

    All key points have equal weight, and there are no priors: intrinsics that the photos do not determine may end far
    off.
    """

    version: ClassVar[int] = 11

    def __post_init__(self) -> None:
        ceres_loss(loss_by_name(self.loss, self.barron_shape))  # an error now, not after matching

    def solver(self, device: str) -> Solver:
        return adjust_by_ceres
