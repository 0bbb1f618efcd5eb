"""Matches with depth from the dense predictions of a pair network; dense maps stay on their device.

The network decodes a pair of images twice, once with either as the first: predictions are in the camera frame of the
first image, up to scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unposed.networks.mast3r.images import ImageFrame
from unposed.networks.mast3r.network import Mast3rNetwork, PointMapPrediction
from unposed.networks.precision import tensor_cores
from unposed.optim.arrays import Array
from unposed.optim.pair.reciprocal_matching import (
    Dense,
    MutualSearch,
    PixelIndex,
    PixelMatches,
    merge_matches,
    neighbours_by_descriptor,
    neighbours_by_position,
    reciprocal_both_ways,
    seed_grid,
)
from unposed.optim.pair.reciprocal_on_device import (
    DenseSides,
    RowSearch,
    kernel_runs_on,
    nearest_by_distance,
    nearest_by_product,
    reciprocal_both_ways_on_device,
)
from unposed.optim.pointmaps.predicted_focals import focal_robust, plausible_focal
from unposed.pipeline.artifacts import Bools, DepthGrid, Floats, PairMatches, Photo, Tokens
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.stage import Resources, Sides
from unposed.pipeline.store.content import content_hash

from ..features.sampling import visible
from .device_tokens import DEVICE_TOKENS

_TOKEN_SHARE = 1 / 8
"""Share of the device's memory for tokens that wait for their next pair."""
_FOCAL_STEP_PX = 4
"""Focal lengths are estimated from every fourth pixel of every fourth row."""


class ImageTokens(NamedTuple):
    """Encoder tokens of an image, and its place in the photo."""

    tokens: Tensor
    """(n, d)."""
    frame: ImageFrame


class PairPrediction(NamedTuple):
    """Predictions of images a and b: `b_in_a` is that of b in the camera frame of a."""

    a_in_a: PointMapPrediction
    b_in_a: PointMapPrediction
    b_in_b: PointMapPrediction
    a_in_b: PointMapPrediction


@dataclass(frozen=True)
class PixelSearch:
    """What pixels of two images are matched by."""

    values: Callable[[PointMapPrediction], Tensor]
    """(height, width, d)."""
    confidence: Callable[[PointMapPrediction], Tensor]
    """(height, width), larger is better."""
    neighbours: Callable[[Dense, Dense], MutualSearch]
    """The search in main memory."""
    nearest: RowSearch
    """The search on another device."""


class DenseMatches(NamedTuple):
    """Matched pixels of a and b, as rows of the flattened images, and the confidence of each, larger is better."""

    pairs: PixelMatches
    confidence: Floats


def image_tokens(tokens: Tokens, weights: Path | None, resources: Resources) -> ImageTokens:
    """The tokens of a photo, on the device; ConfigError unless they come from the encoder of the same weights."""
    assert weights is not None  # the engine fills weights in before a stage is called
    if tokens.encoder != content_hash(weights):
        raise ConfigError(f"the tokens come from other weights than {weights}: give both nodes the same file")
    rows, columns, _ = tokens.values.shape
    size = rows * tokens.patch_px, columns * tokens.patch_px
    values = DEVICE_TOKENS.of(tokens, resources.device, int(resources.vram_bytes * _TOKEN_SHARE))
    return ImageTokens(values, ImageFrame(size, tokens.origin_px, tokens.step_px))


def predict_pairs(
    network: Mast3rNetwork, pairs: Sequence[Sides[ImageTokens]], *, descriptors: bool = True
) -> list[PairPrediction]:
    """Predict all pairs in both directions.

    Pairs of equal sizes form one batch; if both images of a pair have one size, both directions do.
    """
    seen: dict[int, PairPrediction] = {}
    sizes = [(pair.a.frame.size, pair.b.frame.size) for pair in pairs]
    for size_a, size_b in sorted(set(sizes)):
        rows = [i for i, each in enumerate(sizes) if each == (size_a, size_b)]
        a = torch.stack([pairs[i].a.tokens for i in rows])
        b = torch.stack([pairs[i].b.tokens for i in rows])
        directions = [(a, b, size_a, size_b), (b, a, size_b, size_a)]
        if size_a == size_b:
            directions = [(torch.cat([a, b]), torch.cat([b, a]), size_a, size_b)]
        views = [network.decode(*direction, descriptors=descriptors) for direction in directions]
        first, second = ([item for view in column for item in _each(view)] for column in zip(*views, strict=True))
        n = len(rows)
        seen.update(zip(rows, map(PairPrediction, first[:n], second[:n], first[n:], second[n:]), strict=True))
    return [seen[i] for i in range(len(pairs))]


def match_prediction(seen: PairPrediction, by: PixelSearch, step: int) -> DenseMatches:
    """Find reciprocal neighbours in both decodings, from every step-th pixel of either image as seeds.

    The confidence of a match is the geometric mean of that of both pixels, in the decoding that found it first.
    """
    decodings = (seen.a_in_a, seen.b_in_a), (seen.a_in_b, seen.b_in_b)
    sides = [DenseSides(by.values(a), by.values(b)) for a, b in decodings]
    seeds = [seed_grid(view.conf.shape[0], view.conf.shape[1], step) for view in decodings[0]]
    device = seen.a_in_a.conf.device
    if device.type == "cpu":
        runs = [run for each in sides for run in reciprocal_both_ways(by.neighbours(*each), *seeds)]
    else:
        # Heads of another batch may have TF32 allowed at the time, which products of torch would round by, too.
        with nullcontext() if kernel_runs_on(device) else tensor_cores(device, allowed=False):
            runs = reciprocal_both_ways_on_device(sides, seeds[0], seeds[1], by.nearest)
    confidences = []
    for (a, b), found in zip(decodings, (runs[:2], runs[2:]), strict=True):
        both = PixelMatches(*map(np.concatenate, zip(*found, strict=True)))
        confidences.append(np.sqrt(values_at(by.confidence(a), both.a) * values_at(by.confidence(b), both.b)))
    pairs, first = merge_matches(runs)
    return DenseMatches(pairs, np.concatenate(confidences)[first])


def _descriptors(view: PointMapPrediction) -> Tensor:
    assert view.desc is not None
    return view.desc


def _descriptor_confidence(view: PointMapPrediction) -> Tensor:
    assert view.desc_conf is not None
    return view.desc_conf


BY_DESCRIPTOR = PixelSearch(_descriptors, _descriptor_confidence, neighbours_by_descriptor, nearest_by_product)
"""Pixels whose descriptors have the largest dot product."""

BY_POSITION = PixelSearch(lambda view: view.pts3d, lambda view: view.conf, neighbours_by_position, nearest_by_distance)
"""Pixels whose predicted points are nearest."""


def values_at(values: Tensor, rows: PixelIndex) -> Floats:
    """Values of a map (h, w) or (h, w, d) at rows of the flattened image, as a numpy array."""
    picked = values.flatten(0, 1)[torch.from_numpy(rows).to(values.device)]
    return np.asarray(picked.float().cpu())


def pair_matches(
    seen: PairPrediction,
    frames: Sides[ImageFrame],
    photos: Sides[Photo],
    xy: Sides[Array],
    confidence: Floats,
    grid_px: int,
) -> PairMatches:
    """Matches at pixels (m, 2) of the photos, with the predicted depth there and depth grids of both photos. Masked
    matches are removed."""
    shown = [shown_pixels(photo) for photo in photos]
    kept = np.flatnonzero(shown[0](xy.a) & shown[1](xy.b))
    own = Sides(seen.a_in_a, seen.b_in_b)
    depth = [_depth_at(own[side], frames[side], xy[side][kept]) for side in (0, 1)]
    grids = [depth_grid(own[side], frames[side], shown[side], grid_px) for side in (0, 1)]
    return PairMatches(
        xy_a=xy.a[kept].astype(np.float32),
        xy_b=xy.b[kept].astype(np.float32),
        weight=bounded_weight(confidence[kept]),
        depth_a=depth[0],
        depth_b=depth[1],
        grids=(grids[0], grids[1]),
    )


def matched_pixels(found: DenseMatches, frames: Sides[ImageFrame]) -> Sides[Array]:
    """Pixels (m, 2), (m, 2) of the photos at the correspondences."""
    a, b = (
        frame.to_photo(np.stack([rows % frame.size[1], rows // frame.size[1]], axis=1))
        for frame, rows in zip(frames, found.pairs, strict=True)
    )
    return Sides(a, b)


def depth_grid(own: PointMapPrediction, frame: ImageFrame, shown: Callable[[Array], Bools], step: int) -> DepthGrid:
    """The predicted depth of a photo in its own camera, at the middle pixel of each block of `step` by `step`."""
    height, width = frame.size
    rows = seed_grid(height, width, step)
    xy = frame.to_photo(np.stack([rows % width, rows // width], axis=1))
    shape = len(range(step // 2, height, step)), len(range(step // 2, width, step))
    return DepthGrid(
        origin_px=(float(xy[0, 0]), float(xy[0, 1])),
        step_px=(step * frame.step_px[0], step * frame.step_px[1]),
        depth=np.where(shown(xy), values_at(own.pts3d[..., 2], rows), np.float32(np.nan)).reshape(shape),
        confidence=values_at(own.conf, rows).reshape(shape),
        focal_px=focal_of(own) * (frame.step_px[0] + frame.step_px[1]) / 2.0,
    )


def focal_of(own: PointMapPrediction) -> float:
    """Focal length in pixels of the image under which its predicted points project to their pixels."""
    height, width = own.conf.shape
    first = _FOCAL_STEP_PX // 2
    thin = (slice(first, None, _FOCAL_STEP_PX), slice(first, None, _FOCAL_STEP_PX))
    points, confidence = (each[thin].float().cpu().numpy() for each in (own.pts3d, own.conf))
    return plausible_focal(focal_robust(points, confidence, _FOCAL_STEP_PX), width, height)


def bounded_weight(confidence: Floats) -> Floats:
    """Monotone map of confidences c in (0, inf) to weights c / (1 + c) in (0, 1]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = 1.0 / (1.0 + 1.0 / confidence.astype(np.float32))
    return np.asarray(np.clip(np.nan_to_num(weight), 1e-6, 1.0), np.float32)


def _depth_at(own: PointMapPrediction, frame: ImageFrame, xy: Array) -> Floats:
    """Depth (m,) at the nearest pixel."""
    height, width = frame.size
    x, y = np.clip(np.rint(frame.from_photo(xy)).astype(np.int64), 0, (width - 1, height - 1)).T
    return values_at(own.pts3d[..., 2], y * width + x)


def shown_pixels(photo: Photo) -> Callable[[Array], Bools]:
    """Function of pixels (n, 2): whether the photo's mask shows them."""
    from unposed.pipeline.images.pixels import read_mask  # here: predictions are matched without photos, too

    mask = read_mask(photo)
    if mask is None:
        return lambda xy: np.ones(len(xy), np.bool_)
    whole = np.broadcast_to(np.uint8(0), (photo.height, photo.width))
    return lambda xy: visible(mask, whole, xy)


def _each(view: PointMapPrediction) -> list[PointMapPrediction]:
    """The predictions of a batch one by one."""
    return [
        PointMapPrediction(
            view.pts3d[i],
            view.conf[i],
            None if view.desc is None else view.desc[i],
            None if view.desc_conf is None else view.desc_conf[i],
        )
        for i in range(len(view.conf))
    ]
