"""Matching by DUSt3R: pixels match whose predicted 3D points coincide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.networks.mast3r.shared import load_shared_network
from unposed.networks.precision import Precision
from unposed.optim.pair.reciprocal_matching import PixelMatches
from unposed.pipeline.artifacts import PairMatches, Photo, Tokens
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, Resources, Sides
from unposed.pipeline.weights.files import WeightFile

from ..network_errors import pipeline_errors
from .dense import (
    BY_POSITION,
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
"""Maps of two images of 512 pixels in both directions, and the activations of the heads."""


@dataclass(frozen=True)
class Dust3rMatcher:
    """Reciprocal nearest neighbours among the predicted points of all pixels, by DUSt3R or any network of its family.

    Reads the tokens of the same network. Needs published weights (non-commercial), and better a GPU. Networks that were
    trained further from DUSt3R, as MonST3R was on moving scenes, load by the path of their file.
    """

    grain: ClassVar[Literal[Grain.PAIR]] = Grain.PAIR
    version: ClassVar[int] = 1
    cpu_batch: ClassVar[int] = 1
    item_bytes: ClassVar[int] = _ITEM_BYTES

    weights: Annotated[Path | None, WeightFile("DUSt3R_ViTLarge_BaseDecoder_512_dpt.pth")] = None
    """File of the parameters, the same as for the tokens, where it is not found by its name."""
    precision: Precision = "auto"
    """Of matrix products; auto is bfloat16 on a GPU (float16 or float32 on old ones) and float32 elsewhere."""
    compiled: bool = False
    """Let torch.compile make kernels for each shape of image, a minute each, on a GPU; set it for the tokens, too."""
    seed_px: Annotated[int, Within("[1, 64]")] = 8
    """Spacing of the pixels of the network's images that the search starts from."""
    grid_px: Annotated[int, Within("[1, 16]")] = 8
    """Spacing of the pixels whose depth is kept."""
    max_gap: Annotated[float, Within("(0, inf)")] = 0.02
    """Largest distance between the points of a match, relative to their depth."""

    def __call__(self, tokens: Sides[Tokens], photos: Sides[Photo], resources: Resources) -> PairMatches:
        return self.batch([(tokens, photos)], resources)[0]

    def batch(self, items: Sequence[tuple[Sides[Tokens], Sides[Photo]]], resources: Resources) -> list[PairMatches]:
        """Pairs of equal sizes form one batch of the network."""
        with pipeline_errors():
            net = load_shared_network(self.weights, resources.device, self.precision, compiled=self.compiled)
        pairs = [Sides(*(image_tokens(each, self.weights, resources) for each in tokens)) for tokens, _ in items]
        out = []
        for (_, photos), pair, seen in zip(items, pairs, predict_pairs(net, pairs, descriptors=False), strict=True):
            frames = Sides(pair.a.frame, pair.b.frame)
            found = _near(seen, match_prediction(seen, BY_POSITION, self.seed_px), self.max_gap)
            out.append(
                pair_matches(seen, frames, photos, matched_pixels(found, frames), found.confidence, self.grid_px)
            )
        return out


def _near(seen: PairPrediction, found: DenseMatches, max_gap: float) -> DenseMatches:
    """The matches whose points are near each other in one of the decodings: reciprocal neighbours alone may be far
    apart."""
    a, b = found.pairs
    near = np.zeros(len(a), np.bool_)
    for one, other in ((seen.a_in_a, seen.b_in_a), (seen.b_in_b, seen.a_in_b)):
        own, foreign = (a, b) if one is seen.a_in_a else (b, a)
        points, others = values_at(one.pts3d, own), values_at(other.pts3d, foreign)
        near |= np.linalg.norm(points - others, axis=1) < max_gap * np.linalg.norm(points, axis=1)
    return DenseMatches(PixelMatches(a[near], b[near]), found.confidence[near])
