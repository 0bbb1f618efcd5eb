"""Matching by MASt3R: nearest descriptors of all pixels, with the depth that it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.networks.mast3r.images import ImageFrame, image_batch
from unposed.networks.mast3r.network import Mast3rNetwork
from unposed.networks.mast3r.shared import load_shared_network
from unposed.networks.precision import Precision
from unposed.optim.arrays import Array
from unposed.optim.pair.reciprocal_matching import PixelIndex, PixelMatches, merge_matches
from unposed.optim.pair.windows import Box, WindowOptions, choose_windows, window_size
from unposed.pipeline.artifacts import Bytes, PairMatches, Photo, Tokens
from unposed.pipeline.config import Within
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.images.pixels import photo_per_px, read_rgb
from unposed.pipeline.stage import Grain, Resources, Sides
from unposed.pipeline.weights.files import WeightFile

from ..network_errors import pipeline_errors
from .dense import (
    BY_DESCRIPTOR,
    DenseMatches,
    ImageTokens,
    image_tokens,
    match_prediction,
    matched_pixels,
    pair_matches,
    predict_pairs,
)

_WINDOWS_AT_ONCE = 4
_ITEM_BYTES = 5 << 28
"""Maps of two images of 512 pixels in both directions, and the activations of the heads."""


@dataclass(frozen=True)
class Mast3rMatcher:
    """Reciprocal nearest neighbours among the descriptors of all pixels.

    Reads the tokens of features.mast3r, so that every photo is encoded once. Needs published weights (non-commercial),
    and better a GPU.
    """

    grain: ClassVar[Literal[Grain.PAIR]] = Grain.PAIR
    version: ClassVar[int] = 1
    cpu_batch: ClassVar[int] = 1

    weights: Annotated[Path | None, WeightFile("MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric.pth")] = None
    """File of the parameters, the same as for the tokens, where it is not found by its name."""
    precision: Precision = "auto"
    """Of matrix products; auto is bfloat16 on a GPU (float16 or float32 on old ones) and float32 elsewhere."""
    compiled: bool = False
    """Let torch.compile make kernels for each shape of image, a minute each, on a GPU; set it for the tokens, too."""
    seed_px: Annotated[int, Within("[1, 64]")] = 8
    """Spacing of the pixels of the network's images that the search starts from."""
    grid_px: Annotated[int, Within("[1, 16]")] = 8
    """Spacing of the pixels whose depth is kept."""
    max_side_px: Annotated[int | None, Within("[64, 8192]")] = None
    """Longer side of the photos that are matched again, in windows, from coarse to fine. Matches get finer, at the cost
    of an encoding and a decoding per window. By default they keep the resolution of the tokens."""

    windows: WindowOptions = field(default_factory=WindowOptions)
    """Choice of these windows."""

    @property
    def item_bytes(self) -> int:
        """One bound for all sizes, since the size of the training images is not known before the network is loaded."""
        return _ITEM_BYTES * (1 if self.max_side_px is None else _WINDOWS_AT_ONCE)

    def __call__(self, tokens: Sides[Tokens], photos: Sides[Photo], resources: Resources) -> PairMatches:
        return self.batch([(tokens, photos)], resources)[0]

    def batch(self, items: Sequence[tuple[Sides[Tokens], Sides[Photo]]], resources: Resources) -> list[PairMatches]:
        """Pairs of equal sizes form one batch of the network."""
        with pipeline_errors():
            net = load_shared_network(self.weights, resources.device, self.precision, compiled=self.compiled)
        if net.config.descriptor_width == 0:
            raise ConfigError(f"{self.weights} is a network without descriptors: match with dust3r, or give MASt3R's")
        pairs = [Sides(*(image_tokens(each, self.weights, resources) for each in tokens)) for tokens, _ in items]
        out = []
        for (_, photos), pair, seen in zip(items, pairs, predict_pairs(net, pairs), strict=True):
            frames = Sides(pair.a.frame, pair.b.frame)
            found, where = match_prediction(seen, BY_DESCRIPTOR, self.seed_px), frames
            if self.max_side_px is not None:
                found, where = self._finer(net, photos, matched_pixels(found, frames)) or (found, where)
            out.append(pair_matches(seen, frames, photos, matched_pixels(found, where), found.confidence, self.grid_px))
        return out

    def _finer(
        self, net: Mast3rNetwork, photos: Sides[Photo], xy: Sides[Array]
    ) -> tuple[DenseMatches, Sides[ImageFrame]] | None:
        """Match again in windows of larger images, and return the frames of these; None if the images are not
        larger."""
        images = [read_rgb(photo, self.max_side_px) for photo in photos]
        frames = Sides(*(_whole(photo, image) for photo, image in zip(photos, images, strict=True)))
        if max(*frames.a.size, *frames.b.size) <= net.config.image_px:
            return None
        windows = [window_size(frame.size, net.config.image_px) for frame in frames]
        # A window is a box of pixels, whose edges lie at whole numbers.
        coarse = [frame.from_photo(each) + 0.5 for frame, each in zip(frames, xy, strict=True)]
        chosen = choose_windows(
            coarse[0], coarse[1], frames.a.size, frames.b.size, windows[0], windows[1], self.windows
        )
        runs, confidences = [], []
        for start in range(0, len(chosen), _WINDOWS_AT_ONCE):
            some = chosen[start : start + _WINDOWS_AT_ONCE]
            sides = [_encode(net, image, [pair[side] for pair in some]) for side, image in enumerate(images)]
            for pair, seen in zip(some, predict_pairs(net, list(map(Sides, *sides))), strict=True):
                found = match_prediction(seen, BY_DESCRIPTOR, self.seed_px)
                a, b = (_rows_of_whole(found.pairs[i], pair[i], frames[i].size[1]) for i in (0, 1))
                runs.append(PixelMatches(a, b))
                confidences.append(found.confidence)
        if not runs:
            return None
        pairs, first = merge_matches(runs)
        return DenseMatches(pairs, np.concatenate(confidences)[first]), frames


def _whole(photo: Photo, image: Bytes) -> ImageFrame:
    x, y = photo_per_px(photo, image)
    return ImageFrame((image.shape[0], image.shape[1]), (0.5 * x, 0.5 * y), (x, y))


def _encode(net: Mast3rNetwork, image: Bytes, boxes: Sequence[Box]) -> list[ImageTokens]:
    """Encode windows of one size."""
    tokens = net.encode(image_batch([image[y0:y1, x0:x1] for x0, y0, x1, y1 in boxes], net.device))
    frames = [ImageFrame((y1 - y0, x1 - x0), (x0, y0), (1.0, 1.0)) for x0, y0, x1, y1 in boxes]
    return list(map(ImageTokens, tokens, frames))


def _rows_of_whole(rows: PixelIndex, box: Box, width: int) -> PixelIndex:
    """Pixels of a window as pixels of its image, both as rows of the flattened image."""
    y, x = np.divmod(rows, box[2] - box[0])
    return np.asarray((y + box[1]) * width + x + box[0])
