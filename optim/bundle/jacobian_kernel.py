"""Products with the Jacobians of bundle adjustment by Triton kernels. Importing this module needs Triton.

`torch_jacobians` has the same in torch, which is the reference and serves where this does not run; Triton's interpreter
(TRITON_INTERPRET=1) runs the kernels on a CPU, as their test does.

Bytes per observation with n unknowns of photo and camera and Jacobians in float32, there and back: in torch, which
writes every product before it is summed, 128 n + 464; here the Jacobians twice, two indices, a place, and three
numbers that are written and read: 16 n + 128. With eight unknowns that is 1,488 and 256, so that an iteration of a
million observations takes 0.1 ms of a memory of 2.9 TB/s in place of 0.5. Vectors of photos and points stay in the
second cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .torch_jacobians import Jacobians
from .torch_layout import OwnerParts

OBSERVATIONS = 128
"""Observations of a program of the first kernel: one per thread."""


def point_products_by_kernel(jacobians: Jacobians, x: Tensor, photo: Tensor, place: Tensor) -> Tensor:
    """(m, 3) J_point^T J_camera x of each observation in the rows `place` (m,), for x (c, pose + intrinsics)."""
    residuals, unknowns, count = jacobians.camera.shape
    out = torch.empty((count, 3), dtype=torch.float64, device=x.device)
    grid = (triton.cdiv(count, OBSERVATIONS),)
    # Triton launches on the current device, wherever the tensors are
    with torch.cuda.device(x.get_device()):
        if count:
            _to_points[grid](
                jacobians.camera, jacobians.point, x.contiguous(), photo, place, out, count, residuals, unknowns,
                OBSERVATIONS,
            )  # fmt: skip
    return out


def photo_products_by_kernel(jacobians: Jacobians, y: Tensor, point: Tensor, parts: OwnerParts) -> Tensor:
    """(parts, pose + intrinsics) J_camera^T J_point y, summed over the observations of each part, for y (p, 3)."""
    residuals, unknowns, count = jacobians.camera.shape
    out = torch.empty((len(parts.start), unknowns), dtype=torch.float64, device=y.device)
    with torch.cuda.device(y.get_device()):
        if len(out):
            _to_photos[(len(out),)](
                jacobians.camera, jacobians.point, y, point, parts.start, parts.length, out, count, residuals, unknowns,
                triton.next_power_of_2(parts.longest),
            )  # fmt: skip
    return out


def _multiply_by_point(
    j_camera: tl.tensor,
    j_point: tl.tensor,
    x: tl.tensor,
    photo: tl.tensor,
    place: tl.tensor,
    out: tl.tensor,
    count: tl.tensor,
    residuals: tl.constexpr,
    unknowns: tl.constexpr,
    block: tl.constexpr,
) -> None:
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = at < count
    size = tl.full((), count, tl.int64)  # rows times observations exceed 32 bits
    own = x + tl.load(photo + at, mask=inside, other=0) * unknowns
    to = out + tl.load(place + at, mask=inside, other=0) * 3
    first = tl.zeros((block,), tl.float64)
    second = tl.zeros((block,), tl.float64)
    third = tl.zeros((block,), tl.float64)
    for row in tl.static_range(residuals):
        along = tl.zeros((block,), tl.float64)
        for k in tl.static_range(unknowns):
            factor = tl.load(j_camera + (row * unknowns + k) * size + at, mask=inside, other=0.0).to(tl.float64)
            along += factor * tl.load(own + k, mask=inside, other=0.0)
        by_point = j_point + row * 3 * size + at
        first += along * tl.load(by_point, mask=inside, other=0.0).to(tl.float64)
        second += along * tl.load(by_point + size, mask=inside, other=0.0).to(tl.float64)
        third += along * tl.load(by_point + 2 * size, mask=inside, other=0.0).to(tl.float64)
    tl.store(to, first, mask=inside)
    tl.store(to + 1, second, mask=inside)
    tl.store(to + 2, third, mask=inside)


def _multiply_by_photo(
    j_camera: tl.tensor,
    j_point: tl.tensor,
    y: tl.tensor,
    point: tl.tensor,
    start: tl.tensor,
    length: tl.tensor,
    out: tl.tensor,
    count: tl.tensor,
    residuals: tl.constexpr,
    unknowns: tl.constexpr,
    block: tl.constexpr,
) -> None:
    part = tl.program_id(0).to(tl.int64)
    step = tl.arange(0, block)
    inside = step < tl.load(length + part)
    at = tl.load(start + part) + step
    size = tl.full((), count, tl.int64)
    own = y + tl.load(point + at, mask=inside, other=0) * 3
    first = tl.load(own, mask=inside, other=0.0)
    second = tl.load(own + 1, mask=inside, other=0.0)
    third = tl.load(own + 2, mask=inside, other=0.0)
    for k in tl.static_range(unknowns):
        total = tl.zeros((block,), tl.float64)
        for row in tl.static_range(residuals):
            by_point = j_point + row * 3 * size + at  # read again for each k: from the first cache
            along = first * tl.load(by_point, mask=inside, other=0.0).to(tl.float64)
            along += second * tl.load(by_point + size, mask=inside, other=0.0).to(tl.float64)
            along += third * tl.load(by_point + 2 * size, mask=inside, other=0.0).to(tl.float64)
            factor = tl.load(j_camera + (row * unknowns + k) * size + at, mask=inside, other=0.0).to(tl.float64)
            total += along * factor
        tl.store(out + part * unknowns + k, tl.sum(total, axis=0))


_to_points = triton.jit(_multiply_by_point)
_to_photos = triton.jit(_multiply_by_photo)
