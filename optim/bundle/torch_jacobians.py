"""The Jacobians of bundle adjustment in torch, and products with them, block by block of photos.

`jacobian_kernel` has the same products as Triton kernels, which write nothing before it is summed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .torch_layout import TorchLayout


class Jacobians(NamedTuple):
    """Derivatives of the r weighted residuals of each observation, rounded to the type that they are stored in."""

    camera: Tensor
    """(r, pose + intrinsics, m) by the unknowns of photo and camera."""
    point: Tensor
    """(r, 3, m)."""

    def select(self, rows: slice) -> Jacobians:
        """Those of some observations."""
        return Jacobians(self.camera[:, :, rows], self.point[:, :, rows])


def point_products(jacobians: Jacobians, x: Tensor, layout: TorchLayout) -> Tensor:
    """(m, 3) J_point^T J_camera x of each observation, for x (pose + intrinsics, c) of photos and their cameras."""
    out = []
    for part, rows in _parts(jacobians, layout):
        along = (part.camera * x[:, layout.photo[rows]]).sum(1)
        out.append((part.point * along[:, None]).sum(0))
    return torch.cat(out, dim=1).T


def photo_products(jacobians: Jacobians, y: Tensor, layout: TorchLayout) -> Tensor:
    """(c, pose + intrinsics) J_camera^T J_point y, summed by photo, for y (3, p) of the points."""
    out = []
    for (part, rows), (_, _, photo_sums) in zip(_parts(jacobians, layout), layout.chunks, strict=True):
        along = (part.point * y[:, layout.point[rows]]).sum(1)
        out.append(photo_sums((part.camera * along[:, None]).sum(0).T))
    return torch.cat(out)


def _parts(jacobians: Jacobians, layout: TorchLayout) -> Iterator[tuple[Jacobians, slice]]:
    for rows, _, _ in layout.chunks:
        yield jacobians.select(rows), rows
