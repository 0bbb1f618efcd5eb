"""Bundle adjustment: poses, points and intrinsics of least robust reprojection error.

Levenberg-Marquardt on the normal equations; the points are eliminated (Schur complement), so that the system that is
solved has six unknowns per photo and a few per camera. Everything is float64: reprojection errors are differences of
numbers ten thousand times larger, and the normal equations square that. Sums run in a fixed order, so equal input gives
equal bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np

from ..arrays import Array
from .long_tracks import join_parts, split_long_tracks
from .normal_equations import (
    BundleState,
    LinearizedProblem,
    NormalEquations,
    build_normal_equations,
    reprojection_cost,
)
from .objective import Objective, build_objective, bundle_state, bundle_with_state
from .point_priors import PointPriors, point_prior_terms
from .pose_priors import DepthPriors, PosePriors
from .problem import Bundle, BundleOptions, BundleSummary, IntrinsicsPrior
from .rig_steps import move_sensors
from .schur import SchurStructure, schur_structure, solve_step

Linearization = TypeVar("Linearization")

INITIAL_DAMPING, MIN_DAMPING, MAX_DAMPING = 1e-4, 1e-10, 1e8
"""Relative to the diagonal of the normal equations (Marquardt)."""

DAMPING_DECREASE, DAMPING_INCREASE = 5.0, 8.0
"""Factors after accepted and after rejected steps."""


def adjust_bundle(
    bundle: Bundle,
    options: BundleOptions,
    prior: IntrinsicsPrior | None = None,
    sigma: Array | None = None,
    pose_priors: PosePriors | None = None,
    depth_priors: DepthPriors | None = None,
    *,
    point_priors: PointPriors | None = None,
) -> tuple[Bundle, BundleSummary]:
    """Adjust a bundle to the minimum of its objective.

    `sigma` (m,) is the relative standard deviation of each observation, 1 for a usual one: errors are divided by it.
    Points that more than `max_track_length` photos see are several while cameras are adjusted, and then their mean.
    Without priors of poses or points the gauge is free: the whole bundle may drift, turn and grow a little. Photos that
    the bundle's rigs tie to each other stay so; rigs with baselines keep their size, and thereby that of the bundle.
    """
    longest = int(np.bincount(bundle.point).max(initial=0))
    if longest > options.max_track_length and point_priors is None:  # these are of whole points
        split, origin, order = split_long_tracks(bundle, options.max_track_length)
        adjusted, summary = adjust_bundle(
            split,
            options,
            prior,
            None if sigma is None else sigma[order],
            pose_priors,
            None if depth_priors is None else depth_priors.of(order),
        )
        return join_parts(adjusted, bundle, origin), summary
    objective = build_objective(bundle, options, prior, sigma, pose_priors, depth_priors, point_priors=point_priors)
    free = objective.free
    structure = schur_structure(objective.order, free.pose_size, free.intrinsics_size, bundle.rigs)
    start = bundle_state(bundle, objective.order)
    state, summary = levenberg_marquardt(CpuProblem(objective, structure), start, options)
    return bundle_with_state(bundle, objective.order, state), summary


class LevenbergMarquardtProblem(Protocol[Linearization]):
    """What Levenberg-Marquardt needs of a problem: three functions of its state."""

    def cost(self, state: BundleState) -> float:
        """The cost that is minimized."""

    def linearize(self, state: BundleState) -> Linearization:
        """The normal equations at a state; kept until a step is accepted."""

    def step(self, state: BundleState, linearization: Linearization, damping: float) -> BundleState | None:
        """The state after one damped step, or None where the step cannot be computed."""


def levenberg_marquardt(
    problem: LevenbergMarquardtProblem[Linearization], state: BundleState, options: BundleOptions
) -> tuple[BundleState, BundleSummary]:
    """Minimize the cost of a problem from a state on: steps that lower it are accepted, others repeated with more
    damping."""
    costs = [problem.cost(state)]
    damping, iterations = INITIAL_DAMPING, 0
    linearization: Linearization | None = None
    while iterations < options.max_iterations:
        iterations += 1
        if linearization is None:
            linearization = problem.linearize(state)
        trial = problem.step(state, linearization, damping)
        trial_cost = np.inf if trial is None else problem.cost(trial)
        if trial is not None and trial_cost < costs[-1]:
            state, linearization = trial, None
            costs.append(trial_cost)
            damping = max(damping / DAMPING_DECREASE, MIN_DAMPING)
            if costs[-2] - costs[-1] < options.tolerance * costs[-2]:
                break
        else:
            damping *= DAMPING_INCREASE
            if damping > MAX_DAMPING:
                break
    return state, BundleSummary(costs[0], costs[-1], iterations, tuple(costs))


@dataclass(frozen=True, eq=False)
class CpuProblem:
    """Bundle adjustment in numpy; `adjust_torch.TorchProblem` is the same on other devices."""

    objective: Objective
    structure: SchurStructure

    def cost(self, state: BundleState) -> float:
        objective = self.objective
        observed = reprojection_cost(objective.order, state, objective.free, objective.noise)
        return observed + objective.prior_cost(state)

    def linearize(self, state: BundleState) -> NormalEquations:
        objective = self.objective
        terms, pose = objective.prior_terms(state), slice(0, objective.free.pose_size)
        equations = build_normal_equations(
            LinearizedProblem(objective.order, state, objective.free, objective.noise, terms.fixed)
        )
        moves = (~terms.fixed).astype(np.float64)
        equations.photo[:, pose, pose] += terms.poses * moves[:, None, None]
        equations.photo_gradient[:, pose] += terms.poses_gradient * moves[:, None]
        if objective.free.intrinsics_size:
            blocks, gradient = equations.intrinsics_blocks()
            blocks[:] += terms.intrinsics
            gradient[:] += terms.intrinsics_gradient
        if objective.point_priors is not None:
            own = objective.point_priors.point
            blocks, gradient = point_prior_terms(objective.point_priors, state.points)
            equations.point[:, own] += blocks
            equations.point_gradient[:, own] += gradient
            of_priors = np.zeros_like(equations.point_gradient)
            of_priors[:, own] = gradient
            equations = replace(equations, point_prior_gradient=of_priors)
        return equations

    def step(self, state: BundleState, linearization: NormalEquations, damping: float) -> BundleState | None:
        change = solve_step(self.structure, linearization, damping)
        if change is None:
            return None
        moved, rigs = self.objective.retract(state, change.photos, change.cameras, change.points), self.structure.rigs
        return moved if moved is None or rigs is None else move_sensors(rigs, moved, change.sensors)
