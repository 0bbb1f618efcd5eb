"""Intrinsics search: which focal lengths, camera groups and principal points fit a whole model best.

Long lenses, turntables and single walls hardly constrain the focal length in pairs of photos. A whole model does: each
candidate is evaluated by mapping a core of the collection in a fraction of a second, and the candidate of least cost is
chosen. The same test decides whether photos of equal size were taken by one camera.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from ..arrays import Array, Mask
from ..bundle.intrinsics import FIXED_SIGMA, Intrinsics
from ..bundle.problem import Bundle
from ..cameras import FX, fisheyes
from ..view_graph import Keypoints, ViewGraph
from .drafts import rotation_difference_deg
from .freed_intrinsics import adjust_freed, seen_cameras, with_fisheyes, with_free_principal_points, with_two_focals
from .global_mapper import CoarseModel, GlobalMapperOptions, map_component
from .intrinsics_search_options import IntrinsicsSearchOptions
from .tracks import Tracks, establish_tracks, spread_subset
from .view_graph_calibration import calibrate_focals, calibrate_neighbours, shared_focal


@dataclass(frozen=True)
class IntrinsicsChoice:
    """The chosen intrinsics."""

    intrinsics: Intrinsics
    cost: float
    """Of the core's model."""
    warnings: tuple[str, ...]
    clear: bool = True
    """Whether the photos decided: several candidates arrived at this solution, or none of equal cost has quite other
    focal lengths."""
    others: tuple[Intrinsics, ...] = ()
    """Where they did not: the intrinsics of candidates of equal cost, the best ones first."""
    confirmed: Bundle | None = None
    """The core's model, if it has all edges, and candidates with different seeds have arrived at its rotations."""


def select_intrinsics(
    graph: ViewGraph,
    intrinsics: Intrinsics,
    known: Mask,
    *,
    assumed_groups: bool,
    keypoint_error_px: float,
    options: IntrinsicsSearchOptions | None = None,
    mapper: GlobalMapperOptions | None = None,
    seed: int = 0,
    threads: int = 1,
) -> IntrinsicsChoice:
    """Choose the intrinsics under which a core of the collection fits together best.

    The core is grown from the strongest edge; photos that are not connected with it do not take part. `known`
    (cameras,) marks focal lengths that are not searched; `assumed_groups` allows a camera per photo where photos were
    grouped by size alone. Candidates are mapped with the options `mapper`.
    """
    options, mapper = options or IntrinsicsSearchOptions(), mapper or GlobalMapperOptions()
    mapper = replace(mapper, planar_ambiguity=replace(mapper.planar_ambiguity, rounds=0))  # costs compare without
    core = core_matches(graph, options)
    tracks = _core_tracks(core, options)

    def evaluate(candidate: Intrinsics, number: int = 0) -> CoarseModel | None:
        def once(intrinsics: Intrinsics) -> CoarseModel | None:
            return map_component(
                core,
                tracks,
                intrinsics,
                keypoint_error_px=keypoint_error_px,
                options=mapper,
                seed=seed + number,
                threads=threads,
            )

        return _evaluate_repeatedly(once, candidate, options)

    elsewhere = ~_cameras_of(core, intrinsics)
    fixed = known | elsewhere
    start = initial_focals(core, intrinsics, fixed, options)
    usual = intrinsics.values[:, 0]
    found = _search_focals(evaluate, start, fixed, graph.keypoints, usual, options)
    best = found.best
    max_edge_deg = mapper.max_track_edge_deg
    if best is not None and best.cost > options.clear_cost and (best.edge_residual_deg > max_edge_deg).any():
        # Doppelgangers: their matches merge tracks all over the core, and that raises the cost of every candidate.
        core = core.select(best.edge_residual_deg <= max_edge_deg)
        tracks = _core_tracks(core, options)
        start_again = start.with_focals(np.where(seen_cameras(best), best.focals, start.values[:, 0]))
        found = _search_focals(evaluate, start_again, fixed, graph.keypoints, usual, options)
        best = found.best
    if best is None:
        return IntrinsicsChoice(start, 1.0, ("no candidate focal length gives a model of these photos",), clear=False)

    if (astray := _told(start, known) & (np.abs(_prior_z(best, start)) > options.max_told_deviation)).any():
        intrinsics, start = (each.without_focals(astray) for each in (intrinsics, start))
        best = evaluate(_with_focals_of(best, start, start)) or best
    warnings: list[str] = []
    by_exif = known & ~elsewhere & (intrinsics.prior.sigma[:, FX] > FIXED_SIGMA)  # or given with a deviation
    if best.cost > options.clear_cost and by_exif.any():
        free = intrinsics.without_focals(by_exif)
        free_start = initial_focals(core, free, fixed & ~by_exif, options)
        other = _search_focals(evaluate, free_start, fixed & ~by_exif, graph.keypoints, usual, options)
        if other.best is not None and other.best.cost < options.accepted_cost_ratio * best.cost:
            warnings.append("the focal lengths in EXIF, or given with a deviation, do not fit and were not used")
            best, found, intrinsics, start, known = other.best, other, free, free_start, known & ~by_exif
    usual_model = intrinsics
    if (cropped := with_free_principal_points(evaluate, best, start, keypoint_error_px, options)) is not None:
        warnings.append("some photos are crops: their principal points lie far from their centres")
        best, intrinsics = cropped
        found = replace(found, equals=())
    if (squeezed := with_two_focals(evaluate, best, intrinsics, ~known, keypoint_error_px, options)) is not None:
        warnings.append("photos were squeezed: their pixels are not square, and focal lengths across and down differ")
        best, intrinsics = squeezed
        start, found = intrinsics, replace(found, equals=())
    sides = _long_sides(core.keypoints, intrinsics)
    if (fisheye := with_fisheyes(evaluate, best, usual_model, known, sides, options)) is not None:
        warnings = ["the photos were taken with a fisheye, by how well its camera model fits them"]
        best, intrinsics = fisheye
        start, found = intrinsics, FocalSearch(best, True)
    own_known = known[intrinsics.camera_of_photo]
    # What single photos say of their one camera says nothing of several.
    single = _with_focals_of(best, intrinsics, start).split().without_focals(~own_known)
    if (
        assumed_groups
        and (found.clear or best.cost > options.clear_cost)  # else a camera per photo absorbs any focal length
        and (np.bincount(intrinsics.camera_of_photo[best.posed]) > 1).any()
        and adjust_freed(best, single, keypoint_error_px)[1] < options.freed_cost_ratio
    ):
        # From their usual focal lengths: that of the one camera fits none of them, and pairs say more than it does.
        single = single.with_focals(usual[intrinsics.camera_of_photo])
        fixed = own_known | ~_cameras_of(core, single)
        single_start = initial_focals(core, single, fixed, options)
        own = _search_focals(evaluate, single_start, fixed, graph.keypoints, single.values[:, 0], options)
        if own.best is not None and own.best.cost < options.accepted_cost_ratio * best.cost:
            warnings.append("photos of equal size were not taken by one camera; each gets a camera of its own")
            best, found, start, known = own.best, own, single_start, own_known
            intrinsics = single
    if not found.clear:
        warnings.append("the focal length could not be determined well from these photos")
    if best.cost > options.poor_cost:
        warnings.append(
            "no cameras make the photos fit together well; crops, blur and doppelgangers are the usual causes"
        )
    result, *others = (
        _beyond_core(graph, _with_focals_of(model, intrinsics, start), known | seen_cameras(model), options)
        for model in (best, *found.equals)
    )
    whole = found.confirmed and best is found.best and len(core) == len(graph)
    confirmed = best.bundle if whole else None
    return IntrinsicsChoice(result, best.cost, tuple(warnings), found.clear, tuple(others), confirmed)


def _with_focals_of(model: CoarseModel, intrinsics: Intrinsics, start: Intrinsics) -> Intrinsics:
    """The intrinsics with the focal lengths of a model, and those of the start for cameras that are not in it."""
    return intrinsics.with_focals(np.where(seen_cameras(model), model.focals, start.values[:, 0]))


def _beyond_core(graph: ViewGraph, intrinsics: Intrinsics, found: Mask, options: IntrinsicsSearchOptions) -> Intrinsics:
    """The intrinsics with the focal lengths of cameras beyond the core calibrated against those that are `found`
    (cameras,), whose lenses they are taken to have: from a usual focal length a whole ring of long lenses does not
    converge."""
    here = _cameras_of(graph, intrinsics)
    left, found = here & ~found & ~fisheyes(intrinsics.models), here & found
    if not left.any() or not found.any():
        return intrinsics
    side = _long_sides(graph.keypoints, intrinsics)
    middle = np.median(intrinsics.values[found, FX] / side[found])
    start = intrinsics.with_focals(np.where(left, middle * side, intrinsics.values[:, FX]))
    a, b = (left | found)[intrinsics.camera_of_photo[graph.pairs]].T
    calibrated = calibrate_neighbours(
        graph.select(a & b),  # fisheyes that were not found keep a usual focal length, which says nothing of others
        start.values,
        start.camera_of_photo,
        ~left,
        side,
        (options.min_focal_ratio, options.max_focal_ratio),
        options.calibration,
    )
    return start.with_focals(calibrated)


def _cameras_of(graph: ViewGraph, intrinsics: Intrinsics) -> Mask:
    """(cameras,) which have a photo with an edge."""
    out = np.zeros(len(intrinsics.models), bool)
    out[intrinsics.camera_of_photo[graph.pairs]] = True
    return out


def initial_focals(
    graph: ViewGraph, intrinsics: Intrinsics, known: Mask, options: IntrinsicsSearchOptions | None = None
) -> Intrinsics:
    """Known focal lengths, else the median of the pairs within a camera, else those of view-graph calibration."""
    options = options or IntrinsicsSearchOptions()
    focal = intrinsics.values[:, 0].copy()
    side = _long_sides(graph.keypoints, intrinsics)
    calibrated: Array | None = None
    for camera in np.flatnonzero(~known):
        value, _ = shared_focal(graph, intrinsics.camera_of_photo, int(camera), options.calibration)
        if np.isnan(value):
            if calibrated is None:
                calibrated = calibrate_focals(
                    graph, intrinsics.values, intrinsics.camera_of_photo, known, options.calibration
                )
            value = float(calibrated[camera])
        focal[camera] = np.clip(value, options.min_focal_ratio * side[camera], options.max_focal_ratio * side[camera])
    return intrinsics.with_focals(focal)


def _long_sides(keypoints: Keypoints, intrinsics: Intrinsics) -> Array:
    """(cameras,) pixels; 1 for cameras without photos."""
    side = np.ones(len(intrinsics.models))
    np.maximum.at(side, intrinsics.camera_of_photo, keypoints.size.max(axis=1))
    return side


def core_matches(graph: ViewGraph, options: IntrinsicsSearchOptions) -> ViewGraph:
    """The edges among a well-connected core: grown from the strongest edge by the photo with most matches into it."""
    connected = np.unique(graph.pairs)
    if len(connected) == 0:
        return graph
    count = np.minimum(graph.match_count, options.core_max_matches).astype(np.float64)
    inside = np.zeros(int(connected[-1]) + 1, bool)
    inside[graph.pairs[int(np.argmax(count))]] = True
    a, b = graph.pairs.T
    for _ in range(min(options.core_photos, len(connected)) - 2):
        gain = np.bincount(b[inside[a]], weights=count[inside[a]], minlength=len(inside))
        gain += np.bincount(a[inside[b]], weights=count[inside[b]], minlength=len(inside))
        gain[inside] = 0.0
        if not gain.any():
            break
        inside[int(np.argmax(gain))] = True
    return graph.select(inside[a] & inside[b])


def _core_tracks(core: ViewGraph, options: IntrinsicsSearchOptions) -> Tracks:
    return spread_subset(establish_tracks(core.keypoints, *core.matches()), core.photo_count, options.tracks_per_photo)


@dataclass(frozen=True, eq=False)
class FocalSearch:
    """Outcome of a search over focal lengths."""

    best: CoarseModel | None
    """None where no candidate gives a model."""
    clear: bool
    """Whether the photos decided."""
    equals: tuple[CoarseModel, ...] = ()
    """Other models of equal cost and quite other focal lengths."""
    confirmed: bool = False
    """Whether several candidates, each with a seed of its own, arrived at the rotations of the best one."""


def _search_focals(
    evaluate: Callable[[Intrinsics, int], CoarseModel | None],
    start: Intrinsics,
    known: Mask,
    keypoints: Keypoints,
    usual: Array,
    options: IntrinsicsSearchOptions,
) -> FocalSearch:
    """Evaluate candidates further and further from the start, until several arrive at the best solution.

    Where models of quite different focal lengths have equal costs, the best is the one nearest to the `usual` focal
    lengths.
    """
    focal = start.values[:, 0]
    if known.all():
        return FocalSearch(evaluate(start, 0), True)
    side = _long_sides(keypoints, start)
    near = options.near_ratio
    models: list[CoarseModel] = []
    best: CoarseModel | None = None
    arrivals = 0
    told = _told(start, known)
    alone = np.where(told, start.prior.mean[:, FX], focal)
    bases = (*((alone,) if told.any() else ()), focal, focal / near, focal * near)
    for number, base in enumerate((*bases, *(side * r for r in options.focal_ratios))):
        new = evaluate(start.with_focals(np.where(known, focal, base)), number)
        if new is None:
            continue
        new = replace(new, cost=new.cost + _prior_cost(new, start, told))
        models.append(new)
        if best is None or new.cost < options.better_cost_ratio * best.cost:
            best, arrivals = new, 1
        elif _same_solution(best, new, known, options):
            arrivals += 1
        if arrivals >= (2 if best.cost < options.clear_cost else 3):
            return FocalSearch(best, True, confirmed=True)
    best = _best(models)
    if best is None:
        return FocalSearch(None, False)
    equals = [model for model in models if model.cost < options.equal_cost_ratio * best.cost]
    spread = max(_log_focal_distance(best, model, known) for model in equals)
    if spread < np.log(options.undecided_focal_ratio):
        return FocalSearch(best, True)
    best = min(equals, key=lambda model: _log_focal_distance_to(usual, model, known))
    return FocalSearch(best, False, _distinct(best, equals, known, options))


def _told(intrinsics: Intrinsics, known: Mask) -> Mask:
    """(cameras,) whose focal lengths are not known, but which single photos have told."""
    return ~known & np.isfinite(intrinsics.prior.sigma[:, FX])


def _prior_z(model: CoarseModel, intrinsics: Intrinsics) -> Array:
    """(cameras,) distance of focal lengths from their prior, in standard deviations of their logarithms; zero for
    cameras that are not in the model."""
    mean, sigma = intrinsics.prior.mean[:, FX], intrinsics.prior.sigma[:, FX]
    return np.where(seen_cameras(model), np.log(model.focals / mean) / (sigma / mean), 0.0)


def _prior_cost(model: CoarseModel, intrinsics: Intrinsics, told: Mask) -> float:
    """What the focal lengths of cameras that are `told` (cameras,) by single photos add to the mean cost of an
    observation: log(1 + z^2 / 2) each, z in standard deviations. It decides where photos are few, and never alone: of
    what single photos say a few in a hundred is quite wrong."""
    z = _prior_z(model, intrinsics)[told]
    return float(np.log1p(0.5 * z**2).sum()) / max(len(model.bundle.photo), 1)


def _distinct(
    best: CoarseModel, models: Iterable[CoarseModel], known: Mask, options: IntrinsicsSearchOptions
) -> tuple[CoarseModel, ...]:
    """The models, cheapest first, without those whose focal lengths are near those of `best` or of a cheaper one."""
    kept = [best]
    for model in sorted(models, key=lambda each: each.cost):
        if min(_log_focal_distance(model, other, known) for other in kept) > np.log(options.undecided_focal_ratio):
            kept.append(model)
    return tuple(kept[1:])


def _same_solution(a: CoarseModel, b: CoarseModel, known: Mask, options: IntrinsicsSearchOptions) -> bool:
    """Whether two models have the same focal lengths and rotations, and about the same cost."""
    same_cost = max(a.cost, b.cost) <= options.same_cost_ratio * min(a.cost, b.cost)
    same_focals = _log_focal_distance(a, b, known) < options.same_log_focal
    return same_cost and same_focals and rotation_difference_deg(a.bundle, b.bundle) < options.same_rotation_deg


def _log_focal_distance(a: CoarseModel, b: CoarseModel, known: Mask) -> float:
    """Median |log(f_a / f_b)| over the searched cameras of both models; infinite without any."""
    both = seen_cameras(a) & seen_cameras(b) & ~known
    return float(np.median(np.abs(np.log(a.focals[both] / b.focals[both])))) if both.any() else float("inf")


def _log_focal_distance_to(usual: Array, model: CoarseModel, known: Mask) -> float:
    """Mean |log(f / usual f)| over the searched cameras of a model."""
    searched = seen_cameras(model) & ~known
    return float(np.abs(np.log(model.focals[searched] / usual[searched])).mean()) if searched.any() else 0.0


def _evaluate_repeatedly(
    evaluate: Callable[[Intrinsics], CoarseModel | None], candidate: Intrinsics, options: IntrinsicsSearchOptions
) -> CoarseModel | None:
    """Evaluate a candidate again from the focal lengths of its own model, while these change and the cost falls."""
    best = evaluate(candidate)
    for _ in range(options.max_repetitions - 1):
        if best is None:
            break
        change = np.abs(np.log(best.focals / candidate.values[:, 0]))[seen_cameras(best)].max(initial=0.0)
        if change < options.repetition_min_change:
            break
        candidate = candidate.with_focals(np.where(seen_cameras(best), best.focals, candidate.values[:, 0]))
        again = evaluate(candidate)
        if again is None or again.cost > options.repetition_max_cost_ratio * best.cost:
            return _best([best, again])
        best = again
    return best


def _best(models: Iterable[CoarseModel | None]) -> CoarseModel | None:
    found = [model for model in models if model is not None]
    return min(found, key=lambda model: model.cost) if found else None
