"""Intrinsics search: which focal lengths, camera groups and principal points fit a whole model best.

Long lenses, turntables and single walls hardly constrain the focal length in pairs of photos. A whole model does: each
candidate is evaluated by mapping a core of the collection in a fraction of a second, and the candidate of least cost is
chosen. The same test decides whether photos of equal size were taken by one camera.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..arrays import Array, Mask
from ..bundle.intrinsics import FIXED_SIGMA, Intrinsics
from ..bundle.problem import Bundle
from ..cameras import FX, fisheyes
from ..view_graph import ViewGraph
from .focal_search import (
    Enough,
    FocalSearch,
    evaluate_repeatedly,
    long_sides,
    never_enough,
    prior_z,
    search_focals,
    told_cameras,
)
from .freed_intrinsics import adjust_freed, seen_cameras, with_fisheyes, with_free_principal_points, with_two_focals
from .global_mapper import CoarseModel, GlobalMapperOptions, map_component
from .intrinsics_search_options import IntrinsicsSearchOptions
from .tracks import Tracks, establish_tracks, spread_subset
from .view_graph_calibration import calibrate_focals, calibrate_neighbours, shared_focal

OWN_CAMERAS = "photos of equal size were not taken by one camera; each gets a camera of its own"
"""Warning where a camera per photo was chosen."""


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

    def evaluate(candidate: Intrinsics, number: int = 0, enough: Enough = never_enough) -> CoarseModel | None:
        def once(intrinsics: Intrinsics) -> CoarseModel | None:
            return map_component(
                core,
                tracks,
                intrinsics,
                keypoint_error_px=keypoint_error_px,
                options=mapper,
                seed=seed + number,
            )

        return evaluate_repeatedly(once, candidate, options, enough)

    elsewhere = ~_cameras_of(core, intrinsics)
    fixed = known | elsewhere
    start = initial_focals(core, intrinsics, fixed, options)
    usual = intrinsics.values[:, 0]
    found = search_focals(evaluate, start, fixed, graph.keypoints, usual, options)
    best = found.best
    max_edge_deg = mapper.max_track_edge_deg
    if best is not None and best.cost > options.clear_cost and (best.edge_residual_deg > max_edge_deg).any():
        # Doppelgangers: their matches merge tracks all over the core, and that raises the cost of every candidate.
        core = core.select(best.edge_residual_deg <= max_edge_deg)
        tracks = _core_tracks(core, options)
        start_again = start.with_focals(np.where(seen_cameras(best), best.focals, start.values[:, 0]))
        found = search_focals(evaluate, start_again, fixed, graph.keypoints, usual, options)
        best = found.best
    if best is None:
        return IntrinsicsChoice(start, 1.0, ("no candidate focal length gives a model of these photos",), clear=False)

    if (astray := told_cameras(start, known) & (np.abs(prior_z(best, start)) > options.max_told_deviation)).any():
        intrinsics, start = (each.without_focals(astray) for each in (intrinsics, start))
        best = evaluate(_with_focals_of(best, start, start)) or best
    warnings: list[str] = []
    by_exif = known & ~elsewhere & (intrinsics.prior.sigma[:, FX] > FIXED_SIGMA)  # or given with a deviation
    if best.cost > options.clear_cost and by_exif.any():
        free = intrinsics.without_focals(by_exif)
        free_start = initial_focals(core, free, fixed & ~by_exif, options)
        other = search_focals(evaluate, free_start, fixed & ~by_exif, graph.keypoints, usual, options)
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
    sides = long_sides(core.keypoints, intrinsics)
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
        and adjust_freed(best, single, keypoint_error_px)[1] < options.single_cost_ratio
    ):
        # From their usual focal lengths: that of the one camera fits none of them, and pairs say more than it does.
        single = single.with_focals(usual[intrinsics.camera_of_photo])
        fixed = own_known | ~_cameras_of(core, single)
        single_start = initial_focals(core, single, fixed, options)
        own = search_focals(evaluate, single_start, fixed, graph.keypoints, single.values[:, 0], options)
        if own.best is not None and own.best.cost < options.accepted_cost_ratio * best.cost:
            warnings.append(OWN_CAMERAS)
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
    side = long_sides(graph.keypoints, intrinsics)
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
    side = long_sides(graph.keypoints, intrinsics)
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
