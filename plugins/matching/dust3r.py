"""Matching by DUSt3R, which describes no pixels: those match whose points fall on each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from torch import Tensor

from unposed.networks.mast3r.network import PointMapPrediction
from unposed.networks.mast3r.shared import Precision, load_shared_network
from unposed.optim.pair.reciprocal_matching import MutualSearch, PixelMatches, neighbours_by_position
from unposed.pipeline.artifacts import PairMatches, Photo, Tokens
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, Resources, Sides
from unposed.pipeline.weights.files import WeightFile

from ..network_errors import pipeline_errors
from .dense import (
    DenseMatches,
    PairPrediction,
    image_tokens,
    match_prediction,
    matched_pixels,
    pair_matches,
    predict_pairs,
    values_at,
)

_ITEM_BYTES = 5 << 28
"""Maps of two images of 512 px, seen from both sides, and what the heads need on the way."""


@dataclass(frozen=True)
class Dust3rMatcher:
    """Reciprocal neighbours among the predicted points of all pixels, of DUSt3R or of any network of its family. Reads
    the tokens of the same network. Needs published weights (non-commercial), and better a GPU."""

    grain: ClassVar[Literal[Grain.PAIR]] = Grain.PAIR
    version: ClassVar[int] = 1
    cpu_batch: ClassVar[int] = 1
    item_bytes: ClassVar[int] = _ITEM_BYTES

    weights: Annotated[Path | None, WeightFile("DUSt3R_ViTLarge_BaseDecoder_512_dpt.pth")] = None
    """File of the parameters, the same as for the tokens, where it is not to be found by its name."""
    precision: Precision = "auto"
    """Of matrix products; auto is bfloat16 on a GPU and float32 elsewhere."""
    seed_px: Annotated[int, Within("[1, 64]")] = 8
    """Matches are sought from so widely spaced pixels of the network's images."""
    grid_px: Annotated[int, Within("[1, 16]")] = 8
    """Depth is kept of so widely spaced pixels."""
    max_gap: Annotated[float, Within("(0, inf)")] = 0.02
    """Largest distance between two points that match, over the depth."""

    def __call__(self, tokens: Sides[Tokens], photos: Sides[Photo], resources: Resources) -> PairMatches:
        return self.batch([(tokens, photos)], resources)[0]

    def batch(self, items: Sequence[tuple[Sides[Tokens], Sides[Photo]]], resources: Resources) -> list[PairMatches]:
        """Pairs of the same sizes go through the network together."""
        with pipeline_errors():
            net = load_shared_network(self.weights, resources.device, self.precision)
        pairs = [Sides(*(image_tokens(each, self.weights) for each in tokens)) for tokens, _ in items]
        out = []
        for (_, photos), pair, seen in zip(items, pairs, predict_pairs(net, pairs, descriptors=False), strict=True):
            frames = Sides(pair.a.frame, pair.b.frame)
            found = _near(seen, match_prediction(seen, _neighbours, _certainty, self.seed_px), self.max_gap)
            out.append(
                pair_matches(seen, frames, photos, matched_pixels(found, frames), found.confidence, self.grid_px)
            )
        return out


def _near(seen: PairPrediction, found: DenseMatches, max_gap: float) -> DenseMatches:
    """Those whose points are near each other in one of the decodings: everything is reciprocal to something."""
    a, b = found.pairs
    near = np.zeros(len(a), np.bool_)
    for one, other in ((seen.a_in_a, seen.b_in_a), (seen.b_in_b, seen.a_in_b)):
        own, foreign = (a, b) if one is seen.a_in_a else (b, a)
        points, others = values_at(one.pts3d, own), values_at(other.pts3d, foreign)
        near |= np.linalg.norm(points - others, axis=1) < max_gap * np.linalg.norm(points, axis=1)
    return DenseMatches(PixelMatches(a[near], b[near]), found.confidence[near])


def _neighbours(a: PointMapPrediction, b: PointMapPrediction) -> MutualSearch:
    return neighbours_by_position(a.pts3d, b.pts3d)


def _certainty(view: PointMapPrediction) -> Tensor:
    return view.conf
