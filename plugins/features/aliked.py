"""ALIKED key points and descriptors (Zhao et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import kornia.feature

from unposed.networks.aliked import detect
from unposed.networks.loading import cached_network, load_parameters, read_parameters
from unposed.pipeline.config import Within
from unposed.pipeline.weights.files import WeightFile

from .from_network import Detector, NetworkFeatures


@dataclass(frozen=True)
class Aliked(NetworkFeatures):
    """At most `max_keypoints` per photo, those of the highest score.

    The network is evaluated by networks.aliked, with kornia's results in a quarter of its time on a CPU. Needs
    published weights (BSD-3-Clause).

    Where `wanted` is wired to a scene graph, photos without a pair in it get no key points.
    """

    version: ClassVar[int] = 1
    descriptor_length: ClassVar[int] = 128
    bytes_per_px: ClassVar[int] = 400

    model: Literal["n16", "n16rot", "n32"] = "n16"
    """n16rot was trained with rotated images and is less precise on upright ones, which photos are after their EXIF
    orientation is applied. n32 takes twice as many samples per descriptor."""
    weights: Annotated[Path | None, WeightFile("aliked-{model}.pth")] = None
    """File of that model's parameters, where it is not found by its name."""
    min_score: Annotated[float, Within("[0, 1)")] = 0.2
    """Of a key point; photos without any above it get those above their mean score."""

    def detector(self, device: str) -> Detector:
        """See NetworkFeatures."""
        net = cached_network(_build, self.weights, device, self.model)
        return lambda images, limit: detect(net, images, limit, self.min_score)


def _build(weights: Path, model: str) -> kornia.feature.ALIKED:
    net = kornia.feature.ALIKED(f"aliked-{model}")
    return load_parameters(net, read_parameters(weights), weights, without=("dkd.hw_grid",))
