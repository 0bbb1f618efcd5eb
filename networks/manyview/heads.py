"""DPT heads of networks that see many views: depth, points, rays and sky from tokens of four layers.

Modules have the names of the published parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..dpt import Fusion, in_bands
from ..mast3r.config import DptConfig
from ..mast3r.heads import ImageSize
from .config import PATCH_PX

POSITION_SHARE = 0.1
"""Factor of the position embedding that is added to maps."""
RAY_CHANNELS = 7
"""Direction, centre and confidence."""
_RAY_LEVEL = "3"
"""Files hold output layers of the ray branch for four levels, of which the last is used."""
VIEWS_ON_A_GPU = 4
"""Views whose maps a GPU makes together, 150 MB each at 504 x 378 pixels: one by one the 80 launches of each would take
2 ms for a group of eight, beside the 3 ms of a fast card for its arithmetic."""


def position_waves(count: int, channels: int, extent: float) -> Tensor:
    """(count, 2 channels) sines and cosines of coordinates from -extent to extent, at the middle of each cell:
    frequency k is 100^(-k / channels)."""
    reach = extent * (count - 1) / count
    place = torch.linspace(-reach, reach, count, dtype=torch.float64)
    frequency = 100.0 ** -(torch.arange(channels, dtype=torch.float64) / channels)
    angle = place[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class MapPosition:
    """Position embedding of a map (height, width): waves of the column, then waves of the row, of half the channels
    each. It is the same in all rows, or in all columns."""

    def __init__(self, size: tuple[int, int], channels: int, aspect: float, like: Tensor) -> None:
        self.columns, self.rows = _map_waves(size, channels, aspect, like.device, like.dtype)

    def added(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """The map x (n, channels, rows, width), or those rows of it, with the embedding added in place."""
        half = x.shape[1] // 2
        x[:, :half] += self.columns[None, :, None]
        x[:, half:] += self.rows[None, :, rows, None]
        return x


@lru_cache(maxsize=64)  # a shape of image has six; made in float64 on the host, a GPU would wait for them in each view
def _map_waves(
    size: tuple[int, int], channels: int, aspect: float, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """(channels / 2, width) and (channels / 2, height)."""
    diagonal = (aspect**2 + 1.0) ** 0.5
    along_x = position_waves(size[1], channels // 4, aspect / diagonal)
    along_y = position_waves(size[0], channels // 4, 1.0 / diagonal)
    return (POSITION_SHARE * along_x.T).to(device, dtype), (POSITION_SHARE * along_y.T).to(device, dtype)


class DptScratch(nn.Module):
    """Fusion blocks and output layers; `scratch` in published files."""

    def __init__(self, dpt: DptConfig, outputs: int, *, rectified: bool, rays: bool, sky: bool) -> None:
        super().__init__()
        width, half = dpt.fused, dpt.fused // 2
        for level, channels in enumerate(dpt.levels, start=1):
            self.add_module(f"layer{level}_rn", nn.Conv2d(channels, width, 3, padding=1, bias=False))
            for branch in ("", "_aux") if rays else ("",):
                fusion = Fusion(width, lateral=level < len(dpt.levels), rectified=rectified)
                self.add_module(f"refinenet{level}{branch}", fusion)
        self.output_conv1 = nn.Conv2d(width, half, 3, padding=1)
        self.output_conv2 = _output_layers(half, dpt.last, outputs)
        if sky:
            self.sky_output_conv2 = _output_layers(half, dpt.last, 1)
        if rays:
            widths = (width, half, width, half, width, half)
            chain = nn.Sequential(*(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)))
            self.output_conv1_aux = nn.ModuleDict({_RAY_LEVEL: chain})
            last = {
                "0": nn.Conv2d(half, dpt.last, 3, padding=1),
                "2": nn.LayerNorm(dpt.last),
                "5": nn.Conv2d(dpt.last, RAY_CHANNELS, 1),
            }
            self.output_conv2_aux = nn.ModuleDict({_RAY_LEVEL: nn.ModuleDict(last)})

    def fused(self, maps: Sequence[Tensor], branch: str = "") -> Tensor:
        """Fuse maps of four levels, finest first, to one of the size of the finest."""
        coarser: Tensor | None = None
        for level in range(len(maps), 0, -1):
            fusion = self.get_submodule(f"refinenet{level}{branch}")
            assert isinstance(fusion, Fusion)
            x = maps[level - 1]
            if coarser is not None:
                x = fusion.resConfUnit1(x)
                x += F.interpolate(coarser, x.shape[2:], mode="bilinear", align_corners=True)
            # Published: resize, then the 1x1 convolution. Both are linear, and interpolation weights sum to one.
            coarser = fusion.out_conv(fusion.resConfUnit2(x))
        assert coarser is not None
        return coarser


def _output_layers(width: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, hidden, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(hidden, outputs, 1))


class DptHead(nn.Module):
    """Tokens of four layers to maps of four sizes, which are fused from coarse to fine.

    `positions`: whether tokens are normed and position embeddings added, as in networks for many views.
    """

    def __init__(
        self,
        width: int,
        dpt: DptConfig,
        outputs: int,
        *,
        positions: bool = True,
        rectified: bool = False,
        rays: bool = False,
        sky: bool = False,
    ) -> None:
        super().__init__()
        a, b, _, d = dpt.levels
        self.positions = positions
        self.norm: nn.Module = nn.LayerNorm(width) if positions else nn.Identity()
        self.projects = nn.ModuleList(nn.Conv2d(width, channels, 1) for channels in dpt.levels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(a, a, 4, stride=4),
                nn.ConvTranspose2d(b, b, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(d, d, 3, stride=2, padding=1),
            ]
        )
        self.scratch = DptScratch(dpt, outputs, rectified=rectified, rays=rays, sky=sky)

    def maps(self, levels: Sequence[Tensor], size: ImageSize) -> list[Tensor]:
        """The four maps (n, fused, ., .) from tokens (n, patches, width)."""
        rows, columns = size[0] // PATCH_PX, size[1] // PATCH_PX
        maps = []
        for level, tokens in enumerate(levels):
            x = self.norm(tokens).transpose(1, 2).unflatten(2, (rows, columns))
            x = self._placed(self.projects[level](x), size)
            convolve = self.scratch.get_submodule(f"layer{level + 1}_rn")
            maps.append(convolve(self.resize_layers[level](x)))
        return maps

    def features(self, maps: Sequence[Tensor]) -> Tensor:
        """Map (n, fused / 2, 8 rows, 8 columns) that the output layers read."""
        fused = self.scratch.fused(maps)
        if fused.device.type == "cpu":
            return in_bands(fused, self.scratch.output_conv1)
        fused = F.interpolate(fused, scale_factor=2, mode="bilinear", align_corners=True)
        out: Tensor = self.scratch.output_conv1(fused)
        return out

    def output(self, features: Tensor, size: ImageSize, layers: nn.Sequential | None = None) -> Tensor:
        """Raw outputs (n, outputs, height, width) of the last layers, by default those of depth or points."""
        layers = layers or self.scratch.output_conv2
        if features.device.type == "cpu":
            position = MapPosition(size, features.shape[1], size[1] / size[0], features)
            prepare = position.added if self.positions else _unchanged
            return in_bands(features, layers[0], layers[1:], size, prepare)
        whole = F.interpolate(features, size, mode="bilinear", align_corners=True)
        out: Tensor = layers(self._placed(whole, size))
        return out

    def outputs(self, levels: Sequence[Tensor], size: ImageSize) -> Tensor:
        """Raw outputs (n, outputs, height, width) from tokens (n, patches, width), a few views at a time."""
        return torch.cat([self.output(self.features(self.maps(some, size)), size) for some in few_views(levels)])

    def rays(self, maps: Sequence[Tensor], size: ImageSize) -> Tensor:
        """Raw rays (n, 7, 8 rows, 8 columns)."""
        fused = self.scratch.fused(maps, "_aux")
        chain = self.scratch.output_conv1_aux[_RAY_LEVEL]
        assert isinstance(chain, nn.Sequential)
        first, *others = list(chain)
        if fused.device.type == "cpu":
            x = in_bands(fused, first)
        else:
            x = first(F.interpolate(fused, scale_factor=2, mode="bilinear", align_corners=True))
        for convolve in others:
            x = convolve(x)
        last = self.scratch.output_conv2_aux[_RAY_LEVEL]
        assert isinstance(last, nn.ModuleDict)
        x = last["0"](self._placed(x, size))
        x = last["2"](x.movedim(1, -1)).movedim(-1, 1)
        out: Tensor = last["5"](F.relu(x))
        return out

    def _placed(self, x: Tensor, size: ImageSize) -> Tensor:
        if not self.positions:
            return x
        return MapPosition((x.shape[2], x.shape[3]), x.shape[1], size[1] / size[0], x).added(x)


def _unchanged(x: Tensor, rows: slice) -> Tensor:
    return x


def few_views(levels: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tokens (few, patches, width) of the views at all levels, in turns: maps of one view take tens of megabytes,
    and a CPU gains nothing by having several at once."""
    few = 1 if levels[0].device.type == "cpu" else VIEWS_ON_A_GPU
    return (list(some) for some in zip(*(torch.split(level, few) for level in levels), strict=True))


def exp_depth(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Depth and confidence (n, height, width) from raw (n, 2, height, width)."""
    return raw[:, 0].exp(), raw[:, 1].exp() + 1.0
