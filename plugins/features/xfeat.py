"""XFeat key points and descriptors (Potje et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import kornia.feature

from unposed.networks.detections import Detections
from unposed.networks.loading import cached_network, load_parameters, read_parameters
from unposed.pipeline.artifacts import Features, Photo
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, Resources
from unposed.pipeline.weights.files import WeightFile

from ..network_errors import pipeline_errors
from .from_network import extract, extract_wanted

_DESCRIPTOR_LENGTH = 64

_SIDE_MULTIPLE_PX = 32
"""Multiple of the sides of the network's images. Photos are resized to it here, so that positions map back exactly."""


@dataclass(frozen=True)
class XFeat:
    """At most `max_keypoints` per photo, those of the highest score, by kornia's network, a light one.

    Needs published weights (Apache-2.0). Key points are at whole pixels.

    Where `wanted` is wired to a scene graph, photos without a pair in it get no key points.
    """

    grain: ClassVar[Literal[Grain.PHOTO]] = Grain.PHOTO
    version: ClassVar[int] = 1
    cpu_batch: ClassVar[int] = 1

    weights: Annotated[Path | None, WeightFile("xfeat.pt")] = None
    """File of the parameters, where it is not found by its name."""
    max_keypoints: Annotated[int, Within("[16, 65536]")] = 4096
    max_side_px: Annotated[int, Within("[64, 16384]")] = 1024
    """Larger photos are reduced to this."""
    min_score: Annotated[float, Within("[0, 1)")] = 0.05
    """Of a key point."""

    @property
    def item_bytes(self) -> int:
        """Activations at full resolution."""
        return 200 * self.max_side_px**2

    def __call__(self, photos: Photo, resources: Resources, wanted: bool = True) -> Features:
        return self.batch([(photos, wanted)], resources)[0]

    def batch(self, items: Sequence[tuple[Photo, bool]], resources: Resources) -> list[Features]:
        """Photos of one size form one batch of the network."""
        return extract_wanted(items, lambda photos: self._extract(photos, resources), _DESCRIPTOR_LENGTH)

    def _extract(self, photos: Sequence[Photo], resources: Resources) -> list[Features]:
        with pipeline_errors():
            net = cached_network(_build, self.weights, resources.device)

        def detector(images: Any, limit: int) -> list[Detections]:
            found = net.detectAndCompute(images, top_k=limit, detection_threshold=self.min_score)
            return [Detections(each["keypoints"], each["scores"], each["descriptors"]) for each in found]

        return extract(
            photos,
            detector,
            resources,
            limit=self.max_keypoints,
            max_side_px=self.max_side_px,
            multiple=_SIDE_MULTIPLE_PX,
        )


def _build(weights: Path) -> kornia.feature.XFeat:
    net = kornia.feature.XFeat()
    load_parameters(net.net, read_parameters(weights), weights)
    return net
