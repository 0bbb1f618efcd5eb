"""Train Gaussian splats on a CPU, small and soon: for previews, and to see what poses are worth."""

from __future__ import annotations

from dataclasses import dataclass, field

from unposed.optim.arrays import Array
from unposed.optim.undistortion import UndistortionOptions
from unposed.pipeline.artifacts import Bytes, Photos, SparseModel
from unposed.pipeline.slots import SplatTrainer
from unposed.pipeline.stage import Resources
from unposed.surface.gaussians.projection import draw
from unposed.surface.gaussians.scene import SplatRun, SplatState, TrainingOptions

from ..shared.splat_training import splat_run, training_views


@dataclass(frozen=True)
class CpuSplat:
    """A trainer of our own in numpy and torch; nothing to compile, no GPU.

    Gaussians keep their number and one colour each, so the seeds decide where there are any. Exposure is learned for
    each photo; what masks hide is not trained on.
    """

    training: TrainingOptions = field(default_factory=TrainingOptions)
    undistortion: UndistortionOptions = field(default_factory=UndistortionOptions)
    """Largest field of view of the undistorted photos."""

    def __call__(
        self,
        model: SparseModel,
        photos: Photos,
        xyz: Array,
        rgb: Bytes,
        sigma_deg: Array,
        resume: SplatState | None,
        resources: Resources,
    ) -> SplatRun:
        views = training_views(model, photos, sigma_deg, self.training, self.undistortion)
        return splat_run(views, xyz, rgb, self.training, resume, draw, "cpu")


_: SplatTrainer = CpuSplat()
