"""Key points, scores and descriptors that a network detects in one image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """Key points of one image, best first."""

    xy: Tensor
    """(n, 2) pixels, the centre of the top-left one at (0, 0)."""
    score: Tensor
    """(n,)."""
    descriptors: Tensor
    """(n, d) of unit norm."""
