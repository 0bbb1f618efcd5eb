"""Options of the search for intrinsics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from ..option_ranges import Angle, Count, Positive, Within
from .view_graph_calibration import ViewGraphCalibrationOptions


@dataclass(frozen=True)
class IntrinsicsSearchOptions:
    """Candidates of the search and thresholds of its decisions. Costs are CoarseModel.cost, from 0 to 1."""

    core_photos: Annotated[int, Within("[2, inf)")] = 16
    """Candidates are evaluated on at most so many well-connected photos; the chosen one serves the whole collection."""
    core_max_matches: Count = 500
    """Matches of a pair beyond this number do not make it better connected."""
    tracks_per_photo: Count = 80
    """Tracks of the core that a candidate is evaluated on: costs compare with so few, and there are many candidates."""
    focal_ratios: tuple[Positive, ...] = (0.5, 0.75, 1.1, 1.6, 2.4, 3.6, 5.4, 8.1, 12.0)
    """Candidate focal lengths over the longer side of the photo, from 90 to 5 degrees of view. Bundle adjustment
    converges over the distance between neighbours."""
    near_ratio: Annotated[float, Within("[1, inf)")] = 1.4
    """Before these, the initial focal lengths are tried, and these divided and multiplied by this ratio."""
    min_focal_ratio: Positive = 0.4
    """Shortest initial focal length over the longer side of the photo; estimates of single pairs have no bound."""
    max_focal_ratio: Positive = 15.0
    """Longest initial focal length over the longer side of the photo."""
    max_repetitions: Count = 8
    """How often a candidate is mapped, each time from the focal lengths that the last model found: relative poses
    estimated under better focal lengths are better."""
    repetition_min_change: Annotated[float, Within("[0, inf)")] = 0.05
    """Change of the logarithm of a focal length below which a candidate is not mapped again."""
    repetition_max_cost_ratio: Positive = 0.98
    """Nor is it mapped again once the cost did not fall below this ratio of the last one."""
    hopeful_rate: Annotated[float, Within("[1, inf)")] = 2.0
    """Nor once its cost would stay above the least one so far, even if it fell so many times as fast as the last time
    in all repetitions that are left."""
    clear_cost: Positive = 0.3
    """Below this cost two candidates that arrive at the same focal lengths end the search, above it takes three."""
    poor_cost: Positive = 0.45
    """Above this cost a warning is given: photos of one scene end well below, with long lenses, blur and all."""
    better_cost_ratio: Positive = 0.95
    """A candidate with less than this ratio of the least cost so far replaces the best one."""
    same_cost_ratio: Positive = 1.1
    """Two candidates arrive at the same solution if their costs are within this ratio,"""
    same_log_focal: Annotated[float, Within("[0, inf)")] = 0.03
    """and the logarithm of the ratio of their focal lengths is below this,"""
    same_rotation_deg: Angle = 3.0
    """and the median of the angles between their rotations: every candidate has a seed of its own, so that two which
    arrive at the same poses show that these do not hang on a seed."""
    equal_cost_ratio: Positive = 1.01
    """Costs within this ratio do not decide between candidates."""
    undecided_focal_ratio: Positive = 1.2
    """If candidates of equal cost differ by more in focal length, the one nearest to the priors is chosen, with a
    warning."""
    max_told_deviation: Positive = 3.0
    """Focal lengths further than so many standard deviations from what single photos say show that to be wrong: it is
    left out then."""
    freed_cost_ratio: Positive = 0.9
    """What a few steps of bundle adjustment must reduce the cost to, with free principal points or two focal lengths,
    for such a candidate to be mapped. Over 0.93 for photos as the camera made them, about 0.5 for crops."""
    single_cost_ratio: Positive = 0.95
    """The same with a camera per photo. Over 0.97 where photos share a camera; about 0.5 where they do not, but up to
    0.91 where the one camera that they were given took refuge in an absurd distortion."""
    accepted_cost_ratio: Positive = 0.85
    """Cost ratio below which a mapped candidate with more freedom is chosen: a camera per photo, free principal points,
    two focal lengths, or focal lengths other than those in EXIF."""
    min_squeeze: Annotated[float, Within("[0, inf)")] = 0.015
    """Least logarithm of the ratio of two focal lengths, after a few steps from square pixels, for photos to be tried
    as squeezed. Noise moves it by up to 0.011 on nine sets, a squeeze of 0.22 by 0.02 to 0.07."""
    min_squeezed_photos: Count = 4
    """Photos of the core that share a camera for it to be tried with two focal lengths: few photos turn and move
    instead, and of internet photos, each by another camera, hardly any is squeezed. Three take poor key points for a
    squeeze (JPEGs of quality 25: 0.81 where there is none), and get a real one wrong (0.64 of 0.8)."""
    squeeze_rounds: Annotated[int, Within("[0, inf)")] = 4
    """Mappings from better and better such ratios: poses found under square pixels hide half of it."""
    fisheye_focal_ratios: tuple[Positive, ...] = (0.32, 0.45, 0.64)
    """Candidate focal lengths of fisheyes over the longer side of the photo, from 180 to 90 degrees of view."""
    min_barrel: Positive = 0.03
    """Displacement towards the middle by distortion, of what lies half a longer side from it, relative to that
    distance, beyond which a lens is tried as a fisheye. Usual ones stay below; fisheyes of 90 degrees come out at 0.04,
    of 120 degrees at 0.06."""
    max_fisheye_squeeze: Positive = 0.05
    """Largest logarithm of the ratio of the two focal lengths of a fisheye: a larger one makes the model fit photos of
    other cameras."""
    min_crop_photos: Count = 4
    """Photos of the core for it to be tried as crops. Two or three say next to nothing of their principal points, which
    then bend to whatever else does not fit: two photos of a phone fit a sixth better with theirs 6 % of a side off,
    and a baseline that is 5 degrees wrong."""
    crop_rounds: Annotated[int, Within("[0, inf)")] = 2
    """Mappings from better and better principal points."""
    calibration: ViewGraphCalibrationOptions = field(default_factory=ViewGraphCalibrationOptions)
    """View-graph calibration, which gives the initial focal lengths."""
