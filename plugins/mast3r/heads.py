"""From the decoder's tokens to a value per pixel. Names of modules are those of the published parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import PATCH_PX, DptConfig, NetworkConfig
from .transformer import Mlp

POINT_CHANNELS = 4
"""x, y, z and the confidence."""
BAND = 32
"""Rows of the full picture that are computed at a time on a CPU."""
HIDDEN_FACTOR = 4
"""Width of the descriptor perceptron's hidden layer, in widths of its input."""

Size = tuple[int, int]
"""Height and width of the picture in pixels."""


def as_map(tokens: Tensor, size: Size) -> Tensor:
    """(b, n, c) to (b, c, rows, columns)."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, size[0] // PATCH_PX, size[1] // PATCH_PX)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class ResidualUnit(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(F.relu(self.conv1(F.relu(x)), inplace=True))
        return out.add_(x)


class Fusion(nn.Module):
    """Adds a finer level to what came from the coarser ones, and doubles the size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(width, width, 1)
        self.resConfUnit1 = ResidualUnit(width)
        self.resConfUnit2 = ResidualUnit(width)

    def forward(self, level: Tensor, coarser: Tensor | None) -> Tensor:
        # The coarsest fusion has nothing to add to: its first unit is in the files, and is never used.
        x = level if coarser is None else self.resConfUnit1(level).add_(coarser)
        # Published: double, then the 1x1 convolution. Both are linear, and interpolation weights sum to one, so the
        # order is free, and this one convolves a quarter of the pixels.
        return _doubled(self.out_conv(self.resConfUnit2(x)))


class Scratch(nn.Module):
    """The name is that of the files."""

    def __init__(self, dpt: DptConfig) -> None:
        super().__init__()
        first, second, third, fourth = (nn.Conv2d(c, dpt.fused, 3, padding=1, bias=False) for c in dpt.levels)
        self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn = first, second, third, fourth
        # The files hold these four under two names.
        self.layer_rn = nn.ModuleList([first, second, third, fourth])
        self.refinenet1 = Fusion(dpt.fused)
        self.refinenet2 = Fusion(dpt.fused)
        self.refinenet3 = Fusion(dpt.fused)
        self.refinenet4 = Fusion(dpt.fused)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        fine, middle, coarse, coarsest = (conv(level) for conv, level in zip(self.layer_rn, levels, strict=True))
        x: Tensor = self.refinenet4(coarsest, None)[:, :, : coarse.shape[2], : coarse.shape[3]]
        for fusion, level in ((self.refinenet3, coarse), (self.refinenet2, middle), (self.refinenet1, fine)):
            x = fusion(level, x)
        return x


class Dpt(nn.Module):
    """Four levels of tokens, as pictures of four sizes, fused from coarse to fine."""

    def __init__(self, config: NetworkConfig) -> None:
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

    def forward(self, levels: Sequence[Tensor], size: Size) -> Tensor:
        """(b, 4, height, width) of four (b, n, c)."""
        maps = [step(as_map(level, size)) for step, level in zip(self.act_postprocess, levels, strict=True)]
        half: Tensor = self.head[0](self.scratch(maps))
        if half.device.type != "cpu":
            whole: Tensor = self.head[1:](half)
            return whole
        return torch.cat([self._band(half, top, min(top + BAND, size[0])) for top in range(0, size[0], BAND)], dim=2)

    def _band(self, half: Tensor, top: int, bottom: int) -> Tensor:
        """Rows top to bottom of what `head[1:]` makes of the map of half size. Whole maps of full size take 200 MB and
        do not fit in any cache."""
        height, last = half.shape[2], 2 * half.shape[2] - 1
        # One row more on either side, for the 3x3 convolution, which sees zeros beyond the picture.
        first, end = max(0, top - 1), min(last + 1, bottom + 1)
        position = torch.arange(first, end, dtype=half.dtype) * ((height - 1) / last)
        above = position.long().clamp(max=height - 1)
        below = (above + 1).clamp(max=height - 1)
        rows = torch.lerp(half[:, :, above], half[:, :, below], (position - above)[:, None])
        band = F.interpolate(rows, size=(end - first, 2 * half.shape[3]), mode="bilinear", align_corners=True)
        band = F.pad(band, (0, 0, first - (top - 1), (bottom + 1) - end))
        convolve = self.head[2]
        assert isinstance(convolve, nn.Conv2d)
        convolved = F.conv2d(band, convolve.weight, convolve.bias, padding=(0, 1))
        out: Tensor = self.head[4](F.relu(convolved, inplace=True))
        return out


class PointHead(nn.Module):
    """`downstream_head1` and `downstream_head2`: points and confidence, and descriptors where there are any."""

    def __init__(self, config: NetworkConfig) -> None:
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

    def points(self, levels: Sequence[Tensor], size: Size) -> tuple[Tensor, Tensor]:
        """(b, height, width, 3) and (b, height, width) of the outputs `config.levels_read`."""
        if self.config.head == "linear":
            raw = F.pixel_shuffle(as_map(self.proj(levels[-1]), size), PATCH_PX)
        else:
            raw = self.dpt(levels, size)
        return _points(raw[:, :3].movedim(1, -1)), _confidence(raw[:, 3], self.config.confidence_range)

    def descriptors(self, levels: Sequence[Tensor], size: Size) -> tuple[Tensor, Tensor]:
        """(b, height, width, d) of unit norm, and (b, height, width)."""
        both = torch.cat((levels[0], levels[-1]), dim=-1)
        raw = F.pixel_shuffle(as_map(self.head_local_features(both), size), PATCH_PX)
        described = raw[:, :-1].movedim(1, -1).contiguous()
        described /= torch.linalg.vector_norm(described, dim=-1, keepdim=True)
        return described, _confidence(raw[:, -1], self.config.descriptor_confidence_range)


def _points(raw: Tensor) -> Tensor:
    """The length of a raw vector is the logarithm of one plus the distance."""
    length = torch.linalg.vector_norm(raw, dim=-1, keepdim=True)
    points: Tensor = raw / length.clamp(min=1e-8) * length.expm1()
    return points


def _confidence(raw: Tensor, bounds: tuple[float, float]) -> Tensor:
    low, high = bounds
    return low + raw.exp().clamp(max=high - low)
