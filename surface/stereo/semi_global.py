"""Semi-global matching: labels that are cheap and seldom jump between neighbouring pixels."""

from __future__ import annotations

import torch
from torch import Tensor


def semi_global_cost(cost: Tensor, grey: Tensor, slope_penalty: float, jump_penalty: float, edge: float) -> Tensor:
    """Aggregate costs (labels, h, w) along the four directions of the grid, after Hirschmueller.

    Along a path, L(p, d) = C(p, d) + min(L(q, d), L(q, d +- 1) + P1, min_k L(q, k) + P2) - min_k L(q, k), where q is
    the pixel before p. P1 is the slope penalty, P2 the jump penalty divided by 1 + |grey(p) - grey(q)| / edge, since
    depth jumps where the image does. Windows without texture have no minimum of their own and take that of their
    surroundings.
    """
    total = torch.zeros_like(cost)
    for axis in (1, 2):
        along, light = (cost, grey) if axis == 1 else (cost.transpose(1, 2), grey.transpose(0, 1))
        along = along.transpose(0, 1).contiguous()
        summed = torch.zeros_like(along)
        step = jump_penalty / (1.0 + (light[1:] - light[:-1]).abs() / edge)
        jumps = torch.cat([step[:1], step])
        _aggregate(along, jumps.clamp_min(slope_penalty), summed, slope_penalty, range(len(along)))
        jumps = torch.cat([step, step[-1:]])
        _aggregate(along, jumps.clamp_min(slope_penalty), summed, slope_penalty, range(len(along) - 1, -1, -1))
        back = summed.transpose(0, 1)
        total += back if axis == 1 else back.transpose(1, 2)
    return total


def _aggregate(cost: Tensor, jumps: Tensor, total: Tensor, slope_penalty: float, rows: range) -> None:
    """Add the path costs of rows (labels, pixels) in that order to total; jumps (rows, pixels)."""
    before: Tensor | None = None
    for row in rows:
        path = cost[row]
        if before is not None:
            least = before.amin(dim=0, keepdim=True)
            best = torch.minimum(before, least + jumps[row])
            best[1:] = torch.minimum(best[1:], before[:-1] + slope_penalty)
            best[:-1] = torch.minimum(best[:-1], before[1:] + slope_penalty)
            path = path + best.sub_(least)
        total[row] += path
        before = path
