"""Bundle adjustment: poses, points and intrinsics that minimise a robust reprojection error.

Levenberg-Marquardt; the points are eliminated (Schur complement), so that the system that is factorised has six
unknowns per photo and a few per camera. Everything is float64: reprojection errors are differences of numbers ten
thousand times larger, and the normal equations square that. Sums run in a fixed order, so equal input gives equal bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .anchors import Anchors, Depths, add_anchors, anchor_cost, with_depths
from .bundle import Adjust, Bundle, Prior, Summary
from .cameras import fisheyes
from .normal_equations import Sights, State, System, arrange, cost, normal_equations
from .reprojection import Freedom, Noise, freedom_of
from .rotations import exp_so3
from .schur import Step, Structure, step, structure

Array = NDArray[np.float64]


FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-4, 1e-10, 1e8


def adjust(
    bundle: Bundle,
    options: Adjust,
    prior: Prior | None = None,
    sigma: Array | None = None,
    anchors: Anchors | None = None,
    depths: Depths | None = None,
) -> tuple[Bundle, Summary]:
    """The bundle at the minimum, and how it got there.

    `sigma` (m,) says how inexact each observation is, 1 being usual: errors count after division by it. Without
    anchors the whole may drift, turn and grow a little, as nothing tells where it is.
    """
    runs = np.diff(bundle.point, prepend=-1)
    if (runs < 0).any() or (runs > 1).any() or runs.sum() != len(bundle.points):
        raise ValueError("observations must be sorted by point, and every point seen")
    task = task_of(bundle, options, prior, sigma, anchors, depths)
    parts = structure(task.sights, len(bundle.points), task.free.pose, task.free.lens)
    state = state_of(bundle, task.sights)
    costs = [task.cost(state)]
    damping, iterations = FIRST_DAMPING, 0
    system: System | None = None
    while iterations < options.max_iterations:
        iterations += 1
        system = system or task.system(state, parts)
        change = step(task.sights, parts, system, damping)
        trial = None if change is None else task.moved(state, change)
        trial_cost = np.inf if trial is None else task.cost(trial)
        if trial is not None and trial_cost < costs[-1]:
            state, system = trial, None
            costs.append(trial_cost)
            damping = max(damping / 5.0, LEAST_DAMPING)
            if costs[-2] - costs[-1] < options.tolerance * costs[-2]:
                break
        else:
            damping *= 8.0
            if damping > MOST_DAMPING:
                break
    return _bundle_of(bundle, task.sights, state), Summary(costs[0], costs[-1], iterations, tuple(costs))


@dataclass(frozen=True, eq=False)
class Task:
    """What is minimised."""

    sights: Sights
    free: Freedom
    noise: Noise
    prior: Prior | None
    """Of the cameras that see something."""
    anchors: Anchors | None
    spread: Array
    """(k, 8, q) intrinsics by unknowns."""

    def cost(self, state: State) -> float:
        out = cost(self.sights, state, self.free, self.noise)
        if self.prior is not None:
            off = (state.intrinsics.T - self.prior.mean) / self.prior.sigma
            out += 0.5 * self.prior.noise_px**2 * float((off**2).sum())
        if self.anchors is not None:
            out += anchor_cost(self.anchors, self.sights, state)
        return out

    def system(self, state: State, parts: Structure) -> System:
        system = normal_equations(self.sights, state, self.free, self.noise, parts.by_view)
        if self.prior is not None and self.free.lens:
            weight = (self.prior.noise_px / self.prior.sigma) ** 2
            off = state.intrinsics.T - self.prior.mean
            lens = system.lens()
            lens[0][:] += np.einsum("kiq,ki,kir->kqr", self.spread, weight, self.spread)
            lens[1][:] += np.einsum("kiq,ki->kq", self.spread, weight * off)
        if self.anchors is not None:
            add_anchors(system, self.anchors, self.sights, state)
        return system

    def moved(self, state: State, change: Step) -> State | None:
        """The state after a step, or None where there is no such camera."""
        pose, lens = np.split(change.photos, [self.free.pose], axis=1)
        if len(change.cameras):
            lens = change.cameras
        poses = state.poses.reshape(3, 4, -1).copy()
        if self.free.turns:
            poses[:, :3] = np.einsum("cij,jkc->ikc", exp_so3(pose[:, :3]), poses[:, :3])
        poses[:, 3] += pose[:, -3:].T
        intrinsics = state.intrinsics
        if self.free.lens:
            intrinsics = intrinsics + np.einsum("kiq,kq->ik", self.spread, lens)
        if (intrinsics[:2] <= 0).any():
            return None
        return State(poses.reshape(12, -1), intrinsics, state.points + change.points)


def task_of(
    bundle: Bundle,
    options: Adjust,
    prior: Prior | None = None,
    sigma: Array | None = None,
    anchors: Anchors | None = None,
    depths: Depths | None = None,
) -> Task:
    """What there is to do; arguments as of `adjust`."""
    sights = arrange(
        bundle.photo, bundle.point, bundle.camera_of, bundle.xy, fisheyes(bundle.models), len(bundle.points)
    )
    free = freedom_of(
        [bundle.models[k] for k in sights.cameras],
        rotations=options.rotations,
        focal=options.focal,
        principal=options.principal,
        distortion=options.distortion,
    )
    if prior is not None:
        spread = np.broadcast_to(prior.sigma, prior.mean.shape)
        prior = replace(prior, mean=prior.mean[sights.cameras], sigma=spread[sights.cameras])
    noise = Noise(options.loss, options.loss_px, None if sigma is None else 1.0 / sigma[sights.order])
    if depths is not None:
        noise = with_depths(noise, depths, sights)
    return Task(sights, free, noise, prior, anchors, free.spread(len(sights.cameras)))


def state_of(bundle: Bundle, sights: Sights) -> State:
    return State(
        poses=np.ascontiguousarray(bundle.cam_from_world[sights.photos].reshape(-1, 12).T),
        intrinsics=np.ascontiguousarray(bundle.intrinsics[sights.cameras].T),
        points=np.ascontiguousarray(bundle.points.T),
    )


def _bundle_of(bundle: Bundle, sights: Sights, state: State) -> Bundle:
    poses, intrinsics = bundle.cam_from_world.copy(), bundle.intrinsics.copy()
    poses[sights.photos] = state.poses.T.reshape(-1, 3, 4)
    intrinsics[sights.cameras] = state.intrinsics.T
    points = np.ascontiguousarray(state.points.T)
    return replace(bundle, cam_from_world=poses, intrinsics=intrinsics, points=points)
