"""Numbers behind the charts of the page: bins, arrows and bars; the template draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from unposed.optim.arrays import Array, Index

from .residuals import PATTERN, ResidualField

ARROW = 0.9
"""The longest arrow of a residual field over the distance of its cells."""
HISTOGRAM_BINS = 28
ANGLES_DEG = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 180.0)
LONGEST_TRACK = 12
"""Longer tracks share the last bar."""


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram."""

    label: str
    count: int
    height: float
    """Over that of the highest bar."""
    title: str


@dataclass(frozen=True)
class FieldDrawing:
    """A residual field as arrows, in a box as wide as the longer side of the sensor is 100."""

    title: str
    width: float
    height: float
    arrows: tuple[tuple[float, float, float, float, float], ...]
    """x, y, dx, dy, and the length over the median error of an observation."""
    magnification: float
    largest_px: float
    median_px: float
    has_pattern: bool
    """Whether the errors have a place of the sensor in common."""
    observations: int


def bars(counts: Sequence[int], labels: Sequence[str], titles: Sequence[str] | None = None) -> list[Bar]:
    """Bars as high as their counts."""
    most = max([*counts, 1])
    titles = titles or labels
    return [
        Bar(label, int(count), count / most, f"{title}: {count:,}")
        for label, count, title in zip(labels, counts, titles, strict=True)
    ]


def error_bars(length_px: Array) -> list[Bar]:
    """Histogram of reprojection errors; the last bar holds what is above the 99th percentile."""
    if not len(length_px):
        return []
    top = max(float(np.quantile(length_px, 0.99)), 1e-6)
    counts = np.histogram(np.minimum(length_px, top), HISTOGRAM_BINS, (0.0, top))[0].tolist()
    edges = np.linspace(0.0, top, HISTOGRAM_BINS + 1)
    labels = [f"{edge:.2f}" if i % 7 == 0 else "" for i, edge in enumerate(edges[:-1])]
    titles = [f"{low:.2f} to {high:.2f} px" for low, high in pairwise(edges)]
    return bars(counts, labels, titles)


def length_bars(lengths: Index) -> list[Bar]:
    """How many points are seen by 2, 3, ... photos."""
    if not len(lengths):
        return []
    counts = np.bincount(np.minimum(lengths, LONGEST_TRACK), minlength=LONGEST_TRACK + 1)[2:].tolist()
    labels = [str(length) for length in range(2, LONGEST_TRACK)] + [f"{LONGEST_TRACK}+"]
    return bars(counts, labels, [f"points in {label} photos" for label in labels])


def angle_bars(angles_deg: Array) -> list[Bar]:
    """Histogram of triangulation angles, in octaves; labels are where they begin."""
    if not len(angles_deg):
        return []
    counts = np.histogram(angles_deg, ANGLES_DEG)[0].tolist()
    return bars(counts, [f"{low:.0f}°" for low in ANGLES_DEG[:-1]])


def field_drawing(title: str, field: ResidualField) -> FieldDrawing:
    """Arrows of a residual field, magnified so that the longest one fits between its neighbours."""
    scale = 100.0 / max(field.width, field.height)
    length = np.hypot(field.mean_px[:, 0], field.mean_px[:, 1])
    largest = float(length.max()) if len(length) else 0.0
    cell = 100.0 / 14.0
    # No more than the usual error is drawn at full length: noise alone must not look like a pattern.
    magnification = ARROW * cell / max(largest, field.median_length_px, 1e-9)
    arrows = [
        (x, y, dx, dy, float(over))
        for (x, y), (dx, dy), over in zip(
            (field.centre * scale).round(2).tolist(),
            (field.mean_px * magnification).round(2).tolist(),
            length / max(field.median_length_px, 1e-9),
            strict=True,
        )
    ]
    return FieldDrawing(
        title,
        field.width * scale,
        field.height * scale,
        tuple(arrows),
        magnification / scale,
        largest,
        field.median_length_px,
        field.pattern > PATTERN,
        field.observations,
    )
