"""Largest dot products and smallest distances by Triton kernels that never write a similarity to memory.

A program keeps a block of queries and runs through all targets. Every place of its tile of similarities remembers the
best it has seen and when, and the columns of the tile are compared once, at the end: per similarity one comparison and
two selections remain beside the product. Targets are read once per block of queries, mostly from the second cache.

`reciprocal_on_device` has the same in torch, which is the reference and serves where this does not run; Triton's
interpreter (TRITON_INTERPRET=1) runs the kernel on a CPU, as its test does. Importing this module needs Triton.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

QUERIES, TARGETS = 64, 64
"""Sides of a tile: its similarities, their maxima and their places take 96 registers of each of 128 threads."""

MIN_DIMS = 16
"""Of factors on tensor cores; shorter rows are filled up with zeros."""

PRECISION = "tf32x3"
"""Three products of TF32 on tensor cores reach float32 but for the last bits."""


def nearest_by_kernel(queries: Tensor, targets: Tensor, precision: str = PRECISION) -> Tensor:
    """(k, q) row of the target (k, n, d) of largest dot product with each query (k, q, d), the first of several."""
    padded = max(MIN_DIMS, triton.next_power_of_2(queries.shape[2]))
    return _searched(_nearest, queries, targets, padded, precision)


def nearest_point_by_kernel(queries: Tensor, targets: Tensor) -> Tensor:
    """(k, q) row of the target (k, n, 3) of smallest distance to each query (k, q, 3), the first of several."""
    return _searched(_nearest_point, queries, targets)


def _searched(kernel: Any, queries: Tensor, targets: Tensor, *more: object) -> Tensor:
    queries, targets = queries.contiguous(), targets.contiguous()
    problems, count, dims = queries.shape
    out = torch.empty((problems, count), dtype=torch.int64, device=queries.device)
    grid = triton.cdiv(count, QUERIES), problems
    # Triton launches on the current device, wherever the tensors are
    with torch.cuda.device(queries.get_device()):
        if out.numel():
            kernel[grid](queries, targets, out, count, targets.shape[1], dims, *more, QUERIES, TARGETS)
    return out


def _nearest_rows(
    queries: tl.tensor,
    targets: tl.tensor,
    out: tl.tensor,
    query_count: tl.tensor,
    target_count: tl.tensor,
    dims: tl.tensor,
    padded: tl.constexpr,
    precision: tl.constexpr,
    block_q: tl.constexpr,
    block_t: tl.constexpr,
) -> None:
    problem = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * block_q + tl.arange(0, block_q)
    column, axis = tl.arange(0, block_t), tl.arange(0, padded)
    queries += problem * query_count * dims
    targets += problem * target_count * dims
    inside = (row[:, None] < query_count) & (axis[None, :] < dims)
    query = tl.load(queries + row[:, None] * dims + axis[None, :], mask=inside, other=0.0)
    best = tl.full((block_q, block_t), float("-inf"), tl.float32)
    tile_of_best = tl.zeros((block_q, block_t), tl.int32)
    for start in range(0, target_count, block_t):
        at = start + column
        held = (at[None, :] < target_count) & (axis[:, None] < dims)
        target = tl.load(targets + at[None, :] * dims + axis[:, None], mask=held, other=0.0)
        similarity = tl.dot(query, target, input_precision=precision)
        similarity = tl.where(at[None, :] < target_count, similarity, float("-inf"))
        better = similarity > best
        best = tl.where(better, similarity, best)
        tile_of_best = tl.where(better, start, tile_of_best)
    place = tile_of_best + column[None, :]
    first = tl.where(best == tl.max(best, axis=1)[:, None], place, target_count)
    nearest_row = tl.min(first, axis=1).to(tl.int64)
    tl.store(out + problem * query_count + row, nearest_row, mask=row < query_count)


def _nearest_points(
    queries: tl.tensor,
    targets: tl.tensor,
    out: tl.tensor,
    query_count: tl.tensor,
    target_count: tl.tensor,
    dims: tl.tensor,
    block_q: tl.constexpr,
    block_t: tl.constexpr,
) -> None:
    problem = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * block_q + tl.arange(0, block_q)
    column = tl.arange(0, block_t)
    queries += problem * query_count * dims
    targets += problem * target_count * dims
    inside = row < query_count
    x = tl.load(queries + row * dims, mask=inside, other=0.0)
    y = tl.load(queries + row * dims + 1, mask=inside, other=0.0)
    z = tl.load(queries + row * dims + 2, mask=inside, other=0.0)
    best = tl.full((block_q, block_t), float("inf"), tl.float32)
    tile_of_best = tl.zeros((block_q, block_t), tl.int32)
    for start in range(0, target_count, block_t):
        at = start + column
        held = at < target_count
        # Differences, not products: squared norms of far points exceed squared distances of near ones.
        dx = x[:, None] - tl.load(targets + at * dims, mask=held, other=float("inf"))[None, :]
        dy = y[:, None] - tl.load(targets + at * dims + 1, mask=held, other=float("inf"))[None, :]
        dz = z[:, None] - tl.load(targets + at * dims + 2, mask=held, other=float("inf"))[None, :]
        distance = dx * dx + dy * dy + dz * dz
        better = distance < best
        best = tl.where(better, distance, best)
        tile_of_best = tl.where(better, start, tile_of_best)
    place = tile_of_best + column[None, :]
    first = tl.where(best == tl.min(best, axis=1)[:, None], place, target_count)
    tl.store(out + problem * query_count + row, tl.min(first, axis=1).to(tl.int64), mask=inside)


_nearest = triton.jit(_nearest_rows)
_nearest_point = triton.jit(_nearest_points)
