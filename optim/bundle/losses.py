"""Robust losses: how much an error counts.

All are written over s, the squared error by the squared scale of the loss, and behave like s near zero; what is
minimised is the sum of scale**2 / 2 * rho(s). `xp` is the array library of s, numpy or torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Vector = Any
"""Array of numpy or tensor of torch."""


class Loss(NamedTuple):
    """One way of counting errors."""

    name: str
    rho: Callable[[Vector, Any], Vector]
    slope: Callable[[Vector, Any], tuple[Vector, Vector]]
    """d rho / d s, by which an observation is weighed, and 1 + 2 s rho'' / rho', by which its curvature along the
    error differs from that of weighed least squares; 1 is no difference, and beyond some error it is negative."""


def barron(alpha: float) -> Loss:
    """The general loss of Barron (CVPR 2019) below 2: 1 is Charbonnier's, 0 Cauchy's of a wider scale, -2 that of
    Geman and McClure."""
    if not alpha < 2.0:
        raise ValueError(f"alpha: expected less than 2, got {alpha}; 2 is SQUARES")
    beta = 2.0 - alpha

    def rho(s: Vector, xp: Any = np) -> Vector:
        if alpha == 0.0:
            return 2.0 * xp.log1p(s / 2.0)
        return 2.0 * beta / alpha * xp.expm1(0.5 * alpha * xp.log1p(s / beta))

    def slope(s: Vector, xp: Any = np) -> tuple[Vector, Vector]:
        grown = 1.0 + s / beta
        return grown ** (0.5 * alpha - 1.0), 1.0 - s / grown

    return Loss(f"barron {alpha:g}", rho, slope)


def _cauchy_rho(s: Vector, xp: Any = np) -> Vector:
    return xp.log1p(s)


def _cauchy_slope(s: Vector, xp: Any = np) -> tuple[Vector, Vector]:
    weight = 1.0 / (1.0 + s)
    return weight, (1.0 - s) * weight


def _huber_rho(s: Vector, xp: Any = np) -> Vector:
    return xp.where(s > 1.0, 2.0 * xp.sqrt(s) - 1.0, s)


def _huber_slope(s: Vector, xp: Any = np) -> tuple[Vector, Vector]:
    outside = s > 1.0
    one = xp.ones_like(s)
    return one / xp.sqrt(xp.where(outside, s, one)), xp.where(outside, 0.0 * one, one)


def _squares_rho(s: Vector, xp: Any = np) -> Vector:
    return s


def _squares_slope(s: Vector, xp: Any = np) -> tuple[Vector, Vector]:
    return xp.ones_like(s), xp.ones_like(s)


CAUCHY = Loss("cauchy", _cauchy_rho, _cauchy_slope)
HUBER = Loss("huber", _huber_rho, _huber_slope)
SQUARES = Loss("squares", _squares_rho, _squares_slope)
