"""DISK key points and descriptors (Tyszkiewicz et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import kornia.feature
import torch
from torch import Tensor

from unposed.networks.detections import Detections
from unposed.networks.loading import cached_network, load_parameters, read_parameters
from unposed.pipeline.config import Within
from unposed.pipeline.weights.files import WeightFile

from .from_network import Detector, NetworkFeatures

_COARSEST_CELL_PX = 16
"""Image pixels per pixel of the network's coarsest level."""


@dataclass(frozen=True)
class Disk(NetworkFeatures):
    """At most `max_keypoints` per photo, those of the highest score, by kornia's network.

    Needs published weights (Apache-2.0), and better a GPU: its convolutions run at full resolution.

    Where `wanted` is wired to a scene graph, photos without a pair in it get no key points.
    """

    version: ClassVar[int] = 1
    descriptor_length: ClassVar[int] = 128
    bytes_per_px: ClassVar[int] = 1600

    weights: Annotated[Path | None, WeightFile("depth-save.pth", "disk-depth.pth")] = None
    """File of the parameters, where it is not found by its name."""
    min_score: Annotated[float, Within("[0, inf)")] = 0.0
    """Of a key point."""

    def detector(self, device: str) -> Detector:
        """See NetworkFeatures."""
        net = cached_network(_build, self.weights, device)
        return lambda images, limit: _detect(net, images, limit, self.min_score)


def _build(weights: Path) -> kornia.feature.DISK:
    return load_parameters(kornia.feature.DISK(), read_parameters(weights, "extractor"), weights)


@torch.inference_mode()
def _detect(net: Any, images: Tensor, limit: int, min_score: float) -> list[Detections]:
    if max(images.shape[-2:]) <= _COARSEST_CELL_PX:  # instance normalisation fails on a coarsest level of one pixel
        nothing = Detections(images.new_zeros(0, 2), images.new_zeros(0), images.new_zeros(0, net.desc_dim))
        return [nothing] * len(images)
    found = []
    for each in net(images, n=limit, score_threshold=min_score, pad_if_not_divisible=True):
        order = each.detection_scores.argsort(descending=True, stable=True)
        found.append(Detections(each.keypoints[order], each.detection_scores[order], each.descriptors[order]))
    return found
