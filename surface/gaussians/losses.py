"""How much two images differ."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

SSIM_SIGMA_PX = 1.5
SSIM_RADIUS_PX = 5
C1, C2 = 0.01**2, 0.03**2
"""As Wang et al. define structural similarity, for colours from 0 to 1."""


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """(h, w) structural similarity of images (h, w, 3), the mean of the channels, in windows of a Gaussian."""
    height, width = a.shape[:2]
    images = torch.stack([a, b, a * a, b * b, a * b]).permute(0, 3, 1, 2)
    # A blur as a product with a banded matrix: at the sizes that are trained here, several times as fast as convolving.
    smooth = _blur_matrix(height, a.dtype, a.device) @ images @ _blur_matrix(width, a.dtype, a.device).T
    mean_a, mean_b, aa, bb, ab = smooth
    product, squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    similar = (2 * product + C1) * (2 * (ab - product) + C2) / ((squares + C1) * (aa + bb - squares + C2))
    mean: Tensor = similar.mean(dim=0)
    return mean


@lru_cache(maxsize=16)
def _blur_matrix(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(length, length) blur by a Gaussian; rows sum to one at the borders, too."""
    at = torch.arange(length, dtype=dtype, device=device)
    apart = (at[:, None] - at[None, :]).abs()
    window = torch.exp(-0.5 * (apart / SSIM_SIGMA_PX) ** 2) * (apart <= SSIM_RADIUS_PX)
    return window / window.sum(dim=1, keepdim=True)


def photo_loss(drawn: Tensor, photo: Tensor, weight: Tensor | None, structure: float) -> Tensor:
    """(1 - s) |drawn - photo| + s (1 - SSIM) / 2, averaged over pixels with weights (h, w); s is `structure`."""
    each = (1.0 - structure) * (drawn - photo).abs().mean(dim=-1)
    if structure > 0:
        each = each + structure * 0.5 * (1.0 - structural_similarity(drawn, photo))
    return each.mean() if weight is None else (each * weight).sum() / weight.sum().clamp_min(1.0)
