"""Depth map of a photo from its neighbours, by a sweep over inverse depths that is refined from coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unposed.optim.arrays import Array32
from unposed.optim.option_ranges import Count, Positive, Within

from .correlation import Correlator, halved, sampled
from .semi_global import semi_global_cost
from .view import DepthEstimate, StereoView

DEVICE_PIXELS = 1 << 22
"""Pixels of planes that are compared at once on a GPU, in some 300 MB: of small images it would otherwise wait for the
next operation to begin. A CPU takes plane by plane, which stay in its caches."""


@dataclass(frozen=True)
class SweepOptions:
    """How depth is looked for along the rays of a photo."""

    window_radius_px: Annotated[int, Within("[1, 15]")] = 2
    """Windows of 2 r + 1 pixels are compared. Larger ones are surer where there is little texture, and blur edges of
    depth: rendered scenes lose a tenth of their pixels from 2 to 3."""
    noise: Positive = 0.004
    """Contrast, from 0 to 1, below which a window counts as blank: one grey level of 255 is noise and JPEG."""
    coarse_halvings: Annotated[int, Within("[0, 5]")] = 2
    """The sweep through the whole range is done on images that are halved so often."""
    max_planes: Annotated[int, Within("[8, 1024]")] = 192
    """Depths in the sweep at most. As many are taken as let pixels move by one between them."""
    slope_penalty: Positive = 0.015
    """Cost, in correlation, of a step to the next depth between neighbouring pixels; small, since floors are steep."""
    jump_penalty: Positive = 1.0
    """Cost of a jump in depth between pixels of equal grey."""
    edge: Positive = 0.15
    """Difference in grey, from 0 to 1, that halves the jump penalty."""
    neighbour_px: Annotated[int, Within("[1, 64]")] = 6
    """The depths of four pixels at this distance are tried, too, at each size: windows across an edge have the depth of
    the wrong side, and the right one is next to them."""
    refine_steps: Count = 2
    """Depths before and behind that are tried at each size, half a pixel apart; then one before and one behind, a
    quarter of a pixel apart."""


@dataclass(frozen=True, eq=False)
class _Level:
    """One size of the photo and its sources."""

    grey: Tensor
    others: tuple[Tensor, ...]
    rays: Tensor
    """(sources, 3, h, w): A (x, y, 1) of each pixel, where A takes pixels at infinity to those of the source."""
    shifts: Tensor
    """(sources, 3): added once per unit of inverse depth."""


def sweep_depth(
    view: StereoView,
    sources: Sequence[StereoView],
    inverse_range: tuple[float, float],
    options: SweepOptions = SweepOptions(),
    device: str = "cpu",
) -> DepthEstimate:
    """Estimate the depth of every pixel of a view from source views, between two inverse depths.

    Pixels (x, y) at inverse depth r are seen by a source at A (x, y, 1) + b r. The score of r is the mean of the
    correlations with the better half of the sources, since a point may be hidden from the others. On small images all
    depths are tried and neighbouring pixels are asked to agree; on these and larger ones depths near the result are
    tried, with windows that follow the surface found so far, and the best one is refined by a parabola. Sides of images
    must be multiples of 2^coarse_halvings.
    """
    low, high = inverse_range
    levels = _levels(view, sources, options.coarse_halvings, device)
    inverse = score = torch.zeros(0)
    for level in reversed(levels):
        planes = int(np.clip(np.ceil(_travel_px(level, low, high)), 8, None))
        if level is levels[-1]:
            inverse, score = _swept(level, low, high, min(planes, options.max_planes), options)
        else:
            inverse = _enlarged(inverse, level.grey.shape)
        inverse = _propagated(level, inverse, options)
        for fraction, reach in ((0.5, options.refine_steps), (0.25, 1)):
            inverse, score = _refined(level, _median(inverse), (high - low) / planes * fraction, reach, options)
    low_limit, high_limit = max(0.5 * low, 1e-3 * high), 2.0 * high
    kept = (inverse > low_limit) & (inverse < high_limit)
    if view.visible is not None:
        kept &= torch.from_numpy(view.visible).to(device)
    zero = torch.zeros((), device=device)
    found, sure = torch.where(kept, inverse, zero), torch.where(kept, score.clamp(0.0, 1.0), zero)
    return DepthEstimate(view.camera, _numpy(found), _numpy(sure))


def _levels(view: StereoView, sources: Sequence[StereoView], halvings: int, device: str) -> list[_Level]:
    """Largest first."""
    images = [torch.from_numpy(each.grey).to(device) for each in (view, *sources)]
    levels = []
    for halving in range(halvings + 1):
        if halving:
            images = [halved(image) for image in images]
        cameras = [each.camera.smaller(2**halving) for each in (view, *sources)]
        reference = cameras[0]
        y, x = torch.meshgrid(
            torch.arange(reference.height, device=device) + 0.5,
            torch.arange(reference.width, device=device) + 0.5,
            indexing="ij",
        )
        pixels = torch.stack([x, y, torch.ones_like(x)]).reshape(3, -1)
        rays, shifts = [], []
        for camera in cameras[1:]:
            rotation = camera.cam_from_world[:, :3] @ reference.cam_from_world[:, :3].T
            translation = camera.cam_from_world[:, 3] - rotation @ reference.cam_from_world[:, 3]
            turn = torch.from_numpy(camera.K @ rotation @ np.linalg.inv(reference.K)).to(device, torch.float32)
            rays.append((turn @ pixels).reshape(3, *x.shape))
            shifts.append(torch.from_numpy(camera.K @ translation).to(device, torch.float32))
        levels.append(_Level(images[0], tuple(images[1:]), torch.stack(rays), torch.stack(shifts)))
    return levels


def _seen_at(level: _Level, source: int, inverse: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels x, y of a source, and the depth there up to a factor that is positive in front of the photo; by inverse
    depths that broadcast to (..., h, w)."""
    rays, shift = level.rays[source], level.shifts[source]
    z = rays[2] + shift[2] * inverse
    scale = 1.0 / z.clamp_min(1e-6)
    return (rays[0] + shift[0] * inverse) * scale, (rays[1] + shift[1] * inverse) * scale, z


def _travel_px(level: _Level, low: float, high: float) -> float:
    """How far pixels move in the sources between the ends of the range: the largest of the medians of the sources."""
    most = 1.0
    for source in range(len(level.others)):
        (x0, y0, z0), (x1, y1, z1) = (_seen_at(level, source, inverse) for inverse in (low, high))
        ahead = (z0 > 0) & (z1 > 0)
        if bool(ahead.any()):
            most = max(most, float(torch.hypot(x1 - x0, y1 - y0)[ahead].median()))
    return most


def _scores(level: _Level, correlate: Correlator, inverse: Tensor) -> Tensor:
    """(n, h, w) mean correlation with the better half of the sources, by inverse depths (n, h, w) or (n, 1, 1)."""
    best: list[Tensor] = []
    for source, other in enumerate(level.others):
        x, y, z = _seen_at(level, source, inverse)
        outside = (z <= 0) | (x < 0) | (y < 0) | (x > other.shape[1]) | (y > other.shape[0])
        value = correlate(sampled(other, x, y)).masked_fill_(outside, -1.0)
        for place, held in enumerate(best):  # sorted, as it is for few sources faster than a general selection
            best[place], value = torch.maximum(held, value), torch.minimum(held, value)
        if len(best) < (len(level.others) + 1) // 2:
            best.append(value)
    return torch.stack(best).mean(dim=0) if len(best) > 1 else best[0]


def _swept(level: _Level, low: float, high: float, planes: int, options: SweepOptions) -> tuple[Tensor, Tensor]:
    """Inverse depths and scores from all planes."""
    correlate = Correlator(level.grey, 2 * options.window_radius_px + 1, options.noise)
    inverse = torch.from_numpy(np.linspace(low, high, planes, dtype=np.float32)).to(level.grey.device)[:, None, None]
    parts = torch.split(inverse, _planes_at_once(level.grey))
    cost = torch.cat([1.0 - _scores(level, correlate, part) for part in parts]).clamp_(0.0, 1.0)
    total = semi_global_cost(cost, level.grey, options.slope_penalty, options.jump_penalty, options.edge)
    label, offset = _least(total)
    spacing = (high - low) / (planes - 1)
    score = 1.0 - cost.gather(0, label[None])[0]
    return low + spacing * (label + offset), score


def _planes_at_once(image: Tensor) -> int:
    return 1 if image.device.type == "cpu" else max(1, DEVICE_PIXELS // image.numel())


def _refined(level: _Level, inverse: Tensor, step: float, reach: int, options: SweepOptions) -> tuple[Tensor, Tensor]:
    """The best of the inverse depths around those given."""
    correlate = Correlator(level.grey, 2 * options.window_radius_px + 1, options.noise)
    cost = torch.cat([-_scores(level, correlate, (inverse + step * each)[None]) for each in range(-reach, reach + 1)])
    label, offset = _least(cost)
    return inverse + step * (label - reach + offset), -cost.gather(0, label[None])[0]


def _propagated(level: _Level, inverse: Tensor, options: SweepOptions) -> Tensor:
    """The best of the inverse depth of each pixel and of four around it."""
    correlate = Correlator(level.grey, 2 * options.window_radius_px + 1, options.noise)
    height, width = inverse.shape
    reach = options.neighbour_px
    padded = functional.pad(inverse[None, None], (reach,) * 4, mode="replicate")[0, 0]
    best, score = inverse, _scores(level, correlate, inverse[None])[0]
    for top, left in ((0, reach), (2 * reach, reach), (reach, 0), (reach, 2 * reach)):
        other = padded[top : top + height, left : left + width]
        value = _scores(level, correlate, other[None])[0]
        better = value > score
        best, score = torch.where(better, other, best), torch.where(better, value, score)
    return best


def _least(cost: Tensor) -> tuple[Tensor, Tensor]:
    """Label of the least cost of each pixel, and the place of the minimum of the parabola through its neighbours."""
    label = cost.argmin(dim=0)
    inner = label.clamp(1, len(cost) - 2)
    before, here, after = (cost.gather(0, (inner + each)[None])[0] for each in (-1, 0, 1))
    bend = before - 2.0 * here + after
    offset = torch.where(bend > 1e-6, 0.5 * (before - after) / bend.clamp_min(1e-6), torch.zeros_like(bend))
    return label, torch.where(label == inner, offset.clamp(-0.5, 0.5), torch.zeros_like(offset))


def _enlarged(inverse: Tensor, shape: torch.Size) -> Tensor:
    return functional.interpolate(inverse[None, None], size=shape, mode="bilinear", align_corners=False)[0, 0]


def _median(inverse: Tensor) -> Tensor:
    """Median of 5 x 5 pixels: single pixels that went astray would bend the windows around them."""
    if inverse.device.type == "cpu":
        return torch.from_numpy(cv2.medianBlur(_numpy(inverse), 5))  # a tenth of the time of sorting
    return _median_on_device(inverse)


def _median_on_device(inverse: Tensor) -> Tensor:
    padded = functional.pad(inverse[None, None], (2,) * 4, mode="replicate")[0, 0]
    return padded.unfold(0, 5, 1).unfold(1, 5, 1).flatten(2).median(dim=2).values


def _numpy(values: Tensor) -> Array32:
    return np.ascontiguousarray(values.cpu().numpy(), np.float32)
