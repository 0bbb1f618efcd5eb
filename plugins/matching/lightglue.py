"""Matching by LightGlue (Lindenberger et al. 2023): attention among the key points of both photos and their
positions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import kornia.feature
import numpy as np
import torch

from unposed.networks.loading import cached_network, load_parameters, read_parameters
from unposed.networks.quarter_turns import QUARTER_TURNS, turned_positions
from unposed.optim.arrays import Array32
from unposed.optim.pair.matching import mutual_nearest, unit_rows
from unposed.pipeline.artifacts import Features, PairMatches, Photo
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, Resources, Sides, StageError
from unposed.pipeline.weights.files import WeightFile

from ..features.from_network import NETWORK_PIXEL_OFFSET_PX
from ..network_errors import pipeline_errors

_WEIGHT_FILES = {"aliked": "aliked_lightglue.pth", "disk": "disk_lightglue.pth", "xfeat": "xfeat-lighterglue.pt"}


@dataclass(frozen=True)
class LightGlue:
    """Fewer wrong matches than nearest neighbours, at hundreds of times their cost, by kornia's network.

    Needs published weights (Apache-2.0), trained for one kind of features.

    The network knows photos that stand equally upright. Of key points that were described at each quarter turn (see
    features.xfeat), the second photo is turned to where most of their descriptors are mutual nearest neighbours.
    """

    grain: ClassVar[Literal[Grain.PAIR]] = Grain.PAIR
    version: ClassVar[int] = 1

    trained_for: Literal["aliked", "disk", "xfeat"] = "aliked"
    """Features that the parameters were trained for."""
    weights: Annotated[Path | None, WeightFile("{file}")] = None
    """File of the parameters, where it is not found by its name."""
    min_score: Annotated[float, Within("[0, 1)")] = 0.1
    """Of a match."""
    turn_keypoints: Annotated[int, Within("[16, inf)")] = 512
    """Key points of either photo, the best first, that decide by how many quarter turns it is turned; hundreds match
    at the right turn, and hardly any at the others."""

    @property
    def file(self) -> str:
        """Published name of the file."""
        return _WEIGHT_FILES[self.trained_for]

    @property
    def item_bytes(self) -> int:
        """Two similarity matrices and attention, for some thousands of key points."""
        return 1 << 29

    def __call__(self, features: Sides[Features], photos: Sides[Photo], resources: Resources) -> PairMatches:
        with pipeline_errors():
            net = cached_network(_build, self.weights, resources.device, self.trained_for, self.min_score)
        wanted = net.conf.input_dim
        for side in features:
            if side.descriptors.shape[1] not in (wanted, QUARTER_TURNS * wanted):
                raise StageError(
                    f"these descriptors have {side.descriptors.shape[1]} entries, those of {self.trained_for} "
                    f"{wanted}: set trained_for to the features that are used"
                )
        turns = (0, _best_turn(features, wanted, self.turn_keypoints))
        with torch.inference_mode():
            found = net(
                {
                    f"image{number}": _side(points, photo, turns[number], wanted, resources.device)
                    for number, points, photo in zip((0, 1), features, photos, strict=True)
                }
            )
        index_a, index_b = found["matches"][0].cpu().numpy().astype(np.int32).T
        return PairMatches(
            xy_a=features.a.xy[index_a],
            xy_b=features.b.xy[index_b],
            weight=found["scores"][0].float().cpu().numpy(),
            index_a=index_a,
            index_b=index_b,
        )


def _best_turn(features: Sides[Features], columns: int, keypoints: int) -> int:
    """Quarter turns of the second photo after which most descriptors of the best key points match."""
    tried = features.b.descriptors.shape[1] // columns
    if tried == 1:
        return 0
    first = _turned_rows(features.a, 0, columns)[:keypoints]
    matches = [
        len(mutual_nearest(first, _turned_rows(features.b, turns, columns)[:keypoints]).index_a)
        for turns in range(tried)
    ]
    return int(np.argmax(matches))


def _turned_rows(points: Features, turns: int, columns: int) -> Array32:
    """(n, columns) unit descriptors of a photo after so many quarter turns."""
    return unit_rows(points.descriptors[:, turns * columns : (turns + 1) * columns])


def _side(points: Features, photo: Photo, turns: int, columns: int, device: str) -> dict[str, Any]:
    size = (photo.width, photo.height)
    xy = torch.from_numpy(points.xy - np.float32(NETWORK_PIXEL_OFFSET_PX))
    shown = size if turns % 2 == 0 else size[::-1]
    return {
        "keypoints": turned_positions(xy, size, turns).to(device)[None],
        "descriptors": torch.from_numpy(_turned_rows(points, turns, columns)).to(device)[None],
        "image_size": torch.tensor([shown], dtype=torch.float32, device=device),
    }


def _build(weights: Path, trained_for: str, min_score: float) -> kornia.feature.LightGlue:
    settings = {**kornia.feature.LightGlue.features[trained_for], "weights": None, "filter_threshold": min_score}
    make: Any = kornia.feature.LightGlue  # None downloads nothing, which the annotation excludes
    net: kornia.feature.LightGlue = make(None, **settings)
    state = {_present_name(name): value for name, value in read_parameters(weights).items()}
    known = net.state_dict()
    parameters = {name: value for name, value in state.items() if name in known}  # the file may have more
    return load_parameters(net, parameters, weights, without=("confidence_thresholds",))


def _present_name(name: str) -> str:
    """Name in the present network of a parameter of the published files, which have names of an earlier version."""
    name = name.removeprefix("matcher.")
    kind, _, rest = name.partition(".")
    if kind in ("self_attn", "cross_attn"):
        layer, _, rest = rest.partition(".")
        return f"transformers.{layer}.{kind}.{rest}"
    return name
