"""XFeat key points and descriptors (Potje et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import kornia.feature
import torch
from torch import Tensor

from unposed.networks.detections import Detections
from unposed.networks.loading import cached_network, load_parameters, read_parameters
from unposed.networks.quarter_turns import QUARTER_TURNS, turned_positions
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
    rolled: bool = False
    """Describe every key point four times, as it looks when the photo is turned by 0 to 3 quarter turns, for
    matching.lightglue to match a pair at the turn that suits it: the network knows upright photos only. Takes four
    times the time and the bytes."""

    @property
    def descriptor_columns(self) -> int:
        """See NetworkFeatures."""
        return self.descriptor_length * (QUARTER_TURNS if self.rolled else 1)

    def detector(self, device: str) -> Detector:
        """See NetworkFeatures."""
        net = cached_network(_build, self.weights, device)

        def detect(images: Tensor, limit: int) -> list[Detections]:
            found = net.detectAndCompute(images, top_k=limit, detection_threshold=self.min_score)
            return [
                Detections(
                    each["keypoints"],
                    each["scores"],
                    _turned_descriptors(net, image, each) if self.rolled else each["descriptors"],
                )
                for image, each in zip(images, found, strict=True)
            ]

        return detect


@torch.inference_mode()
def _turned_descriptors(net: kornia.feature.XFeat, image: Tensor, found: dict[str, Tensor]) -> Tensor:
    """(n, QUARTER_TURNS * 64) descriptors of key points in an image (3, h, w), whose sides are multiples of 32, as
    found and after each further quarter turn."""
    height, width = image.shape[1:]
    columns = [found["descriptors"]]
    for turns in range(1, QUARTER_TURNS):
        turned = torch.rot90(image, turns, (1, 2))[None]
        maps = torch.nn.functional.normalize(net.net(turned)[0], dim=1)
        xy = turned_positions(found["keypoints"].float(), (width, height), turns)
        own = net.interpolator(maps, xy[None], H=turned.shape[2], W=turned.shape[3])[0]
        columns.append(torch.nn.functional.normalize(own, dim=1))
    return torch.cat(columns, dim=1)


def _build(weights: Path) -> kornia.feature.XFeat:
    net = kornia.feature.XFeat()
    load_parameters(net.net, read_parameters(weights), weights)
    return net
