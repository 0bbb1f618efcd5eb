"""Normalised cross-correlation of windows around every pixel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def window_sums(image: Tensor, side: int) -> Tensor:
    """Sums over side x side windows around each pixel (..., h, w); borders are repeated.

    A sum of `side` terms is built from sums of 1, 2, 4, ... of them, which takes the logarithm of as many additions and
    unlike differences of running sums loses no digits.
    """
    half = side // 2
    padded = functional.pad(image.reshape(-1, 1, *image.shape[-2:]), (half,) * 4, mode="replicate")
    return _sums(_sums(padded, side, -1), side, -2).reshape(image.shape)


def _sums(image: Tensor, side: int, axis: int) -> Tensor:
    length = image.shape[axis] - side + 1
    total: Tensor | None = None
    power, width, start = image, 1, 0
    while True:
        if side & width:
            part = power.narrow(axis, start, length)
            total = part if total is None else total + part
            start += width
        if 2 * width > side:
            break
        reach = power.shape[axis] - width
        power = power.narrow(axis, 0, reach) + power.narrow(axis, width, reach)
        width *= 2
    assert total is not None
    return total


class Correlator:
    """Correlates the windows of one image with those of others of the same shape.

    With means over the window, the correlation of r and s is

        (mean(r s) - mean(r) mean(s)) / sqrt((var(r) + noise^2) (var(s) + noise^2)),

    in which the noise variance makes windows without texture agree with nothing: what they show could be anywhere.
    """

    def __init__(self, reference: Tensor, side: int, noise: float) -> None:
        self._side, self._area, self._noise = side, float(side * side), noise * noise
        self._reference = reference - reference.mean()
        self._mean = window_sums(self._reference, side) / self._area
        square = window_sums(self._reference * self._reference, side) / self._area
        self._deviation = (square - self._mean * self._mean).clamp_min(0.0).add_(self._noise).sqrt_()

    def __call__(self, other: Tensor) -> Tensor:
        """(..., h, w) correlations from -1 to 1."""
        mean = window_sums(other, self._side).div_(self._area)
        square = window_sums(other * other, self._side).div_(self._area)
        product = window_sums(self._reference * other, self._side).div_(self._area)
        variance = square.addcmul_(mean, mean, value=-1.0).clamp_min_(0.0).add_(self._noise)
        return product.addcmul_(self._mean, mean, value=-1.0).div_(variance.sqrt_().mul_(self._deviation))


def halved(image: Tensor) -> Tensor:
    """(h // 2, w // 2) means of 2 x 2 pixels."""
    return functional.avg_pool2d(image[None, None], 2)[0, 0]


def sampled(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The image (h, w) at pixels x, y (..., h', w'), linear between pixel centres and constant beyond the borders."""
    height, width = image.shape
    grid = torch.stack([x * (2.0 / width) - 1.0, y * (2.0 / height) - 1.0], dim=-1).reshape(-1, *x.shape[-2:], 2)
    found = functional.grid_sample(
        image.expand(len(grid), 1, height, width), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return found.reshape(x.shape)
