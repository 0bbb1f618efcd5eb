"""Quarter turns of images, for networks that recognise only what stands as upright as in their training photos."""

from __future__ import annotations

import torch
from torch import Tensor

QUARTER_TURNS = 4
"""Turns to try: by 0, 90, 180 and 270 degrees. Networks bear what is left, 45 degrees at most."""


def turned_positions(xy: Tensor, size: tuple[int, int], turns: int) -> Tensor:
    """Positions (n, 2) in an image of this width and height after `turns` of torch.rot90, which turns it
    anticlockwise: (x, y) goes to (y, width - 1 - x), the centre of the top-left pixel being at (0, 0)."""
    width, height = size
    for _ in range(turns):
        xy = torch.stack([xy[:, 1], width - 1 - xy[:, 0]], dim=1)
        width, height = height, width
    return xy
