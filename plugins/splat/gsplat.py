"""Train Gaussian splats on a GPU by gsplat's rasteriser, with the options and files of the trainer for CPUs.

Written for gsplat 1.5.3 from its documentation; it has not run on a GPU yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from unposed.optim.arrays import Array
from unposed.optim.undistortion import UndistortionOptions
from unposed.pipeline.artifacts import Bytes, Photos, SparseModel
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.slots import SplatTrainer
from unposed.pipeline.stage import Resources
from unposed.surface.gaussians.projection import Parameters
from unposed.surface.gaussians.scene import SplatRun, SplatState, TrainingOptions
from unposed.surface.stereo.view import Pinhole

from ..shared.splat_training import splat_run, training_views


@dataclass(frozen=True)
class GsplatSplat:
    """gsplat's CUDA kernels (pip install "unposed[splat]") in the training loop of splat.cpu; needs an NVIDIA GPU."""

    training: TrainingOptions = field(
        default_factory=lambda: TrainingOptions(max_side_px=1600, seeds=300_000, steps=15_000)
    )
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
        if not resources.device.startswith("cuda"):
            raise ConfigError("splat.gsplat needs an NVIDIA GPU: use --method cpu")
        try:
            rasterization = import_module("gsplat").rasterization
        except ImportError as error:
            raise ConfigError(f'splat.gsplat needs gsplat ({error}): pip install "unposed[splat]"') from error

        def draw(parameters: Parameters, camera: Pinhole) -> tuple[Tensor, Tensor]:
            return drawn_by(rasterization, parameters, camera)

        views = training_views(model, photos, sigma_deg, self.training, self.undistortion)
        return splat_run(views, xyz, rgb, self.training, resume, draw, resources.device)


def drawn_by(rasterization: Any, parameters: Parameters, camera: Pinhole) -> tuple[Tensor, Tensor]:
    """Image and coverage by gsplat's function, which takes one row per camera."""
    device = parameters.mean.device
    pose = torch.eye(4, device=device, dtype=parameters.mean.dtype)
    pose[:3] = torch.tensor(camera.cam_from_world, dtype=pose.dtype, device=device)
    images, covered, _ = rasterization(
        means=parameters.mean,
        quats=parameters.quaternion,
        scales=parameters.log_scale.exp(),
        opacities=torch.sigmoid(parameters.logit),
        colors=parameters.rgb(),
        viewmats=pose[None],
        Ks=torch.from_numpy(camera.K).to(pose)[None],
        width=camera.width,
        height=camera.height,
        packed=False,
    )
    return images[0], covered[0, ..., 0]


_: SplatTrainer = GsplatSplat()
