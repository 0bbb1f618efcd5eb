"""XFeat key points and descriptors (Potje et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import kornia.feature
from torch import Tensor

from unposed.networks.detections import Detections
from unposed.networks.loading import cached_network, load_parameters, read_parameters
from unposed.pipeline.config import Within
from unposed.pipeline.weights.files import WeightFile

from .from_network import Detector, NetworkFeatures


@dataclass(frozen=True)
class XFeat(NetworkFeatures):
    """At most `max_keypoints` per photo, those of the highest score, by kornia's network, a light one.

    Needs published weights (Apache-2.0). Key points are at whole pixels.

    Where `wanted` is wired to a scene graph, photos without a pair in it get no key points.
    """

    version: ClassVar[int] = 1
    descriptor_length: ClassVar[int] = 64
    bytes_per_px: ClassVar[int] = 200
    side_multiple_px: ClassVar[int] = 32

    weights: Annotated[Path | None, WeightFile("xfeat.pt")] = None
    """File of the parameters, where it is not found by its name."""
    min_score: Annotated[float, Within("[0, 1)")] = 0.05
    """Of a key point."""

    def detector(self, device: str) -> Detector:
        """See NetworkFeatures."""
        net = cached_network(_build, self.weights, device)

        def detect(images: Tensor, limit: int) -> list[Detections]:
            found = net.detectAndCompute(images, top_k=limit, detection_threshold=self.min_score)
            return [Detections(each["keypoints"], each["scores"], each["descriptors"]) for each in found]

        return detect


def _build(weights: Path) -> kornia.feature.XFeat:
    net = kornia.feature.XFeat()
    load_parameters(net.net, read_parameters(weights), weights)
    return net
