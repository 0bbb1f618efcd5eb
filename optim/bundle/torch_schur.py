"""The damped step of bundle adjustment in torch: points are eliminated, cameras found by conjugate gradients.

The Schur complement S = U - W V^-1 W^T is never formed. S x is computed from the right, from cameras to points and
back, with L = R W^T (see schur) stored per observation in the order of the photos: a GPU takes as long as it takes to
read L twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .packed_cholesky import inverse_cholesky
from .schur import damp_diagonal, damp_points
from .torch_layout import TorchLayout

TORCH_CG_TOLERANCE = 1e-2
"""Relative residual, in the norm of the preconditioner, at which conjugate gradients stop."""

TORCH_CG_MAX_ITERATIONS = 300

ITERATIONS_PER_CHECK = 4
"""Iterations between two tests for convergence: a test waits for the device, which could go on meanwhile."""


@dataclass(frozen=True, eq=False)
class TorchNormalEquations:
    """As normal_equations.NormalEquations, and the blocks W between points and photos or shared cameras as well."""

    photo: Tensor
    photo_gradient: Tensor
    camera: Tensor
    camera_gradient: Tensor
    photo_camera: Tensor
    point: Tensor
    point_gradient: Tensor
    w_photo: Tensor
    """(m, 3, d) J_point^T J_photo of each observation."""
    w_camera: Tensor
    """(v, 3, q) the same of pairs of a shared camera and a point, summed over their observations."""


class ImplicitSchurComplement:
    """The system of photos and cameras after elimination of the points, known by its products with vectors."""

    def __init__(self, layout: TorchLayout, equations: TorchNormalEquations, damping: float) -> None:
        self.layout, self.equations = layout, equations
        self.photo, self.camera = (_damped(blocks, damping) for blocks in (equations.photo, equations.camera))
        self.root = inverse_cholesky(damp_points(equations.point, damping, torch), torch)
        self.gradient = self._multiply_root(equations.point_gradient)
        self.by_photo = self._multiply_root_rows(equations.w_photo, layout.point)
        self.by_camera = equations.w_camera
        if layout.shared:
            self.by_camera = self._multiply_root_rows(equations.w_camera, layout.pair_point)

    def solve(self) -> tuple[Tensor, Tensor]:
        """Changes of photos (c, d) and shared cameras (k, q), by conjugate gradients preconditioned by
        the diagonal blocks."""
        photo, camera = self._to_blocks(self.gradient.T)
        residual = (photo - self.equations.photo_gradient, camera - self.equations.camera_gradient)
        inverse = self._preconditioner()
        x = (torch.zeros_like(residual[0]), torch.zeros_like(residual[1]))
        z = _times(inverse, residual)
        direction, energy = z, _dot(residual, z)
        target = TORCH_CG_TOLERANCE**2 * energy
        going = energy > target
        for iteration in range(TORCH_CG_MAX_ITERATIONS):
            if iteration % ITERATIONS_PER_CHECK == 0 and not bool(going):
                break
            product = self.multiply(direction)
            curvature = _dot(direction, product)
            going = going & (curvature > 0.0)
            length = torch.where(going, energy / curvature, 0.0)  # iterations after convergence change nothing
            x, residual = _plus(x, length, direction), _plus(residual, -length, product)
            z = _times(inverse, residual)
            before, energy = energy, _dot(residual, z)
            direction = _plus(z, torch.where(going, energy / before, 0.0), direction)
            going = going & (energy > target)
        return x

    def points(self, photos: Tensor, cameras: Tensor) -> Tensor:
        """(3, p) changes of the points, by back substitution."""
        a, b, c = (self.gradient.T + self._to_points(photos, cameras)).T
        r = self.root
        return -torch.stack([r[0] * a + r[1] * b + r[3] * c, r[2] * b + r[4] * c, r[5] * c])

    def multiply(self, x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """S x."""
        eliminated = self._to_blocks(self._to_points(*x))
        photo, camera = _times((self.photo, self.camera), x)
        if self.layout.shared:
            photo_camera = self.equations.photo_camera
            photo = photo + (photo_camera * x[1][self.layout.camera_of_photo][:, None, :]).sum(2)
            camera = camera + self.layout.camera_sums((photo_camera * x[0][:, :, None]).sum(1))
        return photo - eliminated[0], camera - eliminated[1]

    def _to_points(self, photos: Tensor, cameras: Tensor) -> Tensor:
        """(p, 3) L x, summed by point."""
        layout = self.layout
        out = layout.point_sums((self.by_photo * photos[layout.photo][:, None, :]).sum(2))
        if layout.shared:
            out = out + layout.pair_sums_by_point((self.by_camera * cameras[layout.pair_camera][:, None, :]).sum(2))
        return out

    def _to_blocks(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """L^T times vectors of the points (p, 3), summed by photo and by shared camera."""
        layout = self.layout
        back = (self.by_photo * points[layout.point][:, :, None]).sum(1)
        photos = layout.photo_sums(back)
        if not layout.shared:
            return photos, self.equations.camera_gradient
        return photos, layout.pair_sums_by_camera((self.by_camera * points[layout.pair_point][:, :, None]).sum(1))

    def _preconditioner(self) -> tuple[Tensor, Tensor]:
        layout = self.layout
        eliminated = [reduce(_squares(self.by_photo[part])) for part, (_, reduce) in layout.chunks]
        camera = self.camera
        if layout.shared:
            camera = camera - layout.pair_sums_by_camera(_squares(self.by_camera))
        return _inverse(self.photo - torch.cat(eliminated)), _inverse(camera)

    def _multiply_root_rows(self, w: Tensor, point: Tensor) -> Tensor:
        """R w for w (m, 3, ...)."""
        return self._multiply_root(w.permute(1, 0, 2), point).permute(1, 0, 2).contiguous()

    def _multiply_root(self, w: Tensor, point: Tensor | None = None) -> Tensor:
        """R w for w (3, ...), of all points or of `point` (m,)."""
        r = self.root if point is None else self.root[:, point][:, :, None]
        return torch.stack([r[0] * w[0], r[1] * w[0] + r[2] * w[1], r[3] * w[0] + r[4] * w[1] + r[5] * w[2]])


def _damped(blocks: Tensor, damping: float) -> Tensor:
    """As `schur.damp_blocks`, on the device."""
    out = blocks.clone()
    diagonal = out.diagonal(dim1=1, dim2=2)
    diagonal.copy_(damp_diagonal(diagonal, damping, torch))
    return out


def _inverse(blocks: Tensor) -> Tensor:
    """Inverses of (n, d, d), zero where there is none: such unknowns stay where they are. `torch.linalg.inv` would wait
    for the device to learn whether there are."""
    inverse, problem = torch.linalg.inv_ex(blocks)
    return torch.where((problem == 0)[:, None, None], inverse, 0.0)


def _squares(rows: Tensor) -> Tensor:
    """(n, d, d) L^T L of rows L (n, 3, d)."""
    return (rows[:, :, :, None] * rows[:, :, None, :]).sum(1)


def _times(blocks: tuple[Tensor, Tensor], x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    photo, camera = ((b * v[:, None, :]).sum(2) for b, v in zip(blocks, x, strict=True))
    return photo, camera


def _dot(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """Stays on the device: to convert it to a number is to wait for all work before."""
    return (a[0] * b[0]).sum() + (a[1] * b[1]).sum()


def _plus(a: tuple[Tensor, Tensor], factor: Tensor, b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return a[0] + factor * b[0], a[1] + factor * b[1]
