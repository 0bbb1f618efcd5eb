"""Focal lengths from points in the frame of their camera, whose depth is known up to a shift."""

from __future__ import annotations

import torch
from torch import Tensor

SAMPLES = 64
"""Points along either side of the image that are used."""
MIN_CONFIDENCE = 0.1
_STEPS = 20
_MIN_DEPTH = 1e-6


def focals_from_local_points(points: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
    """Focal length (n,) in pixels of each image and shift (n,) of its depth, from points (n, h, w, 3).

    Minimises sum |f xy / (z + shift) - uv|^2 over points of confidence (n, h, w) above a tenth, uv the offset of a
    pixel from the middle of the image. The best f for a shift has a closed form, so that Levenberg-Marquardt steps are
    in one unknown.
    """
    _, height, width, _ = points.shape
    rows, columns = (
        torch.linspace(0, side - 1, min(SAMPLES, side)).round().long().to(points.device) for side in (height, width)
    )
    picked = points[:, rows][:, :, columns].double().flatten(1, 2)
    known = (confidence[:, rows][:, :, columns] > MIN_CONFIDENCE).flatten(1)
    known &= picked.isfinite().all(-1) & (picked[..., 2] > _MIN_DEPTH)
    uv = torch.stack(
        [
            (columns + 0.5 - width / 2).expand(len(rows), -1),
            (rows + 0.5 - height / 2)[:, None].expand(-1, len(columns)),
        ],
        dim=-1,
    ).double()
    uv = uv.flatten(0, 1)
    xy, z = picked[..., :2].nan_to_num(), picked[..., 2].nan_to_num()
    weight = known.double()
    shift, damping = torch.zeros_like(z[:, 0]), torch.full_like(z[:, 0], 1e-3)
    focal, cost, gradient, curvature = _at_shift(xy, z, uv, weight, shift)
    for _ in range(_STEPS):
        trial = shift - gradient / (curvature * (1.0 + damping)).clamp(min=1e-30)
        there = _at_shift(xy, z, uv, weight, trial)
        better = there[1] < cost
        shift = torch.where(better, trial, shift)
        focal, cost, gradient, curvature = (
            torch.where(better, new, old) for new, old in zip(there, (focal, cost, gradient, curvature), strict=True)
        )
        damping = torch.where(better, damping / 3.0, damping * 4.0)
    return focal, shift


def _at_shift(
    xy: Tensor, z: Tensor, uv: Tensor, weight: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Under a shift the focal length f of least squares, its cost, and gradient and curvature of the cost along the
    shift, with f following it. Not numbers where there are no points."""
    w = weight[..., None]
    distance = (z + shift[:, None]).clamp(min=_MIN_DEPTH)[..., None]
    slope = xy / distance
    change = -slope / distance
    square = (w * slope**2).sum((1, 2))
    focal = (w * slope * uv).sum((1, 2)) / square
    growth = ((w * change * uv).sum((1, 2)) - 2.0 * focal * (w * slope * change).sum((1, 2))) / square
    residual = focal[:, None, None] * slope - uv
    jacobian = growth[:, None, None] * slope + focal[:, None, None] * change
    gradient, curvature = ((w * jacobian * each).sum((1, 2)) for each in (residual, jacobian))
    return focal, (w * residual**2).sum((1, 2)), gradient, curvature
