"""Share of the pixels of each view that another view sees at the depth that it says itself."""

from __future__ import annotations

import torch
from torch import Tensor

from .prediction import GroupPrediction


def view_overlap(seen: GroupPrediction, step: int, max_error_px: float) -> Tensor:
    """(s, s) shares of the samples of each view, every step-th pixel, that return from another one; of one group (1,
    s, ...).

    A sample is carried into the other view by its depth, and the point that the other view has there is carried back.
    It returns if it comes within `max_error_px` of where it began.
    """
    _, s, height, width = seen.depth.shape
    depth, pose, focal = seen.depth[0], seen.cam_from_world[0].double(), seen.focal_px[0].double()
    middle = torch.tensor([width / 2, height / 2], dtype=torch.float64, device=depth.device)
    middles = middle.expand(s, 2) if seen.principal_px is None else seen.principal_px[0].double()
    start = step // 2
    y, x = torch.meshgrid(
        torch.arange(start, height, step, device=depth.device),
        torch.arange(start, width, step, device=depth.device),
        indexing="ij",
    )
    pixel = torch.stack([x.flatten(), y.flatten()], dim=-1)
    shares = []
    for i in range(s):
        there = _world(pixel, depth[i], pose[i], focal[i], middles[i])
        known = (depth[i][pixel[:, 1], pixel[:, 0]] > 0) & torch.isfinite(there).all(-1)
        row = []
        for j in range(s):
            xy, z = _projected(there, pose[j], focal[j], middles[j])
            at = xy.nan_to_num(-1.0, -1.0, -1.0).floor().clamp(-1, max(height, width)).long()
            inside = known & (z > 0) & (at >= 0).all(-1) & (at[:, 0] < width) & (at[:, 1] < height)
            # Nothing is picked by `inside`, nor read as a number: the host would wait for a GPU each time.
            back = _world(torch.where(inside[:, None], at, 0), depth[j], pose[j], focal[j], middles[j])
            again, ahead = _projected(back, pose[i], focal[i], middles[i])
            # The pixel that it was looked up in is up to half a pixel away.
            error = torch.linalg.vector_norm(again - (pixel + 0.5), dim=-1)
            row.append((inside & (error < max_error_px) & (ahead > 0)).sum())
        shares.append(torch.stack(row))
    share = torch.stack(shares).cpu().float() / max(1, len(pixel))
    return share.fill_diagonal_(1.0)


def _world(pixel: Tensor, depth: Tensor, pose: Tensor, focal: Tensor, middle: Tensor) -> Tensor:
    """Points (n, 3) of whole pixels (n, 2), the centres of which are half a pixel further."""
    z = depth[pixel[:, 1], pixel[:, 0]].double()
    local = torch.cat([(pixel + 0.5 - middle) / focal * z[:, None], z[:, None]], dim=1)
    return (local - pose[:, 3]) @ pose[:, :3]


def _projected(points: Tensor, pose: Tensor, focal: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels (n, 2) from the corner of the image, and depths (n,)."""
    local = points @ pose[:, :3].T + pose[:, 3]
    return local[:, :2] / local[:, 2:] * focal + middle, local[:, 2]
