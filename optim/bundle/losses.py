"""Robust losses: how much of an error's square counts.

A loss rho is a function of s, the squared error over the squared scale of the loss, with rho(s) = s near zero; bundle
adjustment minimizes the sum of scale^2 / 2 * rho(s), as Ceres does. `xp` is the array library of s, numpy or torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

Vector = Any
"""Array of numpy or tensor of torch."""

LossName = Literal["cauchy", "huber", "barron", "squared"]

BARRON_SHAPE = -2.0
"""Shape of the general loss where none is given: that of Geman and McClure, which ignores gross outliers entirely."""


class Loss(NamedTuple):
    """A robust loss and its derivatives."""

    name: str
    rho: Callable[[Vector, Any], Vector]
    weight_and_curvature: Callable[[Vector, Any], tuple[Vector, Vector]]
    """rho', the weight of an observation in reweighted least squares, and 1 + 2 s rho'' / rho', the ratio of the
    curvature along the residual to that of reweighted least squares: 1 near zero, negative beyond some error."""


def loss_by_name(name: LossName, barron_shape: float = BARRON_SHAPE) -> Loss:
    """The loss of that name; `barron_shape` (below 2) is the shape of the general loss and matters to no other."""
    if name == "barron":
        return barron(barron_shape)
    return {"cauchy": CAUCHY, "huber": HUBER, "squared": SQUARED}[name]


def barron(shape: float) -> Loss:
    """The general loss of Barron (CVPR 2019) for shapes below 2,

        rho(s) = 2 |shape - 2| / shape * ((1 + s / |shape - 2|)^(shape / 2) - 1).

    1 is Charbonnier's loss (Ceres's SoftL1), 0 Cauchy's with its scale times the root of 2, -2 that of Geman and
    McClure.
    """
    if not shape < 2.0:
        raise ValueError(f"shape: expected less than 2, got {shape}; 2 is the loss 'squared'")
    beta = 2.0 - shape

    def rho(s: Vector, xp: Any = np) -> Vector:
        if shape == 0.0:
            return 2.0 * xp.log1p(s / 2.0)
        return 2.0 * beta / shape * xp.expm1(0.5 * shape * xp.log1p(s / beta))

    def weight_and_curvature(s: Vector, xp: Any = np) -> tuple[Vector, Vector]:
        base = 1.0 + s / beta
        return base ** (0.5 * shape - 1.0), 1.0 - s / base

    return Loss(f"barron {shape:g}", rho, weight_and_curvature)


def _cauchy_rho(s: Vector, xp: Any = np) -> Vector:
    return xp.log1p(s)


def _cauchy_weight(s: Vector, xp: Any = np) -> tuple[Vector, Vector]:
    weight = 1.0 / (1.0 + s)
    return weight, (1.0 - s) * weight


def _huber_rho(s: Vector, xp: Any = np) -> Vector:
    return xp.where(s > 1.0, 2.0 * xp.sqrt(s) - 1.0, s)


def _huber_weight(s: Vector, xp: Any = np) -> tuple[Vector, Vector]:
    outside = s > 1.0
    one = xp.ones_like(s)
    return one / xp.sqrt(xp.where(outside, s, one)), xp.where(outside, 0.0 * one, one)


def _squared_rho(s: Vector, xp: Any = np) -> Vector:
    return s


def _squared_weight(s: Vector, xp: Any = np) -> tuple[Vector, Vector]:
    return xp.ones_like(s), xp.ones_like(s)


CAUCHY = Loss("cauchy", _cauchy_rho, _cauchy_weight)
HUBER = Loss("huber", _huber_rho, _huber_weight)
SQUARED = Loss("squared", _squared_rho, _squared_weight)
