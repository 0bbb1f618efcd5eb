"""Train Gaussian splats on a GPU by gsplat's rasteriser, with the options and files of the trainer for CPUs.

Written for gsplat 1.5.3 from its documentation; it has not run on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unposed.optim.arrays import Array
from unposed.optim.undistortion import UndistortionOptions
from unposed.pipeline.artifacts import Bytes, Photos, SparseModel
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.slots import SplatTrainer
from unposed.pipeline.stage import Resources
from unposed.surface.gaussians.projection import NEAR, Parameters
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

        check_kernels(rasterization, resources.device)
        views = training_views(model, photos, sigma_deg, self.training, self.undistortion)
        near = NEAR * _median_depth([view.camera for view in views], np.asarray(model.points, np.float64))

        def draw(parameters: Parameters, camera: Pinhole) -> tuple[Tensor, Tensor]:
            return drawn_by(rasterization, parameters, camera, near)

        return splat_run(views, xyz, rgb, self.training, resume, draw, resources.device)


def check_kernels(rasterization: Any, device: str) -> None:
    """ConfigError where gsplat cannot draw a Gaussian. What PyPI has compiles its kernels when they are called first,
    and where that fails it can still be imported."""
    shapes = {"mean": (1, 3), "log_scale": (1, 3), "quaternion": (1, 4), "logit": (1,), "coefficient": (1, 3)}
    one = Parameters(**{name: torch.ones(shape, device=device) for name, shape in shapes.items()})
    try:
        drawn_by(rasterization, one, Pinhole(16, 16, 16.0, 16.0, 8.0, 8.0, np.eye(3, 4)), 0.01)
    except Exception as error:  # of any kind: it depends on what is missing
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"splat.gsplat: gsplat is installed, but its CUDA kernels do not run ({reason}): install the build for "
            "your PyTorch and CUDA (docs.gsplat.studio), or use --method cpu"
        ) from error


def _median_depth(cameras: Sequence[Pinhole], points: Array) -> float:
    """Of points in front of cameras; 1 where there are none."""
    depths = np.concatenate([np.zeros(0), *(camera.project(points)[1] for camera in cameras)])
    ahead = depths[depths > 0]
    return float(np.median(ahead)) if len(ahead) else 1.0


def drawn_by(rasterization: Any, parameters: Parameters, camera: Pinhole, near: float) -> tuple[Tensor, Tensor]:
    """Image and coverage by gsplat's function, which takes one row per camera. near: depth in front of which nothing is
    drawn; its own is a hundredth of a unit, and a whole model may be smaller than that."""
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
        near_plane=near,
        packed=False,
    )
    return images[0], covered[0, ..., 0]


_: SplatTrainer = GsplatSplat()
