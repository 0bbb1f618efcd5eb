"""DISK key points and descriptors (Tyszkiewicz et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import kornia.feature
import torch
from torch import Tensor

from unposed.networks.detections import Detections
from unposed.networks.loading import cached_network, load_parameters, read_parameters
from unposed.pipeline.artifacts import Features, Photo
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, Resources
from unposed.pipeline.weights.files import WeightFile

from ..network_errors import pipeline_errors
from .from_network import extract, extract_wanted

_COARSEST_CELL_PX = 16
"""Image pixels per pixel of the network's coarsest level."""

_DESCRIPTOR_LENGTH = 128


@dataclass(frozen=True)
class Disk:
    """At most `max_keypoints` per photo, those of the highest score, by kornia's network.

    Needs published weights (Apache-2.0), and better a GPU: its convolutions run at full resolution.

    Where `wanted` is wired to a scene graph, photos without a pair in it get no key points.
    """

    grain: ClassVar[Literal[Grain.PHOTO]] = Grain.PHOTO
    version: ClassVar[int] = 1
    cpu_batch: ClassVar[int] = 1

    weights: Annotated[Path | None, WeightFile("depth-save.pth", "disk-depth.pth")] = None
    """File of the parameters, where it is not found by its name."""
    max_keypoints: Annotated[int, Within("[16, 65536]")] = 4096
    max_side_px: Annotated[int, Within("[64, 16384]")] = 1024
    """Larger photos are reduced to this."""
    min_score: Annotated[float, Within("[0, inf)")] = 0.0
    """Of a key point."""

    @property
    def item_bytes(self) -> int:
        """Activations at full resolution."""
        return 1600 * self.max_side_px**2

    def __call__(self, photos: Photo, resources: Resources, wanted: bool = True) -> Features:
        return self.batch([(photos, wanted)], resources)[0]

    def batch(self, items: Sequence[tuple[Photo, bool]], resources: Resources) -> list[Features]:
        """Photos of one size form one batch of the network."""
        return extract_wanted(items, lambda photos: self._extract(photos, resources), _DESCRIPTOR_LENGTH)

    def _extract(self, photos: Sequence[Photo], resources: Resources) -> list[Features]:
        with pipeline_errors():
            net = cached_network(_build, self.weights, resources.device)
        return extract(
            photos,
            lambda images, limit: _detect(net, images, limit, self.min_score),
            resources,
            limit=self.max_keypoints,
            max_side_px=self.max_side_px,
        )


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
