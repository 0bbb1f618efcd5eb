"""The damped step of bundle adjustment by torch: points are eliminated, cameras found by conjugate gradients.

The reduced system is never formed. Multiplying by it is a walk from the cameras to the points and back, over
derivatives that lie in memory in the order of the photos; a GPU does that in the time that it takes to read them twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .schur import damped, damped_points, inverse_roots
from .torch_layout import Layout

PRECISION = 1e-2
"""Share of the right side that conjugate gradients may leave, in the norm of the preconditioner."""

MOST_ROUNDS = 300

ROUNDS_UNSEEN = 4
"""Rounds between two looks at whether it is enough: a look waits for the device, which could go on meanwhile."""


@dataclass(frozen=True, eq=False)
class Linear:
    """Normal equations at one state, as normal_equations.System; derivatives of observations come first."""

    photo: Tensor
    photo_gradient: Tensor
    camera: Tensor
    camera_gradient: Tensor
    mixed: Tensor
    point: Tensor
    point_gradient: Tensor
    cross: Tensor
    """(m, 3, d)."""
    camera_cross: Tensor
    """(v, 3, q)."""


class Reduced:
    """The system of photos and cameras that remains when the points are eliminated."""

    def __init__(self, layout: Layout, linear: Linear, damping: float) -> None:
        self.layout, self.linear = layout, linear
        self.photo, self.camera = (_damped(blocks, damping) for blocks in (linear.photo, linear.camera))
        self.root = inverse_roots(damped_points(linear.point, damping, torch), torch)
        self.pull = self._lower(linear.point_gradient)
        self.seen = self._whitened(linear.cross, layout.point)
        self.lens = self._whitened(linear.camera_cross, layout.view_point) if layout.shared else linear.camera_cross

    def solve(self) -> tuple[Tensor, Tensor]:
        """Conjugate gradients, preconditioned by the blocks of photos and cameras."""
        taken_photo, taken_camera = self._to_blocks(self.pull.T)
        residual = (taken_photo - self.linear.photo_gradient, taken_camera - self.linear.camera_gradient)
        inverse = self._preconditioner()
        x = (torch.zeros_like(residual[0]), torch.zeros_like(residual[1]))
        z = _times(inverse, residual)
        direction, energy = z, _dot(residual, z)
        target = PRECISION**2 * energy
        going = energy > target
        for turn in range(MOST_ROUNDS):
            if turn % ROUNDS_UNSEEN == 0 and not bool(going):
                break
            moved = self._times(direction)
            curvature = _dot(direction, moved)
            going = going & (curvature > 0.0)
            length = torch.where(going, energy / curvature, 0.0)  # rounds that nobody asked for change nothing
            x, residual = _plus(x, length, direction), _plus(residual, -length, moved)
            z = _times(inverse, residual)
            before, energy = energy, _dot(residual, z)
            direction = _plus(z, torch.where(going, energy / before, 0.0), direction)
            going = going & (energy > target)
        return x

    def points(self, photos: Tensor, cameras: Tensor) -> Tensor:
        """(3, p) changes of the points that follow."""
        a, b, c = (self.pull.T + self._to_points(photos, cameras)).T
        r = self.root
        return -torch.stack([r[0] * a + r[1] * b + r[3] * c, r[2] * b + r[4] * c, r[5] * c])

    def _times(self, x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        taken = self._to_blocks(self._to_points(*x))
        photo, camera = _times((self.photo, self.camera), x)
        if self.layout.shared:
            mixed = self.linear.mixed
            photo = photo + (mixed * x[1][self.layout.camera_of_photo][:, None, :]).sum(2)
            camera = camera + self.layout.camera_sums((mixed * x[0][:, :, None]).sum(1))
        return photo - taken[0], camera - taken[1]

    def _to_points(self, photos: Tensor, cameras: Tensor) -> Tensor:
        """(p, 3) what changes of photos and cameras do to the points."""
        layout = self.layout
        out = layout.by_point((self.seen * photos[layout.photo][:, None, :]).sum(2))
        if layout.shared:
            out = out + layout.views_by_point((self.lens * cameras[layout.view_camera][:, None, :]).sum(2))
        return out

    def _to_blocks(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """What changes of the points do to photos and cameras."""
        layout = self.layout
        back = (self.seen * points[layout.point][:, :, None]).sum(1)
        photos = torch.cat([reduce(back[part]) for part, (_, reduce) in layout.chunks])
        if not layout.shared:
            return photos, self.linear.camera_gradient
        return photos, layout.views_by_camera((self.lens * points[layout.view_point][:, :, None]).sum(1))

    def _preconditioner(self) -> tuple[Tensor, Tensor]:
        layout = self.layout
        own = [reduce(_squares(self.seen[part])) for part, (_, reduce) in layout.chunks]
        camera = self.camera
        if layout.shared:
            camera = camera - layout.views_by_camera(_squares(self.lens))
        return torch.linalg.inv(self.photo - torch.cat(own)), torch.linalg.inv(camera)

    def _whitened(self, cross: Tensor, point: Tensor) -> Tensor:
        return self._lower(cross.permute(1, 0, 2), point).permute(1, 0, 2).contiguous()

    def _lower(self, w: Tensor, point: Tensor | None = None) -> Tensor:
        """The inverse roots of the points times w (3, ...)."""
        r = self.root if point is None else self.root[:, point][:, :, None]
        return torch.stack([r[0] * w[0], r[1] * w[0] + r[2] * w[1], r[3] * w[0] + r[4] * w[1] + r[5] * w[2]])


def _damped(blocks: Tensor, damping: float) -> Tensor:
    return torch.from_numpy(damped(blocks.cpu().numpy(), damping)).to(blocks.device)


def _squares(rows: Tensor) -> Tensor:
    """(n, d, d) of (n, 3, d)."""
    return (rows[:, :, :, None] * rows[:, :, None, :]).sum(1)


def _times(blocks: tuple[Tensor, Tensor], x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    photo, camera = ((b * v[:, None, :]).sum(2) for b, v in zip(blocks, x, strict=True))
    return photo, camera


def _dot(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """On the device: who asks for the number waits for all work before."""
    return (a[0] * b[0]).sum() + (a[1] * b[1]).sum()


def _plus(a: tuple[Tensor, Tensor], factor: Tensor, b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return a[0] + factor * b[0], a[1] + factor * b[1]
