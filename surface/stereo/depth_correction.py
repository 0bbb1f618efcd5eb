"""Depth maps of networks brought to the scale of a model, and rid of their smooth error, by its sparse points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from unposed.optim.arrays import Array, Array32
from unposed.optim.option_ranges import Count, Positive, Within

_ROUNDS = 12
"""Of reweighting, after which nothing moves by a thousandth."""


@dataclass(frozen=True)
class CorrectionOptions:
    """How a depth map is fitted to sparse points."""

    degree: Annotated[int, Within("[0, 4]")] = 2
    """Of the polynomial in x and y that the logarithm of depth is corrected by: 0 is one scale for the photo, 1 tilts
    it, 2 bends it once, which is what networks leave when they know the cameras."""
    bending: Positive = 0.05
    """Expected size of the correction beside the scale, as a share of the depth: without a bound, few points would bend
    the parts of the map where none lies."""
    error: Positive = 0.02
    """Error that is left at a point, as a share of its depth. What is several times as far off (a point that is not on
    the surface, an edge of depth between two pixels) counts little."""
    min_points: Count = 8
    """Points in a photo below which its depth is not known."""


def corrected_depth(depth: Array32, xy: Array, known: Array, options: CorrectionOptions) -> Array32 | None:
    """The depth map (h, w) at the scale of the known depths (n,) at pixels (n, 2); 0 stays unknown. None: too few of
    the points lie on known depths.

    Minimises sum rho((log known - log depth(xy) - log scale - p(xy)) / error) + |p / bending|^2 over the scale and a
    polynomial p without constant, rho Cauchy's loss, by reweighted least squares from the median ratio.
    """
    height, width = depth.shape
    column, row = (np.floor(xy[:, axis]).astype(np.int64) for axis in (0, 1))
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    xy, known, column, row = xy[inside], known[inside], column[inside], row[inside]
    here = depth[row, column].astype(np.float64)
    usable = (here > 0) & (known > 0)
    if usable.sum() < options.min_points:
        return None
    difference = np.log(known[usable] / here[usable])
    x, y = 2.0 * xy[usable, 0] / width - 1.0, 2.0 * xy[usable, 1] / height - 1.0
    design = np.stack([x**i * y**j for i, j in _powers(options.degree)], axis=1)
    prior = np.full(design.shape[1], 1.0 / options.bending**2)
    prior[0] = 0.0
    solution = np.zeros(design.shape[1])
    solution[0] = np.median(difference)
    for _ in range(_ROUNDS):
        residual = (difference - design @ solution) / options.error
        weight = 1.0 / (1.0 + residual**2) / options.error**2
        normal = design.T @ (design * weight[:, None]) + np.diag(prior)
        solution = np.linalg.solve(normal, design.T @ (weight * difference))
    x, y = ((np.arange(side) + 0.5) * (2.0 / side) - 1.0 for side in (width, height))
    terms = zip(solution, _powers(options.degree), strict=True)
    correction = sum(each * np.outer(y**j, x**i) for each, (i, j) in terms)
    return np.asarray(depth * np.exp(correction), np.float32)


def _powers(degree: int) -> list[tuple[int, int]]:
    """Exponents (i, j) of x^i y^j with i + j up to the degree, the constant first."""
    return [(i, total - i) for total in range(degree + 1) for i in range(total + 1)]
