"""The damped step of bundle adjustment in torch: points are eliminated, cameras found by conjugate gradients.

The Schur complement S = U - W V^-1 W^T is never formed, nor is W. S x is computed from the right, from cameras to
points and back, by the Jacobians of the residuals, of which W is made:

    S x = U x - J_camera^T J_point V^-1 J_point^T J_camera x

A GPU takes as long as it takes to read them twice. They may be stored in float32, and so they are by default: what is
solved are then the normal equations of Jacobians that are rounded by 6e-8, as exactly as those of others, since U and V
are made from what is stored and everything is multiplied and added in float64. Moving the whole world costs what it
should, next to nothing: by W or by its product with V^-1/2, rounded after U was made, it would cost 6e-8 of a diagonal
that is damped by down to 1e-10, with either sign. Gradients are never rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from ..triton_kernels import kernel_problem
from .packed_cholesky import inverse_cholesky
from .schur import damp_diagonal, damp_points
from .torch_conjugate_gradients import Blocks, block_products, conjugate_gradients, inverse_or_zero
from .torch_jacobians import Jacobians, photo_products, point_products
from .torch_layout import OwnerParts, TorchLayout

KERNEL_CAPABILITY = (7, 5)
"""Of GPUs that Triton supports: Turing and later."""


@dataclass(frozen=True, eq=False)
class TorchNormalEquations:
    """As normal_equations.NormalEquations, and the Jacobians that they are made from."""

    photo: Tensor
    photo_gradient: Tensor
    camera: Tensor
    camera_gradient: Tensor
    photo_camera: Tensor
    point: Tensor
    point_gradient: Tensor
    jacobians: Jacobians
    w_camera: Tensor
    """(v, 3, q) J_point^T J_camera of pairs of a shared camera and a point, summed over their observations."""


class ImplicitSchurComplement:
    """The system of photos and cameras after elimination of the points, known by its products with vectors."""

    def __init__(self, layout: TorchLayout, equations: TorchNormalEquations, damping: float) -> None:
        self.layout, self.equations = layout, equations
        self.photo, self.camera = (_damped(blocks, damping) for blocks in (equations.photo, equations.camera))
        self.root = inverse_cholesky(damp_points(equations.point, damping, torch), torch)
        self.gradient = self._multiply_root(equations.point_gradient)
        self.kernel = not product_kernel_problem(layout.device)
        """Whether products with Jacobians are made by Triton kernels."""

    def solve(self) -> tuple[Tensor, Tensor]:
        """Changes of photos (c, d) and shared cameras (k, q)."""
        photos, cameras = conjugate_gradients(self.multiply, self.inverse_blocks(), self.right())
        return photos, cameras

    def right(self) -> Blocks:
        """What S x is to be."""
        photo, camera = self._to_blocks(self.gradient.T)
        return photo - self.equations.photo_gradient, camera - self.equations.camera_gradient

    def points(self, photos: Tensor, cameras: Tensor) -> Tensor:
        """(3, p) changes of the points, by back substitution."""
        return -self._multiply_root_transposed((self.gradient.T + self._to_points(photos, cameras)).T)

    def multiply(self, x: Blocks) -> Blocks:
        """S x."""
        eliminated = self._to_blocks(self._to_points(x[0], x[1]))
        photo, camera = block_products((self.photo, self.camera), x)
        if self.layout.shared:
            photo_camera = self.equations.photo_camera
            photo = photo + (photo_camera * x[1][self.layout.camera_of_photo][:, None, :]).sum(2)
            camera = camera + self.layout.camera_sums((photo_camera * x[0][:, :, None]).sum(1))
        return photo - eliminated[0], camera - eliminated[1]

    def _to_points(self, photos: Tensor, cameras: Tensor) -> Tensor:
        """(p, 3) R W^T x, with R the inverse root of V, summed by point."""
        layout, jacobians = self.layout, self.equations.jacobians
        x = torch.cat([photos, cameras[layout.camera_of_photo]], dim=1) if layout.shared else photos
        if self.kernel:
            from .jacobian_kernel import point_products_by_kernel  # needs Triton

            sums = layout.point_sums.of_sorted(point_products_by_kernel(jacobians, x, layout.photo, layout.by_point))
        else:
            sums = layout.point_sums(point_products(jacobians, x.T, layout))
        return self._multiply_root(sums.T).T

    def _to_blocks(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """W R^T times vectors of the points (p, 3), summed by photo and by shared camera."""
        layout, jacobians = self.layout, self.equations.jacobians
        y = self._multiply_root_transposed(points.T)
        if self.kernel:
            from .jacobian_kernel import photo_products_by_kernel  # needs Triton

            parts = photo_products_by_kernel(jacobians, y.T.contiguous(), layout.point, layout.photo_parts)
            whole = layout.photo_parts.sums(parts)
        else:
            whole = photo_products(jacobians, y, layout)
        if not layout.shared:
            return whole, self.equations.camera_gradient
        d = self.photo.shape[1]
        return whole[:, :d], layout.camera_sums(whole[:, d:])

    def inverse_blocks(self) -> Blocks:
        """The inverses of the diagonal blocks of S."""
        return tuple(inverse_or_zero(blocks) for blocks in self.diagonal_blocks())

    def diagonal_blocks(self) -> Blocks:
        """Of photos (c, d, d) and of shared cameras (k, q, q)."""
        layout, d = self.layout, self.photo.shape[1]
        eliminated = []
        for rows, _, photo_sums in layout.chunks:
            part = self.equations.jacobians.select(rows)
            w = (part.point[:, :, None].double() * part.camera[:, None, :d].double()).sum(0)
            own = self._multiply_root(w, layout.point[rows])
            eliminated.append(photo_sums((own[:, :, None] * own[:, None]).sum(0).permute(2, 0, 1)))
        camera = self.camera
        if layout.shared:
            own = self._multiply_root(self.equations.w_camera.permute(1, 2, 0), layout.pair_point)
            camera = camera - layout.pair_sums_by_camera((own[:, :, None] * own[:, None]).sum(0).permute(2, 0, 1))
        return self.photo - torch.cat(eliminated), camera

    def _multiply_root(self, w: Tensor, point: Tensor | None = None) -> Tensor:
        """R w for w (3, p) of all points, or (3, d, m) of the points `point` (m,)."""
        r = self.root if point is None else self.root[:, point][:, None]
        return torch.stack([r[0] * w[0], r[1] * w[0] + r[2] * w[1], r[3] * w[0] + r[4] * w[1] + r[5] * w[2]])

    def _multiply_root_transposed(self, w: Tensor) -> Tensor:
        """R^T w for w (3, p)."""
        r = self.root
        return torch.stack([r[0] * w[0] + r[1] * w[1] + r[3] * w[2], r[2] * w[1] + r[4] * w[2], r[5] * w[2]])


@cache
def product_kernel_problem(device: torch.device) -> str:
    """Why the kernels of `jacobian_kernel` do not run on a device; empty if they do."""
    return kernel_problem(device, KERNEL_CAPABILITY, partial(_try_kernels, device))


def _try_kernels(device: torch.device) -> None:
    from .jacobian_kernel import photo_products_by_kernel, point_products_by_kernel  # needs Triton

    one, zero = torch.ones(2, 6, 1, device=device), torch.zeros(1, dtype=torch.int64, device=device)
    jacobians, parts = Jacobians(one, one[:, :3].contiguous()), OwnerParts(np.ones(1, np.int64), device)
    point_products_by_kernel(jacobians, one[0].T.double(), zero, zero)
    photo_products_by_kernel(jacobians, one[0, :3].T.double(), zero, parts)


def _damped(blocks: Tensor, damping: float) -> Tensor:
    """As `schur.damp_blocks`, on the device."""
    out = blocks.clone()
    diagonal = out.diagonal(dim1=1, dim2=2)
    diagonal.copy_(damp_diagonal(diagonal, damping, torch))
    return out
