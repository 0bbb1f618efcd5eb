"""ALIKED key points and descriptors (Zhao et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import kornia.feature

from unposed.networks.aliked import detect
from unposed.networks.loading import cached_network, load_parameters, read_parameters
from unposed.pipeline.artifacts import Features, Photo
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, Resources
from unposed.pipeline.weights.files import WeightFile

from ..network_errors import pipeline_errors
from .from_network import extract, extract_wanted

_DESCRIPTOR_LENGTH = 128


@dataclass(frozen=True)
class Aliked:
    """At most `max_keypoints` per photo, those of the highest score.

    The network is evaluated by networks.aliked, with kornia's results in a quarter of its time on a CPU. Needs
    published weights (BSD-3-Clause).

    Where `wanted` is wired to a scene graph, photos without a pair in it get no key points.
    """

    grain: ClassVar[Literal[Grain.PHOTO]] = Grain.PHOTO
    version: ClassVar[int] = 1
    cpu_batch: ClassVar[int] = 1

    model: Literal["n16", "n16rot", "n32"] = "n16"
    """n16rot was trained with rotated images and is less precise on upright ones, which photos are after their EXIF
    orientation is applied. n32 takes twice as many samples per descriptor."""
    weights: Annotated[Path | None, WeightFile("aliked-{model}.pth")] = None
    """File of that model's parameters, where it is not found by its name."""
    max_keypoints: Annotated[int, Within("[16, 65536]")] = 4096
    max_side_px: Annotated[int, Within("[64, 16384]")] = 1024
    """Larger photos are reduced to this."""
    min_score: Annotated[float, Within("[0, 1)")] = 0.2
    """Of a key point; photos without any above it get those above their mean score."""

    @property
    def item_bytes(self) -> int:
        """Activations at full resolution."""
        return 400 * self.max_side_px**2

    def __call__(self, photos: Photo, resources: Resources, wanted: bool = True) -> Features:
        return self.batch([(photos, wanted)], resources)[0]

    def batch(self, items: Sequence[tuple[Photo, bool]], resources: Resources) -> list[Features]:
        """Photos of one size form one batch of the network."""
        return extract_wanted(items, lambda photos: self._extract(photos, resources), _DESCRIPTOR_LENGTH)

    def _extract(self, photos: Sequence[Photo], resources: Resources) -> list[Features]:
        with pipeline_errors():
            net = cached_network(_build, self.weights, resources.device, self.model)
        return extract(
            photos,
            lambda images, limit: detect(net, images, limit, self.min_score),
            resources,
            limit=self.max_keypoints,
            max_side_px=self.max_side_px,
        )


def _build(weights: Path, model: str) -> kornia.feature.ALIKED:
    net = kornia.feature.ALIKED(f"aliked-{model}")
    return load_parameters(net, read_parameters(weights), weights, without=("dkd.hw_grid",))
