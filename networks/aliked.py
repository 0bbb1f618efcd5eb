"""Sparse evaluation of ALIKED (Zhao et al. 2023): features are computed at key points and sample positions only.

The published network (kornia's module holds its parameters) computes a normalised map of 128 channels at the resolution
of the image, reads a small part of it, and spends most of its CPU time on the map. Here the map is never formed:

- the score head begins with a linear map to 8 channels, which commutes with upsampling, so it is applied at the
  resolution of each level;
- the descriptor head reads the corners of the sampled positions, which are interpolated from the levels one by one.

Tensors are channels-last, batch norms are folded into the convolutions before them, and deformable convolutions are
weighted sums of rows. Results equal those of the module up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from kornia.feature import ALIKED
from kornia.geometry.subpix import nms2d
from torch import Tensor, nn

from .detections import Detections

PAD_TO = 32
"""Sides are padded to this multiple: the downsampling of the network."""
STRIP = 64
"""Rows that are scored together at full resolution: they fit in the cache of a processor."""
SOFTNESS = 0.1
"""Temperature of the published soft-argmax that refines a key point within its window."""


@dataclass(frozen=True)
class _Finest:
    """The level of full resolution. Its features take twice the memory of its rows and are computed where they are
    read."""

    rows: Tensor
    """(b, h, w, c), or (h, w, c) for a single image."""
    mixture: Tensor
    """(c, channels)."""

    def features(self, rows: Tensor) -> Tensor:
        """(..., channels) features of rows (..., c)."""
        return F.selu_(rows @ self.mixture)


def detect(network: ALIKED, images: Tensor, limit: int, min_score: float) -> list[Detections]:
    """Detect key points of images (b, 3, h, w) in [0, 1]: the `limit` best with scores above `min_score`, or above the
    mean score of an image that has none."""
    height, width = images.shape[-2:]
    across, down = -width % PAD_TO, -height % PAD_TO
    left, top = across // 2, down // 2
    padding = (left, across - left, top, down - top)
    with torch.inference_mode():
        finest, coarser = _levels(network, F.pad(images, padding, mode="replicate"))
        scores = _scores(network.score_head, finest, coarser)[:, top : top + height, left : left + width]
        found = []
        for i in range(len(images)):
            xy, score = _key_points(scores[i].contiguous(), limit, min_score, network.nms_radius)
            levels = replace(finest, rows=finest.rows[i]), [level[i] for level in coarser]
            pixels = _Pixels(*levels, left, top, width, height)
            found.append(Detections(xy, score, _describe(network.desc_head, pixels, xy)))
        return found


def _levels(network: ALIKED, images: Tensor) -> tuple[_Finest, list[Tensor]]:
    """Features (b, h, w, channels) from fine to coarse; upsampled and concatenated they would be the published map."""
    x1 = _plain_block(network.block1, images.contiguous(memory_format=torch.channels_last))
    x2 = _residual_block(network.block2, F.avg_pool2d(x1, 2))
    x3 = _residual_block(network.block3, F.avg_pool2d(x2, 4))
    x4 = _residual_block(network.block4, F.avg_pool2d(x3, 4))
    mixtures = [conv.weight[:, :, 0, 0].T for conv in (network.conv1, network.conv2, network.conv3, network.conv4)]
    coarser = [F.selu_(x.permute(0, 2, 3, 1) @ mix) for x, mix in zip((x2, x3, x4), mixtures[1:], strict=True)]
    return _Finest(x1.permute(0, 2, 3, 1), mixtures[0]), coarser


def _plain_block(block: Any, x: Tensor) -> Tensor:
    return F.selu_(_conv(block.conv2, block.bn2, F.selu_(_conv(block.conv1, block.bn1, x))))


def _residual_block(block: Any, x: Tensor) -> Tensor:
    inner = _conv(block.conv2, block.bn2, F.selu_(_conv(block.conv1, block.bn1, x)))
    return F.selu_(inner.add_(block.downsample(x)))


def _conv(conv: Any, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """A 3 x 3 convolution, deformable or not, followed by its batch norm."""
    weight, bias = _folded(getattr(conv, "regular_conv", conv), norm)
    if not hasattr(conv, "regular_conv"):
        return F.conv2d(x, weight, bias, padding=1)
    batch, channels, height, width = x.shape
    reach = max(height, width) / 4.0
    shift_yx = conv.offset_conv(x).clamp_(-reach, reach).permute(0, 2, 3, 1).reshape(batch, height, width, 9, 2)
    xy = shift_yx.flip(-1) + _grid(height, width, x)[:, :, None] + _window(1, x)
    index, share = _corners(xy.reshape(batch, -1, 2), width, height)
    index += height * width * torch.arange(batch, device=x.device)[:, None, None]
    sampled = _mixed_rows(x.permute(0, 2, 3, 1).reshape(-1, channels), index.flatten(0, 1), share.flatten(0, 1))
    out = sampled.view(-1, 9 * channels) @ weight.permute(2, 3, 1, 0).reshape(9 * channels, -1) + bias
    return out.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with its batch norm folded in."""
    assert norm.running_mean is not None and norm.running_var is not None
    factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * factor
    if conv.bias is not None:
        bias = bias + conv.bias * factor
    return (conv.weight * factor[:, None, None, None]).contiguous(memory_format=torch.channels_last), bias


def _scores(head: Any, finest: _Finest, coarser: list[Tensor]) -> Tensor:
    """(b, h, w) score map of the padded images."""
    first, *rest = head
    batch, height, width, _ = finest.rows.shape
    channels = [finest.mixture.shape[1], *(level.shape[-1] for level in coarser)]
    weight, *weights = first.weight[:, :, 0, 0].T.split(channels)
    x = finest.rows.new_empty(batch, height, width, weight.shape[1])
    for y in range(0, height, STRIP):
        x[:, y : y + STRIP] = finest.features(finest.rows[:, y : y + STRIP]) @ weight
    x = x.permute(0, 3, 1, 2)
    for level, weight in zip(coarser, weights, strict=True):
        coarse = (level @ weight).permute(0, 3, 1, 2)
        x += F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)
    for layer in rest:
        x = layer(x)
    return torch.sigmoid(x)[:, 0]


def _key_points(scores: Tensor, limit: int, min_score: float, radius: int) -> tuple[Tensor, Tensor]:
    """(n, 2) positions of the strict local maxima of (h, w), and (n,) scores there, best first."""
    height, width = scores.shape
    side = 2 * radius + 1
    if min(height, width) < side:
        return scores.new_zeros(0, 2), scores.new_zeros(0)
    inner = (slice(radius, height - radius), slice(radius, width - radius))
    highest = torch.zeros_like(scores, dtype=torch.bool)
    highest[inner] = nms2d(scores[None, None], (side, side), mask_only=True)[0, 0][inner]
    chosen = highest & (scores > min_score)
    if not chosen.any():
        chosen = highest & (scores > scores.mean())
    index = chosen.flatten().nonzero()[:, 0]
    flat = scores.flatten()
    index = index[flat[index].topk(min(limit, len(index))).indices]
    window = _window(radius, scores)
    beside = (window[:, 1] * width + window[:, 0]).long()
    pull = torch.softmax(flat[index[:, None] + beside] / SOFTNESS, dim=1)
    xy = torch.stack([index % width, index // width], dim=1) + pull @ window
    corners, share = _corners(xy, width, height)
    score = (flat[corners] * share).sum(dim=1)
    order = score.argsort(descending=True, stable=True)
    return xy[order], score[order]


def _describe(head: Any, pixels: _Pixels, xy: Tensor) -> Tensor:
    """(n, d) descriptors: a learnt combination of samples around each point, at offsets read from its 3 x 3
    neighbourhood."""
    if not len(xy):
        return xy.new_zeros(0, pixels.channels)
    reach = max(pixels.width, pixels.height) / 4.0
    first, _, last = head.offset_conv
    # At the right and lower border the published network shifts the window one pixel more than necessary.
    corner = (xy.long() - 1).clamp(min=0)
    corner = torch.minimum(corner, corner.new_tensor([pixels.width - 4, pixels.height - 4]).clamp(min=0))
    patch = (corner[:, None] + 1 + _window(1, xy).long()).reshape(-1, 2)
    patches = pixels.at(patch[:, 1] * pixels.width + patch[:, 0])
    hidden = F.selu_(patches.view(len(xy), -1) @ first.weight.permute(2, 3, 1, 0).flatten(0, 2) + first.bias)
    shift = (hidden @ last.weight[:, :, 0, 0].T + last.bias).clamp_(-reach, reach)
    around = xy[:, None] + shift.view(len(xy), 2, -1).transpose(1, 2)
    samples = F.selu_(pixels.sample(around.reshape(-1, 2)) @ head.sf_conv.weight[:, :, 0, 0].T)
    return F.normalize(samples.view(len(xy), -1) @ head.agg_weights.flatten(0, 1), dim=1)


class _Pixels:
    """Unit-norm features of the pixels of one image, interpolated from the levels of its padded version."""

    def __init__(self, finest: _Finest, coarser: list[Tensor], left: int, top: int, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.channels = finest.mixture.shape[1] + sum(level.shape[-1] for level in coarser)
        self._shift, self._finest, self._coarser = finest.rows.new_tensor([left, top]), finest, coarser

    def at(self, pixel: Tensor) -> Tensor:
        """(n, channels) at pixels y * width + x, which may repeat."""
        index, unique = self._unique(pixel)
        rows, unit = self._features(unique)
        return (rows * unit[:, None])[index]

    def sample(self, xy: Tensor) -> Tensor:
        """(n, channels) bilinear samples at positions (n, 2); zero outside the image."""
        corners, share = _corners(xy, self.width, self.height)
        index, unique = self._unique(corners)
        rows, unit = self._features(unique)
        return _mixed_rows(rows, index, share * unit[index])

    def _unique(self, pixel: Tensor) -> tuple[Tensor, Tensor]:
        """Row of each pixel in the list of distinct pixels, and that list."""
        asked = torch.zeros(self.width * self.height, dtype=torch.bool, device=pixel.device)
        asked[pixel] = True
        unique = asked.nonzero()[:, 0]
        place = torch.empty_like(asked, dtype=torch.long)
        place[unique] = torch.arange(len(unique), device=pixel.device)
        return place[pixel], unique

    def _features(self, pixel: Tensor) -> tuple[Tensor, Tensor]:
        """(n, channels) features, and the factors (n,) that bring each row to unit norm."""
        height, width, _ = self._finest.rows.shape
        xy = torch.stack([pixel % self.width, pixel // self.width], dim=1) + self._shift
        fine = self._finest.rows.flatten(0, 1)[(xy[:, 1] * width + xy[:, 0]).long()]
        parts = [self._finest.features(fine)]
        for level in self._coarser:
            h, w, _ = level.shape
            coarse = xy * xy.new_tensor([(w - 1) / (width - 1), (h - 1) / (height - 1)])
            parts.append(_mixed_rows(level.flatten(0, 1), *_corners(coarse, w, h)))
        rows = torch.cat(parts, dim=1)
        return rows, 1.0 / torch.linalg.vector_norm(rows, dim=1).clamp_(min=1e-12)


def _corners(xy: Tensor, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Indices y * width + x (..., 4) and bilinear weights of the pixels around each position; zero outside the
    image."""
    low = xy.floor()
    part = xy - low
    x = torch.stack([low[..., 0], low[..., 0] + 1], dim=-1)
    y = torch.stack([low[..., 1], low[..., 1] + 1], dim=-1)
    share_x = torch.stack([1 - part[..., 0], part[..., 0]], dim=-1) * ((x >= 0) & (x < width))
    share_y = torch.stack([1 - part[..., 1], part[..., 1]], dim=-1) * ((y >= 0) & (y < height))
    index = y.clamp_(0, height - 1)[..., :, None] * width + x.clamp_(0, width - 1)[..., None, :]
    return index.flatten(-2).long(), (share_y[..., :, None] * share_x[..., None, :]).flatten(-2)


def _mixed_rows(rows: Tensor, index: Tensor, share: Tensor) -> Tensor:
    """(n, c) weighted sums of the rows at (n, k) indices with weights (n, k)."""
    return F.embedding_bag(index, rows, per_sample_weights=share, mode="sum")


def _window(radius: int, like: Tensor) -> Tensor:
    """((2 radius + 1)^2, 2) x and y offsets from the centre, row by row."""
    steps = torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)
    return torch.cartesian_prod(steps, steps).flip(1)


def _grid(height: int, width: int, like: Tensor) -> Tensor:
    """(height, width, 2) x and y of each pixel."""
    y, x = (torch.arange(n, dtype=like.dtype, device=like.device) for n in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
