"""Parts of DPT heads (Ranftl et al. 2021) that all families share: residual units, fusion, and upsampling in bands.

Modules have the names of the published parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BAND = 16
"""Rows at full resolution that are computed together on a CPU: they fit in the cache."""


class ResidualUnit(nn.Module):
    """Two convolutions added to x, or to relu(x) where `rectified` is set, as where the activation works in place."""

    def __init__(self, width: int, *, rectified: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.rectified = rectified

    def forward(self, x: Tensor) -> Tensor:
        positive = F.relu(x)
        out: Tensor = self.conv2(F.relu(self.conv1(positive), inplace=True))
        return out.add_(positive if self.rectified else x)


class Fusion(nn.Module):
    """DPT fusion block: adds the upsampled coarser levels to one level.

    `lateral`: whether it has a unit for its own level, which the coarsest may lack, since it has nothing to add.
    """

    def __init__(self, width: int, *, lateral: bool = True, rectified: bool = False) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(width, width, 1)
        if lateral:
            self.resConfUnit1 = ResidualUnit(width, rectified=rectified)
        self.resConfUnit2 = ResidualUnit(width, rectified=rectified)


def in_bands(
    x: Tensor,
    convolve: nn.Module,
    then: Callable[[Tensor], Tensor] = lambda band: band,
    size: tuple[int, int] | None = None,
    prepare: Callable[[Tensor, slice], Tensor] = lambda rows, where: rows,
) -> Tensor:
    """Upsample x to `size` = (height, width), by default by two, apply `prepare` to the rows it is given, then a 3x3
    convolution and `then`, in bands of rows: maps at full resolution fit in no cache."""
    size = size or (2 * x.shape[2], 2 * x.shape[3])
    whole = torch.empty(0)
    for top in range(0, size[0], BAND):
        band = then(_band(x, convolve, size, top, min(top + BAND, size[0]), prepare))
        if top == 0:
            whole = band.new_empty(*band.shape[:2], size[0], band.shape[3])
        whole[:, :, top : top + BAND] = band
    return whole


def _band(
    x: Tensor,
    convolve: nn.Module,
    size: tuple[int, int],
    top: int,
    bottom: int,
    prepare: Callable[[Tensor, slice], Tensor],
) -> Tensor:
    """Rows `top` to `bottom` of the 3x3 convolution of the upsampled x."""
    assert isinstance(convolve, nn.Conv2d)
    height, last = x.shape[2], size[0] - 1
    # One row more on either side, for the convolution, which sees zeros beyond the image.
    first, end = max(0, top - 1), min(last + 1, bottom + 1)
    position = torch.arange(first, end, dtype=x.dtype) * ((height - 1) / last)
    above = position.long().clamp(max=height - 1)
    below = (above + 1).clamp(max=height - 1)
    rows = torch.lerp(x[:, :, above], x[:, :, below], (position - above)[:, None])
    band = F.interpolate(rows, size=(end - first, size[1]), mode="bilinear", align_corners=True)
    band = F.pad(prepare(band, slice(first, end)), (0, 0, first - (top - 1), (bottom + 1) - end))
    return F.conv2d(band, convolve.weight, convolve.bias, padding=(0, 1))
