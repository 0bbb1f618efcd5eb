"""What a key point network finds in one picture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Detections:
    """Key points of one picture, best first."""

    xy: Tensor
    """(n, 2) pixels, the centre of the top-left one at (0, 0)."""
    score: Tensor
    """(n,)."""
    descriptors: Tensor
    """(n, d) of unit norm."""
