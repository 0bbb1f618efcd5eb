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
    rows, columns = (torch.linspace(0, side - 1, min(SAMPLES, side)).round().long() for side in (height, width))
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
    uv = uv.flatten(0, 1).to(picked.device)
    xy, z = picked[..., :2].nan_to_num(), picked[..., 2].nan_to_num()
    weight = known.double()
    shift, damping = torch.zeros_like(z[:, 0]), torch.full_like(z[:, 0], 1e-3)
    focal, cost = _best_focal(xy, z, uv, weight, shift)
    for _ in range(_STEPS):
        inverse = 1.0 / _shifted(z, shift)
        residual = focal[:, None, None] * xy * inverse[..., None] - uv
        slope = -focal[:, None, None] * xy * (inverse**2)[..., None]
        gradient = (weight[..., None] * slope * residual).sum((1, 2))
        curvature = (weight[..., None] * slope**2).sum((1, 2)).clamp(min=1e-30)
        trial = shift - gradient / (curvature * (1.0 + damping))
        new_focal, new_cost = _best_focal(xy, z, uv, weight, trial)
        better = new_cost < cost
        shift, focal, cost = (
            torch.where(better, new, old) for new, old in ((trial, shift), (new_focal, focal), (new_cost, cost))
        )
        damping = torch.where(better, damping / 3.0, damping * 4.0)
    return focal, shift


def _shifted(z: Tensor, shift: Tensor) -> Tensor:
    return (z + shift[:, None]).clamp(min=_MIN_DEPTH)


def _best_focal(xy: Tensor, z: Tensor, uv: Tensor, weight: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The focal length of least squares under a shift, and its cost; that of no points is not a number."""
    slope = xy / _shifted(z, shift)[..., None]
    w = weight[..., None]
    focal = (w * slope * uv).sum((1, 2)) / (w * slope**2).sum((1, 2))
    cost = (w * (focal[:, None, None] * slope - uv) ** 2).sum((1, 2))
    return focal, cost
