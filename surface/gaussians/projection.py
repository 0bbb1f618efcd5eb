"""Gaussians in the world as flat Gaussians in an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from unposed.optim.arrays import Array32, Index

from ..stereo.view import Pinhole
from .rasterise import FlatGaussians, rasterise
from .scene import SH_0

BLUR_PX2 = 0.3
"""Added to the variances in the image, as every program for splats does, so that none falls between pixels."""
NEAR = 0.01
"""Depth, over the median depth, in front of which a Gaussian is not drawn: its projection would cover everything."""
FRAME = 1.3
"""Gaussians whose mean is further from the axis than this times the image's half size bend too much to be flat."""


@dataclass(frozen=True, eq=False)
class Parameters:
    """The parameters of Gaussians as tensors, see `Gaussians`."""

    mean: Tensor
    log_scale: Tensor
    quaternion: Tensor
    logit: Tensor
    coefficient: Tensor

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self))

    def rgb(self) -> Tensor:
        """(n, 3) colours, from 0 on."""
        return (0.5 + SH_0 * self.coefficient).clamp_min(0.0)


def rotations(quaternion: Tensor) -> Tensor:
    """(n, 3, 3) rotations of quaternions w x y z of any length."""
    unit = quaternion / quaternion.norm(dim=1, keepdim=True)
    return torch.stack(_rotation_entries(*unit.unbind(dim=1)), dim=1).reshape(-1, 3, 3)


def _rotation_entries(w: Any, x: Any, y: Any, z: Any) -> list[Any]:
    """Nine entries, row by row, of rotations of quaternions of length one, whose components are tensors or arrays."""
    return [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]


def draw(parameters: Parameters, camera: Pinhole) -> tuple[Tensor, Tensor]:
    """Image (h, w, 3) of the Gaussians and its coverage (h, w); only the image has derivatives.

    With the covariance C = M M^T, M = R S, and the derivative J of the projection at the mean, the covariance in the
    image is (J W M)(J W M)^T + blur, W being the rotation of the camera: a Gaussian stays one as far as the projection
    is linear across it.
    """
    apply: Callable[..., tuple[Tensor, Tensor]] = _Draw.apply
    return apply(*parameters.tensors().values(), camera)


class _Draw(torch.autograd.Function):
    """Derivatives written out: those that torch makes of two hundred small operations take three times as long."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, Tensor]:
        *tensors, camera = given
        projected = _projected([each.detach().numpy() for each in tensors], camera)
        raster = rasterise(projected.flat, camera.width, camera.height, any(ctx.needs_input_grad))
        ctx.state = projected, raster
        ctx.mark_non_differentiable(raster.covered)
        return raster.image, raster.covered

    @staticmethod
    def backward(ctx: Any, *by_outputs: Any) -> tuple[Tensor | None, ...]:
        projected, raster = ctx.state
        ctx.state = None
        return (*map(torch.from_numpy, _by_parameters(projected, *raster.derivatives(by_outputs[0]))), None)


@dataclass(frozen=True, eq=False)
class _Projected:
    """Gaussians in an image, and on the way there. Vectors are rows, one array for each component."""

    flat: FlatGaussians
    rows: Index
    """(n,) of the parameters."""
    number: int
    """Of all Gaussians, drawn or not."""
    camera: Pinhole
    quaternion: Array32
    """(4, n) of length one."""
    length: Array32
    """(n,) of the quaternions before."""
    turn: Array32
    """(3, 3, n) rotations R."""
    scale: Array32
    """(3, n)."""
    u: Array32
    v: Array32
    """x / z and y / z."""
    along: tuple[Array32, Array32]
    """(3, n) rows of J W."""
    axes: tuple[Array32, Array32]
    """(3, n) rows of J W M."""


def _projected(arrays: Sequence[Array32], camera: Pinhole) -> _Projected:
    mean, log_scale, quaternion, logit, coefficient = arrays
    kind, pose = mean.dtype, camera.cam_from_world.astype(mean.dtype)
    x, y, z = pose[:, :3] @ mean.T + pose[:, 3:]
    slope = FRAME * 0.5 * camera.width / camera.fx, FRAME * 0.5 * camera.height / camera.fy
    ahead = z > NEAR * np.median(np.abs(z)) if len(z) else np.zeros(0, bool)
    rows = np.flatnonzero(ahead & (np.abs(x) < slope[0] * z) & (np.abs(y) < slope[1] * z))
    x, y, z = x[rows], y[rows], z[rows]
    u, v, scale = x / z, y / z, np.exp(log_scale[rows].T)
    length = np.sqrt((quaternion[rows] ** 2).sum(axis=1))
    unit = quaternion[rows].T / length
    turn = np.stack(_rotation_entries(*unit)).reshape(3, 3, -1)
    along_x = kind.type(camera.fx) / z * (pose[0, :3, None] - u * pose[2, :3, None])
    along_y = kind.type(camera.fy) / z * (pose[1, :3, None] - v * pose[2, :3, None])
    across, down = ((each[:, None] * turn).sum(axis=0) * scale for each in (along_x, along_y))
    blur = kind.type(BLUR_PX2)
    xx, xy, yy = (across**2).sum(axis=0) + blur, (across * down).sum(axis=0), (down**2).sum(axis=0) + blur
    determinant = xx * yy - xy * xy
    # Rounding leaves needles none; with zeros they are not drawn.
    inverse = np.divide(1.0, determinant, out=np.zeros_like(determinant), where=determinant > 0)
    flat = FlatGaussians(
        np.stack([camera.fx * u + camera.cx, camera.fy * v + camera.cy], axis=1).astype(kind, copy=False),
        np.stack([yy, -xy, xx], axis=1) * inverse[:, None],
        np.asarray(expit(logit[rows])),
        np.maximum(0.5 + kind.type(SH_0) * coefficient[rows], 0.0),
        z,
    )
    return _Projected(
        flat, rows, len(mean), camera, unit, length, turn, scale, u, v, (along_x, along_y), (across, down)
    )


def _by_parameters(
    p: _Projected, by_mean: Array32, by_conic: Array32, by_opacity: Array32, by_rgb: Array32
) -> tuple[Array32, ...]:
    """Derivatives by all parameters from those by the flat Gaussians."""
    flat, kind = p.flat, p.flat.mean.dtype
    # By the covariance: with the inverse Q and derivatives G by it, those are -Q G Q.
    (a, b, c), (by_a, by_b, by_c) = flat.conic.T, by_conic.T
    half = kind.type(0.5) * by_b
    first, second = a * by_a + b * half, a * half + b * by_c
    third, fourth = b * by_a + c * half, b * half + c * by_c
    by_xx, by_xy, by_yy = -(first * a + second * b), -(first * b + second * c), -(third * b + fourth * c)
    (across, down), (along_x, along_y) = p.axes, p.along
    by_across, by_down = 2 * (by_xx * across + by_xy * down), 2 * (by_xy * across + by_yy * down)
    by_log_scale = across * by_across + down * by_down
    by_across *= p.scale
    by_down *= p.scale
    by_along_x, by_along_y = ((p.turn * each).sum(axis=1) for each in (by_across, by_down))
    by_turn = along_x[:, None] * by_across + along_y[:, None] * by_down
    # By the position in the camera: the means move with it, and J changes.
    pose, z = p.camera.cam_from_world[:, :3].astype(kind), flat.depth
    fx, fy = kind.type(p.camera.fx), kind.type(p.camera.fy)
    by_u = fx * (by_mean[:, 0] - pose[2] @ by_along_x / z)
    by_v = fy * (by_mean[:, 1] - pose[2] @ by_along_y / z)
    by_z = by_u * p.u + by_v * p.v + (by_along_x * along_x + by_along_y * along_y).sum(axis=0)
    in_camera = np.stack([by_u / z, by_v / z, -by_z / z])
    by_opacity = by_opacity * flat.opacity * (1 - flat.opacity)
    found = (
        (pose.T @ in_camera).T,
        by_log_scale.T,
        (_by_unit(p.quaternion, by_turn) / p.length).T,
        by_opacity,
        kind.type(SH_0) * by_rgb * (flat.rgb > 0),
    )
    whole = tuple(np.zeros((p.number, *each.shape[1:]), kind) for each in found)
    for all_of_them, drawn in zip(whole, found, strict=True):
        all_of_them[p.rows] = drawn
    return whole


def _by_unit(unit: Array32, by_turn: Array32) -> Array32:
    """(4, n) derivatives by quaternions of length one, which they keep, from those (3, 3, n) by their rotations."""
    w, x, y, z = unit
    g = by_turn
    about_x, about_y, about_z = g[2, 1] - g[1, 2], g[0, 2] - g[2, 0], g[1, 0] - g[0, 1]
    xy, xz, yz = g[0, 1] + g[1, 0], g[0, 2] + g[2, 0], g[1, 2] + g[2, 1]
    found = 2 * np.stack(
        [
            x * about_x + y * about_y + z * about_z,
            w * about_x + y * xy + z * xz - 2 * x * (g[1, 1] + g[2, 2]),
            w * about_y + x * xy + z * yz - 2 * y * (g[0, 0] + g[2, 2]),
            w * about_z + x * xz + y * yz - 2 * z * (g[0, 0] + g[1, 1]),
        ]
    )
    return np.asarray(found - unit * (unit * found).sum(axis=0))
