"""Which values options may have: read where options are built from text, and shown where they are listed."""

from __future__ import annotations

import re
from typing import Annotated, Any


class Within:
    """An interval for `Annotated`, as it is written on paper: "(0, 1]", "[1, inf)"."""

    def __init__(self, interval: str) -> None:
        match = re.fullmatch(r"([\[(])\s*(\S+)\s*,\s*(\S+)\s*([\])])", interval)
        if not match:
            raise ValueError(f"not an interval: {interval!r}")
        opening, low, high, closing = match.groups()
        self.interval, self.low, self.high = interval, float(low), float(high)
        self._with_low, self._with_high = opening == "[", closing == "]"

    def __contains__(self, value: float) -> bool:
        above = value >= self.low if self._with_low else value > self.low
        below = value <= self.high if self._with_high else value < self.high
        return above and below

    def __repr__(self) -> str:
        return f"Within({self.interval!r})"


Count = Annotated[int, Within("[1, inf)")]
Positive = Annotated[float, Within("(0, inf)")]
Share = Annotated[float, Within("[0, 1]")]
Angle = Annotated[float, Within("[0, 180]")]
"""Degrees."""


def check_ascending(options: Any, *names: str) -> None:
    """Check that options which are intervals (low, high) are not empty; ValueError names the first that is."""
    for name in names:
        low, high = getattr(options, name)
        if low > high:
            raise ValueError(f"{name}: {low} is above {high}")
