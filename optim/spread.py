"""A few of many, evenly spread."""

from __future__ import annotations

import numpy as np

from .arrays import Index


def spread(count: int, most: int) -> Index:
    """At most so many of `count` numbers, evenly spread."""
    chosen: Index = np.unique(np.linspace(0, max(count - 1, 0), min(count, most)).round().astype(np.int64))
    return chosen
