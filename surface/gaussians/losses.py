"""How much two images differ."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from unposed.optim.arrays import Array, Array32

SSIM_SIGMA_PX = 1.5
SSIM_RADIUS_PX = 5
C1, C2 = 0.01**2, 0.03**2
"""As Wang et al. define structural similarity, for colours from 0 to 1."""


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """(h, w) structural similarity of images (h, w, 3), the mean of the channels, in windows of a Gaussian. Only a has
    derivatives."""
    b = b.detach()
    mean_a, mean_b, aa, bb, ab = (window_mean(each) for each in (a, b, a * a, b * b, a * b))
    product, squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    similar = (2 * product + C1) * (2 * (ab - product) + C2) / ((squares + C1) * (aa + bb - squares + C2))
    mean: Tensor = similar.mean(dim=-1)
    return mean


def window_mean(image: Tensor) -> Tensor:
    """Means of an image (h, w, channels) in windows of a Gaussian, whose weights sum to one at the borders, too."""
    if image.device.type == "cpu":
        apply: Callable[[Tensor], Tensor] = _BlurOnCpu.apply
        return apply(image)
    return _summed_there(image) / _summed_there(torch.ones_like(image[..., :1]))


class _BlurOnCpu(torch.autograd.Function):
    """By OpenCV: for a few taps, several times as fast as products with matrices or as torch's convolution."""

    @staticmethod
    def forward(ctx: Any, image: Tensor) -> Tensor:
        return torch.from_numpy(_summed(image.detach().numpy()) / _sums_of_ones(*image.shape[:2], image.dtype))

    @staticmethod
    def backward(ctx: Any, *by_outputs: Any) -> Tensor:
        by_image = by_outputs[0].numpy()
        return torch.from_numpy(_summed(by_image / _sums_of_ones(*by_image.shape[:2], by_outputs[0].dtype)))


def _window() -> Array:
    apart = np.arange(-SSIM_RADIUS_PX, SSIM_RADIUS_PX + 1)
    return np.asarray(np.exp(-0.5 * (apart / SSIM_SIGMA_PX) ** 2))


def _summed(image: Array32) -> Array32:
    """Sums (h, w, channels) with the weights of the window; zero beyond the borders."""
    window = _window()
    found = cv2.sepFilter2D(np.ascontiguousarray(image), -1, window, window, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(found, image.dtype).reshape(image.shape)


@lru_cache(maxsize=16)
def _sums_of_ones(height: int, width: int, dtype: torch.dtype) -> Array32:
    return _summed(torch.ones(height, width, 1, dtype=dtype).numpy())


def _summed_there(image: Tensor) -> Tensor:
    """The same on any device, tap by tap: products with matrices would take hundreds of times as many operations for
    large images, and convolutions round to ten bits on a GPU, of which variances leave nothing."""
    for axis in (0, 1):
        side, found = image.shape[axis], torch.zeros_like(image)
        for shift, weight in enumerate(_window().tolist(), start=-SSIM_RADIUS_PX):
            length = max(side - abs(shift), 0)
            here, there = max(-shift, 0), max(shift, 0)
            if length:
                found.narrow(axis, here, length).add_(image.narrow(axis, there, length), alpha=weight)
        image = found
    return image


def photo_loss(drawn: Tensor, photo: Tensor, weight: Tensor | None, structure: float) -> Tensor:
    """(1 - s) |drawn - photo| + s (1 - SSIM) / 2, averaged over pixels with weights (h, w); s is `structure`."""
    each = (1.0 - structure) * (drawn - photo).abs().mean(dim=-1)
    if structure > 0:
        each = each + structure * 0.5 * (1.0 - structural_similarity(drawn, photo))
    return each.mean() if weight is None else (each * weight).sum() / weight.sum().clamp_min(1.0)
