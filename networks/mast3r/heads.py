"""Linear, DPT and local-feature heads: from decoder tokens to point maps, confidences and descriptors per pixel.

Modules have the names of the published parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..dpt import Fusion, in_bands
from ..transformer import Mlp
from .config import PATCH_PX, DptConfig, Mast3rConfig

POINT_CHANNELS = 4
"""x, y, z and confidence."""
HIDDEN_FACTOR = 4
"""Hidden width of the descriptor MLP over its input width."""

ImageSize = tuple[int, int]
"""Height and width of the image in pixels."""


def as_map(tokens: Tensor, size: ImageSize) -> Tensor:
    """Tokens (b, n, c) as a map (b, c, rows, columns)."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, size[0] // PATCH_PX, size[1] // PATCH_PX)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class Scratch(nn.Module):
    """The fusion blocks of all levels; `scratch` in published files."""

    def __init__(self, dpt: DptConfig) -> None:
        super().__init__()
        first, second, third, fourth = (nn.Conv2d(c, dpt.fused, 3, padding=1, bias=False) for c in dpt.levels)
        self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn = first, second, third, fourth
        # Published files have two names for these four.
        self.layer_rn = nn.ModuleList([first, second, third, fourth])
        self.refinenet1 = Fusion(dpt.fused)
        self.refinenet2 = Fusion(dpt.fused)
        self.refinenet3 = Fusion(dpt.fused)
        self.refinenet4 = Fusion(dpt.fused)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Fuse the levels to a map at a quarter of the image's resolution. Empties the list of levels."""
        fusions = self.refinenet1, self.refinenet2, self.refinenet3, self.refinenet4
        coarser: Tensor | None = None
        for convolve, fusion in zip(reversed(self.layer_rn), reversed(fusions), strict=True):
            # One variable for all levels, so that used maps are freed: they are most of the head's memory.
            x = convolve(levels.pop())
            # The first unit of the coarsest fusion is in the files, but not used: there is no coarser level.
            if coarser is not None:
                x = fusion.resConfUnit1(x)
                x += _doubled(coarser)[:, :, : x.shape[2], : x.shape[3]]
            # Published: double the size, then the 1x1 convolution. Both are linear, and interpolation weights sum to
            # one, so the order is free: this one convolves a quarter of the pixels.
            x = fusion.resConfUnit2(x)
            coarser = fusion.out_conv(x)
        assert coarser is not None
        return coarser


class Dpt(nn.Module):
    """DPT head (Ranftl et al. 2021): tokens of four levels as maps of four resolutions, fused from coarse to fine."""

    def __init__(self, config: Mast3rConfig) -> None:
        super().__init__()
        deep, dpt = config.decoder.width, config.dpt
        a, b, c, d = dpt.levels
        self.act_postprocess = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(config.encoder.width, a, 1), nn.ConvTranspose2d(a, a, 4, stride=4)),
                nn.Sequential(nn.Conv2d(deep, b, 1), nn.ConvTranspose2d(b, b, 2, stride=2)),
                nn.Sequential(nn.Conv2d(deep, c, 1)),
                nn.Sequential(nn.Conv2d(deep, d, 1), nn.Conv2d(d, d, 3, stride=2, padding=1)),
            ]
        )
        self.scratch = Scratch(dpt)
        self.head = nn.Sequential(
            nn.Conv2d(dpt.fused, dpt.fused // 2, 3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(dpt.fused // 2, dpt.last, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(dpt.last, POINT_CHANNELS, 1),
        )

    def forward(self, levels: Sequence[Tensor], size: ImageSize) -> Tensor:
        """(b, 4, height, width) from four levels of tokens (b, n, c)."""
        maps = [step(as_map(level, size)) for step, level in zip(self.act_postprocess, levels, strict=True)]
        quarter: Tensor = self.scratch(maps)
        if quarter.device.type != "cpu":
            whole: Tensor = self.head(_doubled(quarter))
            return whole
        # Maps at full resolution take 50 and 200 MB, which fits in no cache.
        half = in_bands(quarter, self.head[0])
        return in_bands(half, self.head[2], self.head[3:])


class PointHead(nn.Module):
    """Head of points, confidence and, where the network has them, descriptors: `downstream_head1` and
    `downstream_head2`."""

    def __init__(self, config: Mast3rConfig) -> None:
        super().__init__()
        self.config = config
        deep, width = config.decoder.width, config.encoder.width + config.decoder.width
        if config.head == "linear":
            self.proj = nn.Linear(deep, POINT_CHANNELS * PATCH_PX**2)
        else:
            self.dpt = Dpt(config)
        if config.descriptor_width:
            channels = config.descriptor_width + 1
            self.head_local_features = Mlp(width, HIDDEN_FACTOR * width, channels * PATCH_PX**2)

    def points(self, levels: Sequence[Tensor], size: ImageSize) -> tuple[Tensor, Tensor]:
        """Points (b, height, width, 3) and confidence (b, height, width) from the outputs `config.levels_read`."""
        if self.config.head == "linear":
            raw = F.pixel_shuffle(as_map(self.proj(levels[-1]), size), PATCH_PX)
        else:
            raw = self.dpt(levels, size)
        return _points(raw[:, :3].movedim(1, -1)), _confidence(raw[:, 3], self.config.confidence_range)

    def descriptors(self, levels: Sequence[Tensor], size: ImageSize) -> tuple[Tensor, Tensor]:
        """Unit-norm descriptors (b, height, width, d) and their confidence (b, height, width)."""
        both = torch.cat((levels[0], levels[-1]), dim=-1)
        rows, columns, channels = size[0] // PATCH_PX, size[1] // PATCH_PX, self.config.descriptor_width + 1
        raw = self.head_local_features(both).view(-1, rows, columns, channels, PATCH_PX, PATCH_PX)
        raw = raw.permute(0, 1, 4, 2, 5, 3)
        described, certain = raw[..., :-1].reshape(-1, *size, channels - 1), raw[..., -1].reshape(-1, *size)
        described /= torch.linalg.vector_norm(described, dim=-1, keepdim=True)
        return described, _confidence(certain, self.config.descriptor_confidence_range)


def _points(raw: Tensor) -> Tensor:
    """Points from raw vectors v: v / |v| * (exp(|v|) - 1)."""
    length = torch.linalg.vector_norm(raw, dim=-1, keepdim=True)
    points: Tensor = raw / length.clamp(min=1e-8) * length.expm1()
    return points


def _confidence(raw: Tensor, bounds: tuple[float, float]) -> Tensor:
    low, high = bounds
    return low + raw.exp().clamp(max=high - low)
