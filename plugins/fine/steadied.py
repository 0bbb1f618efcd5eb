"""Photos with few observations, held by the poses that a network has predicted as well.

A relative pose to photos that many tracks hold is worth a few observations, not hundreds: where tracks are few it
helps, elsewhere it would only bend the model. What it is worth is measured on the photos that need it not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from unposed.optim.arrays import Array, Index
from unposed.optim.bundle.pose_priors import no_pose_priors
from unposed.optim.bundle.problem import errors_px
from unposed.optim.mapping.carried_poses import carried_poses
from unposed.optim.mapping.refinement import (
    RefineOptions,
    Solver,
    completed,
    observation_sigma,
    prior_of_refinement,
)
from unposed.optim.mapping.triangulation import keep_observations
from unposed.optim.option_ranges import Count
from unposed.optim.poses import camera_centres
from unposed.optim.rotations import rotation_angle_deg
from unposed.pipeline.artifacts import InitialModel
from unposed.pipeline.config import Within

from .model_start import Refined

MEDIAN_OF_3 = 1.5382
"""Median length of a vector of three normal numbers of variance one."""


@dataclass(frozen=True)
class SteadiedOptions:
    """Which photos are held by predicted poses beside their observations."""

    max_observations: Annotated[int, Within("[0, inf)")] = 40
    """Photos with fewer; 0: none. Forty observations determine a pose better than a network does even where they cover
    a small part of the photo."""
    neighbours: Annotated[int, Within("[2, inf)")] = 8
    """Photos, the nearest with more observations, that a predicted pose is relative to."""
    compared: Annotated[int, Within("[3, inf)")] = 30
    """Photos with more observations that the error of predicted poses is measured on, at most; six are needed."""
    max_iterations: Count = 8
    """Steps of the adjustment with these poses."""


_LEAST_COMPARED = 6


def with_steadied_photos(
    model: Refined, initial: InitialModel, solver: Solver, refinement: RefineOptions, options: SteadiedOptions
) -> Refined:
    """The model adjusted again with priors of the poses of photos with few observations; the same where no photo has
    few, or too few photos have many. `initial` has the predicted poses."""
    bundle, anchors = model.result.bundle, model.start.anchors
    predicted = np.full_like(bundle.cam_from_world, np.nan)
    predicted[initial.photos] = initial.cam_from_world
    posed = np.isfinite(bundle.cam_from_world[:, 0, 0]) & np.isfinite(predicted[:, 0, 0])
    few = np.bincount(bundle.photo, minlength=len(posed)) < options.max_observations
    weak, strong = np.flatnonzero(posed & few), np.flatnonzero(posed & ~few)
    if anchors is not None:  # what is known of a photo is better than what is predicted
        known = anchors.fixed | np.isfinite(anchors.centre_sigma).any(axis=1) | np.isfinite(anchors.rotation_sigma_rad)
        weak = weak[~known[weak]]
    if bundle.rigs is not None or not len(weak) or len(strong) < _LEAST_COMPARED:
        return model
    held = np.full_like(bundle.cam_from_world, np.nan)
    held[strong] = bundle.cam_from_world[strong]
    sigma_rad, sigma_centre = _errors(predicted, held, strong, options)
    carried = carried_poses(_only(predicted, np.append(strong, weak)), held, options.neighbours)
    weak = weak[np.isfinite(carried[weak, 0, 0])]
    priors = no_pose_priors(len(posed)) if anchors is None else anchors
    centre, rotation = priors.centre.copy(), priors.rotation.copy()
    centre_sigma, rotation_sigma = priors.centre_sigma.copy(), priors.rotation_sigma_rad.copy()
    centre[weak], rotation[weak] = camera_centres(carried[weak]), carried[weak, :, :3]
    centre_sigma[weak], rotation_sigma[weak] = sigma_centre, sigma_rad
    unit_px = model.graph.keypoint_error_px
    priors = replace(
        priors,
        centre=centre,
        rotation=rotation,
        centre_sigma=centre_sigma,
        rotation_sigma_rad=rotation_sigma,
        noise_px=unit_px if anchors is None else anchors.noise_px,
    )
    free = refinement.adjustment(unit_px, options.max_iterations, refinement.tolerance[1])
    prior = prior_of_refinement(model.start.bundle, model.start.prior)
    found, summary = solver(bundle, free, prior, observation_sigma(model.graph, bundle), priors, None)
    found = keep_observations(found, errors_px(found) < refinement.max_error * unit_px)
    done = completed(model.graph, found, refinement, unit_px)
    done = replace(done, summaries=(*model.result.summaries, summary), covariance=model.result.covariance)
    return replace(model, start=replace(model.start, anchors=priors), result=done)


def _errors(predicted: Array, held: Array, strong: Index, options: SteadiedOptions) -> tuple[float, float]:
    """Error per axis of predicted rotations, in radians, and positions: each of some photos that tracks hold is carried
    by its neighbours as if it were lost."""
    some = strong[np.unique(np.linspace(0, len(strong) - 1, min(options.compared, len(strong))).astype(np.int64))]
    before = _only(predicted, strong)
    turns, moves = [], []
    for photo in some.tolist():
        others = held.copy()
        others[photo] = np.nan
        pose = carried_poses(before, others, options.neighbours)[photo]
        turns.append(rotation_angle_deg(pose[None, :, :3] @ held[photo, :, :3].T)[0])
        moves.append(np.linalg.norm(camera_centres(pose[None])[0] - camera_centres(held[photo][None])[0]))
    turn, move = (float(np.nanmedian(each)) / MEDIAN_OF_3 for each in (turns, moves))
    return max(float(np.radians(turn)), 1e-6), max(move, 1e-9)


def _only(poses: Array, rows: Index) -> Array:
    out = np.full_like(poses, np.nan)
    out[rows] = poses[rows]
    return out
