"""A second radial term of distortion for the cameras whose photos ask for one.

Most lenses are as well described by k1 alone, and a second term then takes up the noise of few photos. Some (phones,
wide action cameras) are not, and what k1 leaves bends their models. Which of them it is shows in the adjustment: where
the term is real, it takes a tenth of the robust cost of all observations of the camera, and nearly nothing elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..arrays import Array, Mask
from ..bundle.pose_priors import PosePriors
from ..bundle.problem import Bundle, BundleOptions, IntrinsicsPrior, camera_points, errors_px
from ..cameras import FX, K2
from ..option_ranges import Count, Positive, Share
from ..view_graph import ViewGraph
from .refinement import RefinementResult, RefineOptions, Solver, completed, dependable, observation_sigma
from .triangulation import keep_observations


@dataclass(frozen=True)
class RadialTermOptions:
    """When a camera gets a second radial term."""

    enabled: bool = True
    min_gain: Share = 0.065
    """Share of the robust cost of its observations that the adjustment with the term must take away, and share that the
    term must hold by itself: the cost of one camera falls as well when the term of another one is found."""
    min_observations: Count = 1000
    """Of a camera: fewer do not tell a term from noise."""
    max_iterations: Count = 15
    """Steps of each adjustment, at most."""
    tolerance: Positive = 1e-5
    """Relative decrease of the cost in one step at which they end."""


def with_radial_terms(
    graph: ViewGraph,
    result: RefinementResult,
    prior: IntrinsicsPrior,
    anchors: PosePriors | None,
    solver: Solver,
    refinement: RefineOptions,
    options: RadialTermOptions,
) -> RefinementResult:
    """The result with a second radial term for the SIMPLE_RADIAL cameras that need it, adjusted again; the same where
    none does. Covariances stay those without the term."""
    bundle = keep_observations(result.bundle, dependable(result.bundle, refinement.dependable_points))
    count = np.bincount(bundle.camera_of_photo[bundle.photo], minlength=len(bundle.models))
    simple = np.array([model == "SIMPLE_RADIAL" for model in bundle.models])
    tried = simple & (count >= options.min_observations)
    if not options.enabled or not tried.any():
        return result
    unit_px = graph.keypoint_error_px
    free = refinement.adjustment(unit_px, options.max_iterations, options.tolerance)
    sigma = observation_sigma(graph, bundle)
    # Further steps alone lower the cost as well: both sides have the same.
    without, _ = solver(bundle, free, prior, sigma, anchors, None)
    found, summary = solver(_with_second_term(without, tried), free, prior, sigma, anchors, None)
    before, after = (_cost_by_camera(each, sigma, free) for each in (without, found))
    needed = tried & (after <= (1.0 - options.min_gain) * before)
    needed &= _held_by_second_term(found, sigma, free) >= options.min_gain
    if not needed.any():
        return result
    if (needed != tried).any():
        found, summary = solver(_with_second_term(without, needed), free, prior, sigma, anchors, None)
    found = keep_observations(found, errors_px(found) < refinement.max_error * unit_px)
    done = completed(graph, found, refinement, unit_px)
    return replace(done, summaries=(*result.summaries, summary), covariance=result.covariance)


def _with_second_term(bundle: Bundle, cameras: Mask) -> Bundle:
    models = ("RADIAL" if more else model for model, more in zip(bundle.models, cameras, strict=True))
    return replace(bundle, models=tuple(models))


def _cost_by_camera(bundle: Bundle, sigma: Array | None, options: BundleOptions) -> Array:
    """(cameras,) sum of the loss over the observations of each camera."""
    scale = options.loss_px * (1.0 if sigma is None else sigma)
    loss = options.loss.rho(np.minimum(errors_px(bundle) / scale, 1e6) ** 2, np)
    return np.asarray(np.bincount(bundle.camera_of_photo[bundle.photo], loss, len(bundle.models)), np.float64)


def _held_by_second_term(bundle: Bundle, sigma: Array | None, options: BundleOptions) -> Array:
    """(cameras,) share of the squared errors, weighted by the loss, that would be there without the second terms, if
    focal lengths and first terms took over what they can of them and nothing else moved."""
    y = camera_points(bundle)
    radius = np.hypot(y[:, 0], y[:, 1]) / y[:, 2]
    error, camera = errors_px(bundle), bundle.camera_of_photo[bundle.photo]
    scale = options.loss_px * (np.ones(len(error)) if sigma is None else sigma)
    weight, _ = options.loss.weight_and_curvature(np.minimum(error / scale, 1e6) ** 2, np)
    root = np.sqrt(weight) / scale
    share = np.zeros(len(bundle.models))
    for number, (focal, second) in enumerate(bundle.intrinsics[:, [FX, K2]]):
        own = np.flatnonzero(camera == number)
        moved = root[own] * focal * second * radius[own] ** 5
        others = root[own, None] * np.stack([radius[own], radius[own] ** 3], axis=1)
        left = moved - others @ np.linalg.lstsq(others, moved)[0]
        squares = float(left @ left), float(np.sum((root[own] * error[own]) ** 2))
        share[number] = squares[0] / max(sum(squares), 1e-300)
    return share
