"""Bundle adjustment: poses, points and intrinsics that minimise a robust reprojection error.

Levenberg-Marquardt; the points are eliminated (Schur complement), so that the system that is solved has six unknowns
per photo and a few per camera. Everything is float64: reprojection errors are differences of numbers ten thousand
times larger, and the normal equations square that. Sums run in a fixed order, so equal input gives equal bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .normal_equations import Linearised, State, System, cost, normal_equations
from .objective import Objective, bundle_of, objective, state_of
from .pose_priors import DepthPriors, PosePriors
from .problem import Bundle, BundleOptions, BundleSummary, IntrinsicsPrior
from .schur import Structure, step, structure

Array = NDArray[np.float64]
Linear = TypeVar("Linear")

FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-4, 1e-10, 1e8


def adjust_bundle(
    bundle: Bundle,
    options: BundleOptions,
    prior: IntrinsicsPrior | None = None,
    sigma: Array | None = None,
    anchors: PosePriors | None = None,
    depths: DepthPriors | None = None,
) -> tuple[Bundle, BundleSummary]:
    """The bundle at the minimum, and how it got there.

    `sigma` (m,) says how inexact each observation is, 1 being usual: errors count after division by it. Without
    anchors the whole may drift, turn and grow a little, as nothing tells where it is.
    """
    task = objective(bundle, options, prior, sigma, anchors, depths)
    parts = structure(task.sights, task.free.pose, task.free.lens)
    state, summary = descend(OnProcessor(task, parts), state_of(bundle, task.sights), options)
    return bundle_of(bundle, task.sights, state), summary


class Engine(Protocol[Linear]):
    """What Levenberg-Marquardt needs of a problem."""

    def cost(self, state: State) -> float: ...

    def linearised(self, state: State) -> Linear: ...

    def moved(self, state: State, linear: Linear, damping: float) -> State | None:
        """The state after one damped step, or None where there is none."""


def descend(engine: Engine[Linear], state: State, options: BundleOptions) -> tuple[State, BundleSummary]:
    """From a state to the minimum next to it."""
    costs = [engine.cost(state)]
    damping, iterations = FIRST_DAMPING, 0
    linear: Linear | None = None
    while iterations < options.max_iterations:
        iterations += 1
        if linear is None:
            linear = engine.linearised(state)
        trial = engine.moved(state, linear, damping)
        trial_cost = np.inf if trial is None else engine.cost(trial)
        if trial is not None and trial_cost < costs[-1]:
            state, linear = trial, None
            costs.append(trial_cost)
            damping = max(damping / 5.0, LEAST_DAMPING)
            if costs[-2] - costs[-1] < options.tolerance * costs[-2]:
                break
        else:
            damping *= 8.0
            if damping > MOST_DAMPING:
                break
    return state, BundleSummary(costs[0], costs[-1], iterations, tuple(costs))


@dataclass(frozen=True, eq=False)
class OnProcessor:
    """The engine for processors."""

    task: Objective
    parts: Structure

    def cost(self, state: State) -> float:
        return cost(self.task.sights, state, self.task.free, self.task.noise) + self.task.beliefs_cost(state)

    def linearised(self, state: State) -> System:
        task = self.task
        beliefs, pose = task.beliefs(state), slice(0, task.free.pose)
        system = normal_equations(Linearised(task.sights, state, task.free, task.noise, beliefs.held))
        moves = (~beliefs.held).astype(np.float64)
        system.photo[:, pose, pose] += beliefs.poses * moves[:, None, None]
        system.photo_gradient[:, pose] += beliefs.poses_gradient * moves[:, None]
        if task.free.lens:
            matrix, gradient = system.lens()
            matrix[:] += beliefs.lenses
            gradient[:] += beliefs.lenses_gradient
        return system

    def moved(self, state: State, linear: System, damping: float) -> State | None:
        change = step(self.parts, linear, damping)
        return None if change is None else self.task.moved(state, change.photos, change.cameras, change.points)
