"""Reciprocal nearest neighbours between dense maps that lie on a torch device, with one wait for it per round.

The same search as in `reciprocal_matching`, where numpy asks for one table of neighbours after the other: a GPU would
idle between the questions, and copy rows of pixels there and back. Here the seeds of all searches move in lockstep,
and their positions stay on the device until they rest. Only the number of seeds that still move is read in between.

Work of one round of s seeds among n pixels of d dimensions, there and back: 4 s n d operations, and n d numbers read
as often as queries are cut in blocks. For 3072 seeds in 512 x 384 pixels with 24 dimensions that is 58 GFLOP. Written
out, the similarities would be 4.8 GB there and back, 3 ms of a memory of 3 TB/s at one write and one read; the kernel
of `nearest_kernel` never writes them, which leaves the arithmetic: 1.2 ms at the 50 TFLOP/s of float32 of an H100, and
0.2 ms on its tensor cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..triton_kernels import kernel_problem
from .reciprocal_matching import MAX_ROUNDS, PixelIndex, PixelMatches, without_repetition

BLOCK_BYTES = 256 << 20
"""Of a block of similarities, where they are written out: large enough that launches do not count."""

SEARCH_CAPABILITY = (8, 0)
"""Ampere: older cards have no TF32, which the kernel multiplies by."""

RowSearch = Callable[[Tensor, Tensor], Tensor]
"""For queries (k, q, d) and targets (k, n, d) of k searches: (k, q) the row of the nearest target of each query."""


class DenseSides(NamedTuple):
    """Dense maps of both images in one decoding, (height, width, d), or of any shape (..., d)."""

    a: Tensor
    b: Tensor


def nearest_by_product(queries: Tensor, targets: Tensor) -> Tensor:
    """The target of largest dot product, the first of several; by the kernel where it runs, else in blocks."""
    if kernel_runs_on(queries.device):
        from .nearest_kernel import nearest_by_kernel  # needs Triton

        return nearest_by_kernel(queries, targets)
    return _in_blocks(lambda some: torch.bmm(some, targets.transpose(1, 2)).argmax(dim=2), queries, targets)


def kernel_runs_on(device: torch.device) -> bool:
    """Whether the kernels run on a device, see `search_kernel_problem`."""
    return not search_kernel_problem(device)


@cache
def search_kernel_problem(device: torch.device) -> str:
    """Why the kernels of `nearest_kernel` do not run on a device; empty if they do."""
    return kernel_problem(device, SEARCH_CAPABILITY, partial(_try_kernels, device))


def _try_kernels(device: torch.device) -> None:
    from .nearest_kernel import nearest_by_kernel, nearest_point_by_kernel  # needs Triton

    some = torch.ones(1, 1, 3, device=device)
    nearest_by_kernel(some, some)
    nearest_point_by_kernel(some, some)


def nearest_by_distance(queries: Tensor, targets: Tensor) -> Tensor:
    """The target of smallest Euclidean distance, the first of several; by the kernel where it runs, else in blocks."""
    if kernel_runs_on(queries.device) and queries.shape[2] == 3:
        from .nearest_kernel import nearest_point_by_kernel  # needs Triton

        return nearest_point_by_kernel(queries, targets)
    return _in_blocks(lambda some: _squared_distances(some, targets).argmin(dim=2), queries, targets)


def reciprocal_both_ways_on_device(
    decodings: Sequence[DenseSides], seeds_a: PixelIndex, seeds_b: PixelIndex, nearest: RowSearch
) -> list[PixelMatches]:
    """Reciprocal matches reached from seeds of a and from seeds of b in each decoding, two entries per decoding, as
    `reciprocal_both_ways` gives them. Rows that are not finite count as zero."""
    sides = [torch.stack([_finite_rows(each[side]) for each in decodings]) for side in (0, 1)]
    a, b = sides
    if a.shape == b.shape and len(seeds_a) == len(seeds_b):  # all searches together
        seeds = _seeds(seeds_a, a), _seeds(seeds_b, b)
        ends = _settle(torch.cat([a, b]), torch.cat([b, a]), torch.cat(seeds), nearest)
    else:
        ends = _settle(a, b, _seeds(seeds_a, a), nearest) + _settle(b, a, _seeds(seeds_b, b), nearest)
    count = len(decodings)
    out = []
    for onward, back in zip(ends[:count], ends[count:], strict=True):
        from_b = without_repetition(*back)[0]
        out += [without_repetition(*onward)[0], PixelMatches(from_b.b, from_b.a)]
    return out


def _settle(sources: Tensor, targets: Tensor, seeds: Tensor, nearest: RowSearch) -> list[tuple[PixelIndex, PixelIndex]]:
    """Where the seeds (k, s) of k searches come to rest, source and target rows of each search."""
    at, end = seeds.clone(), torch.full_like(seeds, -1)
    moving = torch.ones_like(seeds, dtype=torch.bool)
    for round_ in range(MAX_ROUNDS):
        # Moving seeds first. Searches with fewer of them than others look some up again that rest, and change nothing.
        width = seeds.shape[1] if round_ == 0 else int(moving.sum(dim=1).max())
        if width == 0:
            break
        chosen = (~moving).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
        start, before = at.gather(1, chosen), end.gather(1, chosen)
        across = nearest(_rows(sources, start), targets)
        returned = nearest(_rows(targets, across), sources)
        rests = (across == before) | (returned == start) | ~moving.gather(1, chosen)
        at.scatter_(1, chosen, torch.where(moving.gather(1, chosen), returned, start))
        end.scatter_(1, chosen, torch.where(moving.gather(1, chosen), across, before))
        moving.scatter_(1, chosen, ~rests)
    ends = np.asarray(torch.stack([at, torch.where(moving, -1, end)]).cpu())  # one copy for all
    return [(at[end >= 0], end[end >= 0]) for at, end in zip(*ends, strict=True)]


def _rows(maps: Tensor, index: Tensor) -> Tensor:
    return maps.gather(1, index[:, :, None].expand(-1, -1, maps.shape[2]))


def _seeds(rows: PixelIndex, maps: Tensor) -> Tensor:
    return torch.from_numpy(rows).to(maps.device).expand(len(maps), -1)


def _finite_rows(dense: Tensor) -> Tensor:
    """(pixels, d) float32; a NaN would be the maximum of every search."""
    rows = dense.reshape(-1, dense.shape[-1]).float()
    return torch.where(rows.isfinite().all(dim=1, keepdim=True), rows, 0.0)


def _squared_distances(queries: Tensor, targets: Tensor) -> Tensor:
    """(k, q, n), from differences: squared norms of far points exceed squared distances of near ones, and products
    cancel. torch.cdist does the same, with 256 threads of a GPU for each three numbers."""
    total: Tensor | None = None
    for a, b in zip(queries.unbind(2), targets.unbind(2), strict=True):
        difference = a[:, :, None] - b[:, None, :]
        total = difference.square_() if total is None else total.addcmul_(difference, difference)
    assert total is not None
    return total


def _in_blocks(search: Callable[[Tensor], Tensor], queries: Tensor, targets: Tensor) -> Tensor:
    size = max(1, BLOCK_BYTES // (4 * len(targets) * targets.shape[1]))
    return torch.cat([search(some) for some in torch.split(queries, size, dim=1)], dim=1)
