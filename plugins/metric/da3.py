"""Metres by DA3-Metric, which predicts the depth of single photos."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from unposed.networks.manyview.checkpoint import shared_many_view
from unposed.networks.manyview.config import PATCH_PX
from unposed.networks.manyview.da3 import SKY, Da3DepthNetwork
from unposed.networks.manyview.images import normalised
from unposed.networks.precision import Precision
from unposed.optim.alignment.depth_scale import MetricScaleOptions
from unposed.optim.alignment.metric_scale import MetricScale
from unposed.optim.undistortion import UndistortionOptions
from unposed.pipeline.artifacts import Bytes, Floats, Photos, SparseModel
from unposed.pipeline.config import Within
from unposed.pipeline.slots import MetricEstimator
from unposed.pipeline.stage import Resources
from unposed.pipeline.weights.files import WeightFile

from ..network_errors import pipeline_errors
from .photo_depths import scale_from_depths

_FOCAL_PX = 300.0
"""Focal length at which the output of the network is metres."""


@dataclass(frozen=True)
class DepthAnything3Metric:
    """Metres per unit of a model by the depth that DA3-Metric predicts for some of its photos (Apache-2.0).

    Its depth is metres at a focal length of 300 pixels, and is multiplied by that of the model. The weights of DA3-Mono
    have the same shapes and no metres: they give nonsense here. Not judged on real photos yet: its published weights
    could not be had where it was written.
    """

    weights: Annotated[Path | None, WeightFile("da3-metric.safetensors")] = None
    """File of the parameters, where it is not found by its name."""
    precision: Precision = "auto"
    """Of matrix products; auto is bfloat16 on a GPU (float16 or float32 on old ones) and float32 elsewhere."""
    max_side_px: Annotated[int, Within("[56, 2016]")] = 504
    """Longer side of the images, as in the training of the network."""
    scale: MetricScaleOptions = field(default_factory=MetricScaleOptions)
    """Which photos are looked at, and how their scales become one."""
    undistortion: UndistortionOptions = field(default_factory=UndistortionOptions)
    """Largest field of view of the undistorted photos."""

    def __call__(self, model: SparseModel, photos: Photos, resources: Resources) -> MetricScale:
        with pipeline_errors():
            net = shared_many_view(Da3DepthNetwork, self.weights, resources.device, self.precision)
        device = next(net.parameters()).device

        def predict(image: Bytes, focal_px: float) -> Floats:
            depth, sky = net(normalised([[image]], device)[0])
            metres = depth[0].double() * (focal_px / _FOCAL_PX)
            known: Floats = torch.where(sky[0] < SKY, metres, np.nan).cpu().numpy()
            return known

        return scale_from_depths(
            model, photos, predict, self.max_side_px, PATCH_PX, self.scale, self.undistortion, resources
        )


_: MetricEstimator = DepthAnything3Metric()
