"""Ground control points: points of known coordinates that are marked in photos.

A robust similarity brings the model to the coordinates. Then all is adjusted, with the marks as further observations
and the coordinates as priors of their points: a similarity cannot bend a model that a wrong focal length or distortion
has bent, as that of photos which all look straight down.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np

from ..arrays import Array, Mask
from ..bundle.adjust import adjust_bundle
from ..bundle.point_priors import PointPriors
from ..bundle.pose_priors import no_pose_priors
from ..bundle.problem import Bundle, BundleOptions, IntrinsicsPrior
from ..mapping.refinement import dependable
from ..mapping.triangulation import keep_observations
from ..option_ranges import Angle, Count, Positive, Within
from ..similarity import Similarity, flatness
from .marks import Marks, SightedPoints, mark_errors_px, sight_points
from .robust_similarity import FittedSimilarity, RobustSimilarityOptions, fit_positions, inverse_similarity


@dataclass(frozen=True)
class ControlOptions:
    """How exact control points are, which are wrong, and how much they weigh."""

    sigma_m: Positive = 0.02
    """Standard deviation of coordinates where the file gives none: that of a satellite receiver with corrections."""
    sigma_px: Positive = 1.0
    """Standard deviation of marks where the file gives none."""
    max_error_px: Positive = 10.0
    """Marks farther from where the others see their point are wrong. In a photo of 1600 pixels; larger photos allow
    more. Poses before the adjustment are not exact."""
    min_angle_deg: Angle = 1.0
    """Between two rays that determine a point."""
    max_sigmas: Positive = 3.0
    """Points that are farther off, in standard deviations of their coordinates or of all, are wrong."""
    min_flatness: Annotated[float, Within("[0, 1]")] = 0.01
    """Extent of the points across their longest axis over that along it, from which on they determine a rotation."""
    adjust: bool = True
    """Whether all is adjusted to the points; otherwise only moved."""
    noise_px: Positive = 0.75
    """Reprojection error of a key point that an error of one sigma weighs as much as, in a photo of 1600 pixels.
    Several times their scatter, as for priors of intrinsics: errors of key points have causes in common, so that
    thousands of them are not worth more than some control points."""
    loss_px: Positive = 0.8
    """Scale of the robust loss of reprojection errors, in a photo of 1600 pixels."""
    dependable_points: Annotated[int, Within("[0, inf)")] = 40
    """A photo that sees so many points which two others see as well is adjusted by these alone."""
    max_iterations: Count = 40
    """Steps of the adjustment, at most."""
    tolerance: Positive = 1e-6
    """Relative decrease of the cost in one step at which it ends."""
    rounds: Count = 3
    """Adjustments, at most: points that turn out to be right after one, or wrong, ask for the next."""
    similarity: RobustSimilarityOptions = field(default_factory=RobustSimilarityOptions)
    """The similarity before the adjustment."""


@dataclass(frozen=True, eq=False)
class ControlPoints:
    """Points of known coordinates, with their marks."""

    position: Array
    """(n, 3) in the frame of the survey."""
    sigma: Array
    """(n,) standard deviation of a coordinate, in its unit."""
    marks: Marks


@dataclass(frozen=True, eq=False)
class ControlFit:
    """A model that agrees with control points."""

    bundle: Bundle
    """In its old frame, from where the similarity leads to that of the survey."""
    similarity: Similarity
    marks: Marks
    seen: SightedPoints
    """In the old frame."""
    offset: Array
    """(n, 3) where the photos see the points, without their coordinates, minus these, in the frame of the survey."""
    error_px: Array
    """(m,) distance of the marks from the projections of the known coordinates."""
    used: Mask
    """(n,) points that agree."""

    @property
    def distance(self) -> Array:
        """(n,) length of the offsets; NaN for points that no two photos see."""
        return np.asarray(np.linalg.norm(self.offset, axis=1))


def fit_control(
    bundle: Bundle, control: ControlPoints, prior: IntrinsicsPrior, pixel: Array, options: ControlOptions
) -> ControlFit | str:
    """Fit a model to control points, or say why it cannot be.

    pixel: (photos,) length of a pixel of a photo of the reference size in pixels of each photo, one or more.
    """
    seen = _sighted(bundle, control, pixel, options)
    known: Mask = np.asarray(np.isfinite(seen.position).all(axis=1))
    if known.sum() < 3:
        return f"two of its photos or more see {int(known.sum())} of the control points alike, three are needed"
    fitted = fit_positions(seen.position[known], control.position[known], options.similarity)
    if fitted is None or fitted.similarity.scale <= 0:
        return "its control points coincide"
    used: Mask = known.copy()
    used[known] = fitted.inliers
    if flatness(control.position[used]) < options.min_flatness:
        return "its control points lie on a line, which determines no rotation"
    if _swapped_fits_better(seen.position[known], control.position[known], fitted, options.similarity):
        return "its control points fit far better with X and Y exchanged: are they northing and easting?"
    fit = _fit_of(bundle, control, fitted.similarity, seen, used)
    tried = [used]
    while options.adjust and len(tried) <= options.rounds:
        adjusted = _adjusted(bundle, control, fit, prior, pixel, options)
        seen = _sighted(adjusted, control, pixel, options)
        fit = _fit_of(adjusted, control, fitted.similarity, seen, used)
        used = _agreeing(fit, control.sigma, options)
        if used.sum() < 3 or any(np.array_equal(used, before) for before in tried):
            break
        tried.append(used)
        fit = replace(fit, used=used)
    return fit


def _sighted(bundle: Bundle, control: ControlPoints, pixel: Array, options: ControlOptions) -> SightedPoints:
    bound_px = options.max_error_px * pixel[control.marks.photo]
    return sight_points(bundle, control.marks, len(control.position), bound_px, options.min_angle_deg)


def _fit_of(
    bundle: Bundle, control: ControlPoints, similarity: Similarity, seen: SightedPoints, used: Mask
) -> ControlFit:
    there = inverse_similarity(similarity)(control.position)
    offset = similarity(seen.position) - control.position
    return ControlFit(
        bundle, similarity, control.marks, seen, offset, mark_errors_px(bundle, control.marks, there), used
    )


def _agreeing(fit: ControlFit, sigma: Array, options: ControlOptions) -> Mask:
    """(n,) points whose error is within so many of their own standard deviations, or of those of the points in use."""
    usual = 1.4826 * float(np.nanmedian(fit.distance[fit.used])) / np.sqrt(3.0)  # photos may see one no longer
    bound = options.max_sigmas * np.sqrt(3.0) * np.maximum(sigma, usual)
    return np.asarray(np.isfinite(fit.distance) & (fit.distance <= bound))


def _swapped_fits_better(
    source: Array, target: Array, fitted: FittedSimilarity, options: RobustSimilarityOptions
) -> bool:
    """Whether points with their first two coordinates exchanged, a mirrored world, have less than half the error."""
    swapped = fit_positions(source, target[:, [1, 0, 2]], options)
    if swapped is None:
        return False
    least = 1e-6 * float(np.ptp(target, axis=0).max())
    return float(np.median(swapped.errors)) + least < 0.5 * float(np.median(fitted.errors))


def _adjusted(
    bundle: Bundle,
    control: ControlPoints,
    fit: ControlFit,
    prior: IntrinsicsPrior,
    pixel: Array,
    options: ControlOptions,
) -> Bundle:
    """Adjust poses, intrinsics and points together with the control points in use, in the frame of the bundle: there
    numbers are small, where those of a survey may be millions of metres."""
    strong = keep_observations(bundle, dependable(bundle, options.dependable_points))
    rows = fit.seen.right & fit.used[control.marks.point]
    marks = control.marks.of(rows)
    points, place = np.unique(marks.point, return_inverse=True)
    to_model = inverse_similarity(fit.similarity)
    at = len(strong.points)
    joined = replace(
        strong,
        points=np.concatenate([strong.points, fit.seen.position[points]]),
        xy=np.concatenate([strong.xy, marks.xy]),
        photo=np.concatenate([strong.photo, marks.photo]),
        point=np.concatenate([strong.point, at + place]),
        row=np.concatenate([strong.row, np.full(len(place), -1)]),
    )
    sigma = np.concatenate([pixel[strong.photo], marks.sigma_px / options.noise_px])
    # A residual of a coordinate counts as noise_px key points' pixels; key points of large photos are less exact.
    found = PointPriors(
        at + np.arange(len(points)),
        to_model(control.position[points]),
        control.sigma[points] * to_model.scale,
        options.noise_px,
    )
    how = BundleOptions(
        principal=True,
        distortion=True,
        loss_px=options.loss_px,
        max_iterations=options.max_iterations,
        tolerance=options.tolerance,
    )
    done, _ = adjust_bundle(joined, how, prior, sigma, point_priors=found)
    moved = replace(bundle, cam_from_world=done.cam_from_world, intrinsics=done.intrinsics, rigs=done.rigs)
    # Points of two photos alone follow: they had no say.
    held = replace(no_pose_priors(len(pixel)), fixed=np.ones(len(pixel), bool))
    still = replace(how, focal=False, principal=False, distortion=False, tolerance=1e-4)
    settled = adjust_bundle(replace(moved, rigs=None), still, None, pixel[bundle.photo], held)[0]
    return replace(moved, points=settled.points)
