"""Which intrinsics to believe: whole drafts are made from several beliefs, and their cost decides.

Long lenses, turntables and single walls hardly show their focal length in pairs of photos. What shows it is whether
everything fits together, which a draft tells in a fraction of a second. The same test decides whether photos of equal
size really came from one camera.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..bundle.adjust import adjust_bundle
from ..bundle.intrinsics import FIXED_SIGMA, Intrinsics
from ..bundle.problem import Bundle, BundleOptions, errors_px
from ..cameras import FX
from ..view_graph import Keypoints, ViewGraph
from .global_mapper import FALSE_PAIR_DEG, CoarseModel, map_component
from .tracks import establish_tracks, spread_subset
from .view_graph_calibration import calibrate_focals, shared_focal

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Bools = NDArray[np.bool_]

GRID = (0.5, 0.75, 1.1, 1.6, 2.4, 3.6)
"""Focal lengths by the long side of the photo, from 90 to 16 degrees of view; a draft finds its way to a
neighbour's distance."""

CLEAR_COST = 0.3
"""Below it two arrivals at the same focal length settle the matter, above it takes three."""

POOR_COST = 0.45
"""Photos that belong together end well below, with long lenses, blur and all."""

TRACKS_PER_PHOTO = 80

SAME_COST = 1.01
"""Costs within this ratio are no evidence."""

LOOSER, APART = 0.9, 0.85
"""What remains of the cost when photos of one camera get a camera each: over 0.97 where they did share one, about a
half where they did not. First only the adjustment is given the freedom, then whole drafts are. Likewise for principal
points that are set free: over 0.93 for photos as the camera made them, about a half for crops."""

CROP_ROUNDS = 2
"""Drafts from better and better principal points."""

CORE_PHOTOS = 16
"""Beliefs are tested on at most so many well-connected photos; the winner then serves the whole collection."""


@dataclass(frozen=True)
class IntrinsicsChoice:
    """What the search found."""

    intrinsics: Intrinsics
    cost: float
    warnings: tuple[str, ...]


def select_intrinsics(
    graph: ViewGraph,
    intrinsics: Intrinsics,
    known: Bools,
    *,
    assumed_groups: bool,
    unit_px: float,
    seed: int = 0,
) -> IntrinsicsChoice:
    """The belief under which a core of the collection fits together best.

    The core lies around the strongest pair; photos that no chain of pairs leads to have no say. `known`
    (cameras,) marks focal lengths that are not to be searched; `assumed_groups` allows to give photos that were
    grouped by size alone a camera each.
    """
    core = core_matches(graph, CORE_PHOTOS)

    def attempt(belief: Intrinsics) -> CoarseModel | None:
        return _settled(lambda b: map_component(core, tracks, b, unit_px=unit_px, seed=seed), belief)

    tracks = spread_subset(establish_tracks(graph.keypoints, *core.matches()), graph.photo_count, TRACKS_PER_PHOTO)
    start = starting_focals(core, intrinsics, known)
    elsewhere = np.bincount(intrinsics.camera_of_photo[np.unique(core.pairs)], minlength=len(known)) == 0
    decided = known | elsewhere
    best, clear = _search(attempt, start, decided, graph.keypoints, intrinsics.values[:, 0])
    if best is not None and best.cost > CLEAR_COST and (best.edge_residual_deg > FALSE_PAIR_DEG).any():
        # Look-alikes: their matches run through the tracks of everyone and drown what the cost has to say.
        core = core.select(best.edge_residual_deg <= FALSE_PAIR_DEG)
        tracks = spread_subset(establish_tracks(graph.keypoints, *core.matches()), graph.photo_count, TRACKS_PER_PHOTO)
        found_before = start.with_focals(np.where(_seen(best), best.focals, start.values[:, 0]))
        best, clear = _search(attempt, found_before, decided, graph.keypoints, intrinsics.values[:, 0])
    if best is None:
        return IntrinsicsChoice(start, 1.0, ("no draft of the scene could be made",))
    warnings: list[str] = []
    by_exif = known & ~elsewhere & (intrinsics.prior.sigma[:, FX] > FIXED_SIGMA)
    if best.cost > CLEAR_COST and by_exif.any():
        free = intrinsics.without_focals(by_exif)
        afresh = starting_focals(core, free, known & ~by_exif)
        other, other_clear = _search(attempt, afresh, decided & ~by_exif, graph.keypoints, intrinsics.values[:, 0])
        if other is not None and other.cost < APART * best.cost:
            warnings.append("the focal lengths that EXIF tells do not fit these photos, and were not believed")
            best, clear, intrinsics, start, known = other, other_clear, free, afresh, known & ~by_exif
    if (cropped := _cropped(attempt, best, start, unit_px)) is not None:
        warnings.append("the principal points of some photos lie far from their centres, as those of crops do")
        best, intrinsics = cropped
    result = intrinsics.with_focals(np.where(_seen(best), best.focals, start.values[:, 0]))
    shared = np.bincount(intrinsics.camera_of_photo[best.posed], minlength=len(known))
    apart = result.split()
    if assumed_groups and (shared > 1).any() and _loosened(best, apart, unit_px)[1] < LOOSER:
        known_apart = known[intrinsics.camera_of_photo]
        single = calibrate_focals(core, apart.values, apart.camera_of_photo, known_apart)
        own = _best([attempt(apart), attempt(apart.with_focals(single))])
        if own is not None and own.cost < APART * best.cost:
            warnings.append("photos of equal size were not taken by one camera; each has its own")
            result = apart.with_focals(np.where(_seen(own), own.focals, apart.values[:, 0]))
            best, clear = own, True
    if not clear:
        warnings.append("the focal length could not be determined well from these photos")
    if best.cost > POOR_COST:
        warnings.append(
            "no cameras make the photos fit together well; crops, blur and things that look alike are the usual causes"
        )
    return IntrinsicsChoice(result, best.cost, tuple(warnings))


def starting_focals(graph: ViewGraph, intrinsics: Intrinsics, known: Bools) -> Intrinsics:
    """Known focal lengths, else what pairs within a camera suggest, else what all fundamental matrices allow."""
    focal = intrinsics.values[:, 0].copy()
    side = _long_sides(graph.keypoints, intrinsics)
    calibrated: Array | None = None
    for camera in np.flatnonzero(~known):
        value, _ = shared_focal(graph, intrinsics.camera_of_photo, int(camera))
        if np.isnan(value):
            if calibrated is None:
                calibrated = calibrate_focals(graph, intrinsics.values, intrinsics.camera_of_photo, known)
            value = float(calibrated[camera])
        focal[camera] = np.clip(value, 0.4 * side[camera], 5.0 * side[camera])
    return intrinsics.with_focals(focal)


def _long_sides(keypoints: Keypoints, intrinsics: Intrinsics) -> Array:
    """(cameras,) pixels; 1 for cameras without photos."""
    side = np.ones(len(intrinsics.models))
    np.maximum.at(side, intrinsics.camera_of_photo, keypoints.size.max(axis=1))
    return side


def core_matches(graph: ViewGraph, photos: int) -> ViewGraph:
    """The matches among a well-connected core: grown from the strongest pair by the photo with most matches into it."""
    everyone = np.unique(graph.pairs)
    if len(everyone) == 0:
        return graph
    count = np.minimum(graph.match_count, 500).astype(np.float64)
    inside = np.zeros(int(everyone[-1]) + 1, bool)
    inside[graph.pairs[int(np.argmax(count))]] = True
    a, b = graph.pairs.T
    for _ in range(min(photos, len(everyone)) - 2):
        gain = np.bincount(b[inside[a]], weights=count[inside[a]], minlength=len(inside))
        gain += np.bincount(a[inside[b]], weights=count[inside[b]], minlength=len(inside))
        gain[inside] = 0.0
        if not gain.any():
            break
        inside[int(np.argmax(gain))] = True
    return graph.select(inside[a] & inside[b])


def _search(
    attempt: Callable[[Intrinsics], CoarseModel | None],
    start: Intrinsics,
    known: Bools,
    keypoints: Keypoints,
    usual: Array,
) -> tuple[CoarseModel | None, bool]:
    """Drafts from starts further and further away, until the best one has been reached independently.

    Tells whether the photos decided. Where they did not, because drafts of quite different focal lengths fit equally
    well, it is the one nearest to the `usual` focal lengths.
    """
    focal = start.values[:, 0]
    if known.all():
        return attempt(start), True
    side = _long_sides(keypoints, start)
    found: list[CoarseModel] = []
    best: CoarseModel | None = None
    arrivals = 0
    for base in (focal, focal / 1.4, focal * 1.4, *(side * ratio for ratio in GRID)):
        new = attempt(start.with_focals(np.where(known, focal, base)))
        if new is None:
            continue
        found.append(new)
        if best is None or new.cost < 0.95 * best.cost:
            best, arrivals = new, 1
        elif _same_place(best, new, known):
            arrivals += 1
        if arrivals >= (2 if best.cost < CLEAR_COST else 3):
            return best, True
    best = _best(found)
    if best is None:
        return None, False
    equals = [d for d in found if d.cost < SAME_COST * best.cost]
    spread = max(_distance(best, d, known) for d in equals)
    if spread < np.log(1.2):
        return best, True
    return min(equals, key=lambda d: _unusual(d, usual, known)), False


def _cropped(
    attempt: Callable[[Intrinsics], CoarseModel | None], best: CoarseModel, belief: Intrinsics, unit_px: float
) -> tuple[CoarseModel, Intrinsics] | None:
    """A clearly better draft with principal points anywhere, and its belief, if there is one."""
    free, ratio = _loosened(best, belief.with_crops(), unit_px)
    if ratio > LOOSER and best.cost < CLEAR_COST:  # a poor fit has dropped the observations that would tell
        return None
    found: list[tuple[CoarseModel, Intrinsics]] = []
    rows = free.intrinsics
    for _ in range(CROP_ROUNDS):
        new = attempt(belief.with_crops().with_focals(rows[:, 0]).with_principal(rows))
        if new is None:
            break
        rows = np.where(_seen(new)[:, None], new.bundle.intrinsics, rows)
        found.append((new, belief.with_crops().with_focals(rows[:, 0]).with_principal(rows)))
    chosen = min(found, key=lambda one: one[0].cost, default=None)
    return chosen if chosen is not None and chosen[0].cost < APART * best.cost else None


def _loosened(found: CoarseModel, belief: Intrinsics, unit_px: float) -> tuple[Bundle, float]:
    """A draft after a short adjustment under another belief about its cameras, and what remains of the cost of its
    observations."""
    bundle, rows = found.bundle, belief.values.copy()
    rows[belief.camera_of_photo] = bundle.intrinsics[bundle.camera_of_photo]
    loose = replace(bundle, models=belief.models, intrinsics=rows, camera_of_photo=belief.camera_of_photo)
    options = BundleOptions(principal=belief.crops, distortion=True, loss_px=unit_px, max_iterations=5, tolerance=1e-3)
    loose, _ = adjust_bundle(loose, options, belief.prior)
    before, after = ((errors_px(one) / unit_px) ** 2 for one in (bundle, loose))
    return loose, float((after / (1.0 + after)).mean() / max(float((before / (1.0 + before)).mean()), 1e-12))


def _same_place(a: CoarseModel, b: CoarseModel, known: Bools) -> bool:
    """Whether two drafts found the same focal lengths, and fit about equally well."""
    return max(a.cost, b.cost) <= 1.1 * min(a.cost, b.cost) and _distance(a, b, known) < 0.03


def _distance(a: CoarseModel, b: CoarseModel, known: Bools) -> float:
    """Median logarithm of the ratio of searched focal lengths; infinite for drafts with no such camera in common."""
    both = _seen(a) & _seen(b) & ~known
    return float(np.median(np.abs(np.log(a.focals[both] / b.focals[both])))) if both.any() else float("inf")


def _unusual(found: CoarseModel, usual: Array, known: Bools) -> float:
    """Mean logarithm of the ratio of its searched focal lengths to the usual ones."""
    searched = _seen(found) & ~known
    return float(np.abs(np.log(found.focals[searched] / usual[searched])).mean()) if searched.any() else 0.0


def _settled(
    attempt: Callable[[Intrinsics], CoarseModel | None], belief: Intrinsics, rounds: int = 8
) -> CoarseModel | None:
    """Repeats a draft from the focal lengths it found itself while that helps: poses of pairs estimated under better
    focal lengths are better, and so is all that follows."""
    best = attempt(belief)
    for _ in range(rounds - 1):
        if best is None:
            break
        moved = np.abs(np.log(best.focals / belief.values[:, 0]))[_seen(best)].max(initial=0.0)
        if moved < 0.05:
            break
        belief = belief.with_focals(np.where(_seen(best), best.focals, belief.values[:, 0]))
        again = attempt(belief)
        if again is None or again.cost > 0.98 * best.cost:
            return _best([best, again])
        best = again
    return best


def _best(drafts: Iterable[CoarseModel | None]) -> CoarseModel | None:
    found = [d for d in drafts if d is not None]
    return min(found, key=lambda d: d.cost) if found else None


def _seen(found: CoarseModel) -> Bools:
    """(cameras,) whose photos took part."""
    out = np.zeros(len(found.bundle.models), bool)
    out[found.bundle.camera_of_photo[found.posed]] = True
    return out
