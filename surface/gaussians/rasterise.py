"""Draw flat Gaussians over each other, and the derivatives of the image.

Pixel p of an image is sum_k w_k c_k over the Gaussians k from front to back, with

    w_k = a_k prod_{j < k} (1 - a_j),   a_k = min(0.99, o_k exp(-q_k / 2)),   q_k = (p - m_k)^T Q_k (p - m_k).

Each Gaussian is evaluated in a rectangle of pixels around it, all rectangles of one size at a time: whole arrays
without a loop over Gaussians. What they change is laid out in one vector, sorted by pixel and then by depth. Products
along a pixel become differences of one running sum of log(1 - a), and sums over a pixel a product with a sparse matrix:
numpy and scipy at the speed of memory, and nothing to compile.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from unposed.optim.arrays import Array, Array32, Index, Index32

LEAST_ALPHA = 1.0 / 255.0
"""Below this a Gaussian does not change an 8-bit pixel."""
MOST_ALPHA = 0.99
"""So that what lies behind always counts a little, and derivatives stay finite."""


SIDES = np.array([3, 5, 7, 10, 14, 20, 30, 50, 100, 250, 1000])
"""Pixels along the rectangles, which end with the image; what is larger than the last is cut off."""
BAND_PAIRS = 400_000
"""Pairs of Gaussian and pixel that are laid out at once. Images with more are drawn in bands of rows, which stay in the
caches of the processor: 500,000 Gaussians at 512 pixels took 1.4 times as long whole, and twice the memory."""
FEW = 128
"""Gaussians of which fewer share a size of rectangle get a square: a size takes as long as some thousand pixels."""


@dataclass(frozen=True, eq=False)
class _Block:
    """The Gaussians of one size of rectangle."""

    members: Index
    dx: Array32
    dy: Array32
    """(members, wide) and (members, tall) from the mean of the Gaussian to pixel centres."""
    first: int
    """Its place among the cells of all blocks, which are (members, tall, wide)."""


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of Gaussian and pixel, sorted by pixel, then from front to back."""

    blocks: list[_Block]
    cells: int
    """Of all blocks."""
    cell: Index32
    """Of each pair."""
    gaussian: Index32
    start: Index
    """(pixels + 1,): pixel p owns the pairs start[p] to start[p + 1]."""
    alpha: Array32


def _half_sides(conic: Array32, opacity: Array32) -> Array32:
    """(n, 2) half sides sqrt(q (Q^-1)_ii) of the box of the ellipse in which o exp(-q / 2) is at least 1 / 255; below
    zero, so that nothing is drawn, for ellipses so thin that rounding leaves Q no determinant."""
    a, b, c = conic.T
    reach = 2.0 * np.log(np.maximum(opacity / LEAST_ALPHA, 1.0))
    with np.errstate(invalid="ignore"):  # of the thin ones
        determinant = a * c - b * b
        thin = ~(determinant > 0.0)
        squares = (reach / np.where(thin, 1.0, determinant))[:, None] * np.stack([c, a], axis=1)
        return np.where(thin[:, None], np.asarray(-1.0, conic.dtype), np.sqrt(squares))


def _pairs_of(mean: Array32, conic: Array32, opacity: Array32, depth: Array32, width: int, height: int) -> _Pairs:
    half, frame = _half_sides(conic, opacity), np.array([width, height])
    low = np.maximum(np.ceil(mean - half - 0.5), 0)
    need = np.minimum(np.floor(mean + half - 0.5), frame - 1) - low + 1
    columns, rows = np.minimum(np.searchsorted(SIDES, need), len(SIDES) - 1).T
    size = rows * len(SIDES) + columns
    rare = np.bincount(size, minlength=len(SIDES) ** 2)[size] < FEW
    size = np.where(rare, np.maximum(rows, columns) * (len(SIDES) + 1), size)
    outside = ((mean + half < 0) | (mean - half > frame)).any(axis=1)
    size[outside | (need < 1).any(axis=1)] = -1
    # o exp(-q / 2) as one exponential
    a, b, c = -0.5 * conic.T * np.array([[1.0], [2.0], [1.0]], conic.dtype)
    log_opacity, least = np.log(np.maximum(opacity, 0.5 * LEAST_ALPHA)), np.log(LEAST_ALPHA)
    blocks, alphas, cells, pixels, counts, first = [], [], [], [], [], 0
    for number in np.unique(size[size >= 0]).tolist():
        tall, wide = min(height, SIDES[number // len(SIDES)]), min(width, SIDES[number % len(SIDES)])
        members = np.flatnonzero(size == number)
        corner = np.minimum(low[members], frame - (wide, tall)).astype(np.int32)  # so that the rectangle is inside
        x, y = corner[:, :1] + np.arange(wide, dtype=np.int32), corner[:, 1:] + np.arange(tall, dtype=np.int32)
        dx = x.astype(mean.dtype) + mean.dtype.type(0.5) - mean[members, :1]
        dy = y.astype(mean.dtype) + mean.dtype.type(0.5) - mean[members, 1:]
        along_x = a[members, None] * dx * dx
        along_y = c[members, None] * dy * dy + log_opacity[members, None]
        power = (b[members, None] * dy)[:, :, None] * dx[:, None, :]
        power += along_x[:, None, :]
        power += along_y[:, :, None]
        kept = np.flatnonzero(power > least)
        pixels.append(((y * width)[:, :, None] + x[:, None, :]).ravel()[kept])
        alphas.append(np.minimum(np.exp(power, out=power), MOST_ALPHA, out=power).ravel())
        cells.append(kept.astype(np.int32) + first)
        counts.append(np.diff(np.searchsorted(kept, np.arange(len(members) + 1) * (tall * wide))))
        blocks.append(_Block(members, dx, dy, first))
        first += power.size
    gaussian = np.concatenate([np.zeros(0, np.int64), *(block.members for block in blocks)])
    cell, pixel = (np.concatenate([np.zeros(0, np.int32), *parts]) for parts in (cells, pixels))
    of_row = np.concatenate([[0], *counts]).cumsum().astype(np.int32)
    # One row for each Gaussian, from front to back; to take the matrix by columns sorts by pixel, by counting.
    near_to_far = np.lexsort([gaussian, depth[gaussian]])  # at one depth in a fixed order, whatever their sizes
    by_row = sparse.csr_matrix((cell, pixel, of_row), (len(gaussian), width * height))
    by_pixel = by_row[near_to_far].tocsc()
    alpha = np.concatenate([np.zeros(0, mean.dtype), *alphas]).take(by_pixel.data)
    of_pair = gaussian[near_to_far].astype(np.int32).take(by_pixel.indices)
    return _Pairs(blocks, first, by_pixel.data, of_pair, by_pixel.indptr.astype(np.int64), alpha)


def _running_sums(values: Array32) -> Array:
    """(n + 1,) sums of the first 0 to n values, in double precision. By torch, in a third of the time."""
    sums = np.zeros(len(values) + 1)
    torch.cumsum(torch.from_numpy(values), 0, dtype=torch.float64, out=torch.from_numpy(sums[1:]))
    return sums


def _transmittance(pairs: _Pairs) -> tuple[Array32, Array32]:
    """What reaches each pair from the front (pairs,), and what passes all of a pixel (pixels,)."""
    running = _running_sums(np.log(1.0 - pairs.alpha))  # log1p takes six times as long, and adds no figure at 1 / 255
    at_start = running[pairs.start[:-1]]
    kind = pairs.alpha.dtype
    reaching = np.exp((running[:-1] - np.repeat(at_start, np.diff(pairs.start))).astype(kind))
    return reaching, np.exp((running[pairs.start[1:]] - at_start).astype(kind))


class _Rasterise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, mean: Tensor, conic: Tensor, opacity: Tensor, rgb: Tensor, depth: Tensor, width: int, height: int
    ) -> tuple[Tensor, Tensor]:
        arrays = [each.detach().numpy() for each in (mean, conic, opacity, rgb)]
        pairs = _pairs_of(arrays[0], arrays[1], arrays[2], depth.detach().numpy(), width, height)
        reaching, passing = _transmittance(pairs)
        weight = sparse.csr_matrix((pairs.alpha * reaching, pairs.gaussian, pairs.start), (width * height, len(depth)))
        image = weight @ arrays[3]
        ctx.state = (arrays, pairs, reaching, weight)
        shape = height, width
        covered = torch.from_numpy(1.0 - passing).reshape(shape)
        ctx.mark_non_differentiable(covered)
        return torch.from_numpy(image).reshape(*shape, 3), covered

    @staticmethod
    def backward(ctx: Any, *by_outputs: Any) -> tuple[Tensor | None, ...]:
        (_, conic, opacity, rgb), pairs, reaching, weight = ctx.state
        by_image = by_outputs[0].reshape(-1, 3).numpy()
        k = pairs.gaussian
        by_rgb = weight.T @ by_image
        counts = np.diff(pairs.start)
        light = sum(
            np.repeat(by_channel, counts) * channel.take(k)
            for by_channel, channel in zip(*(np.ascontiguousarray(each.T) for each in (by_image, rgb)), strict=True)
        )
        # What lies behind a pair is dimmed by it: the sum over the pairs behind, over 1 - a.
        share = reaching * light
        running = _running_sums(pairs.alpha * share)
        behind = (np.repeat(running[pairs.start[1:]], counts) - running[1:]).astype(share.dtype)
        by_alpha = share - behind / (1.0 - pairs.alpha)
        by_alpha[pairs.alpha >= MOST_ALPHA] = 0.0
        by_q = np.zeros(pairs.cells, by_alpha.dtype)
        by_q[pairs.cell.astype(np.intp)] = -0.5 * pairs.alpha * by_alpha
        by_mean, by_conic, by_opacity = (np.zeros((len(opacity), *more), rgb.dtype) for more in ((2,), (3,), ()))
        for block in pairs.blocks:
            members, dx, dy = block.members, block.dx, block.dy
            shape = len(members), dy.shape[1], dx.shape[1]
            grid = by_q[block.first : block.first + math.prod(shape)].reshape(shape)
            sums = np.matmul(grid, np.stack([np.ones_like(dx), dx, dx * dx], axis=2))
            total, by_x, by_xx = np.einsum("myk->km", sums)
            by_y, by_xy = np.einsum("my,myk->km", dy, sums[:, :, :2])
            by_yy = np.einsum("my,my,my->m", dy, dy, sums[:, :, 0])
            a, b, c = conic[members].T
            by_mean[members] = -2.0 * np.stack([a * by_x + b * by_y, b * by_x + c * by_y], axis=1)
            by_conic[members] = np.stack([by_xx, 2.0 * by_xy, by_yy], axis=1)
            by_opacity[members] = -2.0 * total / opacity[members]
        ctx.state = None  # of a band, before the next one is worked on
        return (*map(torch.from_numpy, (by_mean, by_conic, by_opacity, np.asarray(by_rgb))), None, None, None)


def rasterise(
    mean: Tensor, conic: Tensor, opacity: Tensor, rgb: Tensor, depth: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """Image (height, width, 3) of flat Gaussians on black, and how much of each pixel they cover (height, width).

    mean: (n, 2) pixels; conic: (n, 3) a, b, c of the inverse covariance [[a, b], [b, c]] in 1 / square pixels; opacity:
    (n,); rgb: (n, 3); depth: (n,) in front of the camera. All but depth have derivatives.
    """
    apply: Callable[..., tuple[Tensor, Tensor]] = _Rasterise.apply
    low, high, pairs = _rows_of(mean.detach().numpy(), conic.detach().numpy(), opacity.detach().numpy(), width, height)
    bands = min(height, -(-pairs // BAND_PAIRS))
    if bands <= 1:
        return apply(mean, conic, opacity, rgb, depth, width, height)
    images, coverages = [], []
    edges = np.linspace(0, height, bands + 1).astype(int)
    for top, bottom in pairwise(edges.tolist()):
        here = torch.from_numpy(np.flatnonzero((low < bottom) & (high >= top)))
        parts = [each[here] for each in (mean, conic, opacity, rgb, depth)]
        parts[0] = parts[0] - torch.tensor([0.0, top], dtype=mean.dtype)
        image, covered = apply(*parts, width, bottom - top)
        images.append(image)
        coverages.append(covered)
    return torch.cat(images), torch.cat(coverages)


def _rows_of(mean: Array32, conic: Array32, opacity: Array32, width: int, height: int) -> tuple[Array32, Array32, int]:
    """First and last row (n,) that Gaussians may change, and how many pairs of Gaussian and pixel there are, about."""
    half = _half_sides(conic, opacity)
    low, high = mean - half, mean + half
    sides = np.minimum(high, (width, height)) - np.maximum(low, 0.0)
    ellipses = 0.25 * np.pi * np.maximum(sides, 0.0).prod(axis=1)
    return np.asarray(low[:, 1]), np.asarray(high[:, 1]), int(ellipses.sum())
