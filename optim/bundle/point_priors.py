"""Priors of positions of points: surveyed ones, for example, or what observations that are not adjusted say of them.

A residual counts in units of its sigma, each unit as `noise_px` pixels, under a Cauchy loss. A point X has the residual

    A (X - position) / sigma
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..arrays import Array, Index
from ..cameras import Vectors
from .losses import CAUCHY


@dataclass(frozen=True, eq=False)
class PointPriors:
    """Priors of some of the points of a bundle."""

    point: Index
    """(k,) rows of the points, each once."""
    position: Array
    """(k, 3) world."""
    sigma: Array
    """(k,) standard deviation of a coordinate, in units of the world."""
    noise_px: float = 1.5
    """Reprojection error that an error of one sigma weighs as much as."""
    loss_sigmas: float = 3.0
    """Scale of the Cauchy loss: errors beyond so many sigmas have little influence."""
    shape: Array | None = None
    """(k, 3, 3) A; None: no direction is better known than another."""

    def ordered(self, points: Index) -> PointPriors:
        """The priors of a bundle whose points are reordered to the rows `points` (p,)."""
        place = np.empty(len(points), np.int64)
        place[points] = np.arange(len(points))
        return replace(self, point=place[self.point])


def point_prior_cost(priors: PointPriors, points: Vectors) -> float:
    """The robust cost of all residuals at points (3, p)."""
    scale = (priors.noise_px * priors.loss_sigmas) ** 2
    return float((0.5 * scale * CAUCHY.rho(_squared(_errors(priors, points), priors), np)).sum())


def point_prior_terms(priors: PointPriors, points: Vectors) -> tuple[Array, Array]:
    """What the priors add to the packed upper triangles of the points' blocks, w A^T A / sigma^2 (6, k), and to their
    gradients, w A^T A (X - position) / sigma^2, (3, k)."""
    error = _errors(priors, points)
    weight = priors.noise_px**2 * CAUCHY.weight_and_curvature(_squared(error, priors), np)[0]
    shape = np.broadcast_to(np.eye(3), (len(priors.point), 3, 3)) if priors.shape is None else priors.shape
    blocks = np.einsum("k,kai,kaj->ijk", weight / priors.sigma**2, shape, shape)
    return blocks[np.triu_indices(3)], np.einsum("k,kai,ak->ik", weight / priors.sigma, shape, error)


def _errors(priors: PointPriors, points: Vectors) -> Array:
    """(3, k) in sigmas."""
    off = (np.asarray(points)[:, priors.point] - priors.position.T) / priors.sigma
    return np.asarray(off if priors.shape is None else np.einsum("kai,ik->ak", priors.shape, off))


def _squared(error: Array, priors: PointPriors) -> Array:
    return np.asarray((error**2).sum(axis=0) / priors.loss_sigmas**2)
