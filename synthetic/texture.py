"""Mip-mapped textures with trilinear look-up, free of aliasing at every distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
GAMMA = 2.2


@dataclass(frozen=True, eq=False)
class Texture:
    """All mip levels of an image in linear light, finest first, in one table for fast gathering."""

    texels: Floats
    """(sum of level sizes, 3)."""
    start: NDArray[np.int64]
    """(levels,) first row of each level."""
    width: NDArray[np.int64]
    height: NDArray[np.int64]


def texture(image: NDArray[np.floating]) -> Texture:
    """Build the mip levels of a gamma-encoded image (h, w, 3) in [0, 1] whose sides are powers of two."""
    height, width, _ = image.shape
    if height & (height - 1) or width & (width - 1):
        raise ValueError(f"texture sides must be powers of two, got {width} x {height}")
    levels = [np.clip(image, 0, 1).astype(np.float32) ** np.float32(GAMMA)]
    while min(levels[-1].shape[:2]) > 1:
        fine = levels[-1]
        levels.append((fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]) / 4)
    sizes = np.array([level.shape[:2] for level in levels], np.int64)
    counts = sizes.prod(axis=1)
    return Texture(
        np.concatenate([level.reshape(-1, 3) for level in levels]),
        np.cumsum(counts) - counts,
        sizes[:, 1],
        sizes[:, 0],
    )


def look_up(tex: Texture, u: Floats, v: Floats, texels_per_sample: Floats) -> Floats:
    """Linear colours (n, 3) at (u, v) in [0, 1]^2, with (0, 0) at the top-left corner, averaged over the footprint."""
    last = len(tex.start) - 1
    lod = np.clip(np.log2(np.maximum(texels_per_sample, 1)), 0, last)
    fine = np.minimum(lod.astype(np.int64), max(last - 1, 0))
    part = (lod - fine)[:, None]
    colours = _bilinear(tex, u, v, fine)
    if last:
        colours += part * (_bilinear(tex, u, v, fine + 1) - colours)
    return colours


def _bilinear(tex: Texture, u: Floats, v: Floats, level: NDArray[np.int64]) -> Floats:
    width, height, start = tex.width[level], tex.height[level], tex.start[level]
    x = np.clip(u * width.astype(np.float32) - np.float32(0.5), 0, width - 1).astype(np.float32)
    y = np.clip(v * height.astype(np.float32) - np.float32(0.5), 0, height - 1).astype(np.float32)
    x0, y0 = x.astype(np.int64), y.astype(np.int64)
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    right, down = (x - x0).astype(np.float32)[:, None], (y - y0).astype(np.float32)[:, None]
    upper, lower = start + y0 * width, start + y1 * width
    top: Floats = tex.texels[upper + x0]
    bottom: Floats = tex.texels[lower + x0]
    top += right * (tex.texels[upper + x1] - top)
    bottom += right * (tex.texels[lower + x1] - bottom)
    top += down * (bottom - top)
    return top
