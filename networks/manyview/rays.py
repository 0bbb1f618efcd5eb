"""Cameras from predicted rays: the direction and the origin of the ray of every pixel, in one world."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ROUNDS = 10
"""Of reweighting, in which it converges with a sixth of the rays grossly wrong."""
MIN_SPREAD = 1e-6
"""Least error of directions that rays are weighted by, in radians: exact ones would divide by zero."""


class RayCameras(NamedTuple):
    """Cameras of n views. Lengths in the image are in halves of its width and height."""

    world_from_cam: Tensor
    """(n, 3, 4)."""
    focal: Tensor
    """(n, 2) along x and y."""
    principal: Tensor
    """(n, 2) from the corner: (1, 1) is the middle."""


def cameras_from_rays(rays: Tensor, confidence: Tensor) -> RayCameras:
    """Fit pinhole cameras to rays (n, h, w, 6), direction and centre, with confidences (n, h, w).

    The directions are d ~ A p with p = (x, y, 1) and A = R K^-1. K^-1 is upper triangular with a positive diagonal, so
    that A = R U is a QR decomposition, and exact wherever the principal point lies; splitting off a lower triangular
    factor in its place would need it in the middle. A minimises the weighted squares of |d x A p| / (|d| |A p|), the
    sine of the angle, in which lengths of directions play no part; weights fall with the error.
    """
    _, height, width, _ = rays.shape
    rays, confidence = rays.double(), confidence.double().flatten(1)
    directions = torch.nn.functional.normalize(rays[..., :3].flatten(1, 2), dim=-1)
    x, y = ((2.0 * torch.arange(count, dtype=torch.float64) + 1.0) / count - 1.0 for count in (width, height))
    points = torch.stack(
        [x.expand(height, width), y[:, None].expand(height, width), torch.ones(height, width)], dim=-1
    ).flatten(0, 1)
    points = points.to(rays)
    weight = confidence.sqrt()
    matrix = _homography(directions, points, weight)
    for _ in range(ROUNDS):
        mapped = points @ matrix.transpose(1, 2)
        length = torch.linalg.vector_norm(mapped, dim=-1)
        error = torch.linalg.vector_norm(torch.linalg.cross(directions, mapped), dim=-1) / length
        spread = 1.4826 * error.median(dim=1, keepdim=True).values.clamp(min=MIN_SPREAD)
        matrix = _homography(directions, points, weight / (1.0 + (error / (2.0 * spread)) ** 2) / length)
    # Both signs of A fit as well: that of the directions is right.
    mapped = points @ matrix.transpose(1, 2)
    sign = torch.sign((weight * (directions * mapped).sum(-1)).sum(1))
    rotation, upper = torch.linalg.qr(sign[:, None, None] * matrix)
    diagonal = torch.sign(upper.diagonal(dim1=1, dim2=2))
    rotation, upper = rotation * diagonal[:, None], upper * diagonal[:, :, None]
    upper = upper / upper[:, 2:, 2:]
    focal = 1.0 / torch.stack([upper[:, 0, 0], upper[:, 1, 1]], dim=1)
    # K^-1 (c - 1, 1) = (0, 0, 1), with U01 for pixels that are not square to each other, which is noise.
    principal = 1.0 - upper[:, :2, 2] * focal
    centre = (rays[..., 3:].flatten(1, 2) * confidence[..., None]).sum(1) / confidence.sum(1)[:, None]
    return RayCameras(torch.cat([rotation, centre[..., None]], dim=2), focal, principal)


def _homography(directions: Tensor, points: Tensor, weight: Tensor) -> Tensor:
    """(n, 3, 3) matrices A of unit norm that minimise sum (weight |d x A p|)^2 over directions d (n, k, 3) and points
    p (k, 3)."""
    w2 = weight**2
    outer = torch.einsum("ki,kj->kij", points, points).flatten(1)
    # |d x A p|^2 = |A p|^2 - (d . A p)^2 for unit d, in the nine entries of A.
    across = torch.eye(3, dtype=w2.dtype, device=w2.device) - torch.einsum("nki,nkj->nkij", directions, directions)
    normal = torch.einsum("nka,nkb->nab", across.flatten(2), w2[..., None] * outer)
    normal = normal.view(-1, 3, 3, 3, 3).permute(0, 1, 3, 2, 4).reshape(-1, 9, 9)
    smallest: Tensor = torch.linalg.eigh(normal).eigenvectors[:, :, 0]
    return smallest.view(-1, 3, 3)
