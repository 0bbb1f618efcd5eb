"""Search over focal lengths: candidates are mapped, each again from what it finds, until several give one model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from ..arrays import Array, Mask
from ..bundle.intrinsics import Intrinsics
from ..cameras import FX
from ..view_graph import Keypoints
from .drafts import rotation_difference_deg
from .freed_intrinsics import seen_cameras
from .global_mapper import CoarseModel
from .intrinsics_search_options import IntrinsicsSearchOptions

Enough = Callable[[list[CoarseModel]], bool]
"""Whether the models of one candidate, mapped again and again, say enough about it."""


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


def search_focals(
    evaluate: Callable[[Intrinsics, int, Enough], CoarseModel | None],
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
        return FocalSearch(evaluate(start, 0, never_enough), True)
    side = long_sides(keypoints, start)
    near = options.near_ratio
    models: list[CoarseModel] = []
    best: CoarseModel | None = None
    arrivals = 0
    told = told_cameras(start, known)

    def priced(model: CoarseModel) -> CoarseModel:
        return replace(model, cost=model.cost + _prior_cost(model, start, told))

    def enough(found: list[CoarseModel]) -> bool:
        """Whether a candidate has arrived at the best solution, or is too far above it to fall below."""
        if best is None:
            return False
        new = priced(found[-1])
        arrived = new.cost >= options.better_cost_ratio * best.cost and _same_solution(best, new, known, options)
        return arrived or _least_cost_ahead(found, options) > best.cost

    alone = np.where(told, start.prior.mean[:, FX], focal)
    bases = (*((alone,) if told.any() else ()), focal, focal / near, focal * near)
    for number, base in enumerate((*bases, *(side * r for r in options.focal_ratios))):
        new = evaluate(start.with_focals(np.where(known, focal, base)), number, enough)
        if new is None:
            continue
        new = priced(new)
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


def told_cameras(intrinsics: Intrinsics, known: Mask) -> Mask:
    """(cameras,) whose focal lengths are not known, but which single photos have told."""
    return ~known & np.isfinite(intrinsics.prior.sigma[:, FX])


def prior_z(model: CoarseModel, intrinsics: Intrinsics) -> Array:
    """(cameras,) distance of focal lengths from their prior, in standard deviations of their logarithms; zero for
    cameras that are not in the model."""
    mean, sigma = intrinsics.prior.mean[:, FX], intrinsics.prior.sigma[:, FX]
    return np.where(seen_cameras(model), np.log(model.focals / mean) / (sigma / mean), 0.0)


def _prior_cost(model: CoarseModel, intrinsics: Intrinsics, told: Mask) -> float:
    """What the focal lengths of cameras that are `told` (cameras,) by single photos add to the mean cost of an
    observation: log(1 + z^2 / 2) each, z in standard deviations. It decides where photos are few, and never alone: of
    what single photos say a few in a hundred is quite wrong."""
    z = prior_z(model, intrinsics)[told]
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


def never_enough(found: list[CoarseModel]) -> bool:
    return False


def evaluate_repeatedly(
    evaluate: Callable[[Intrinsics], CoarseModel | None],
    candidate: Intrinsics,
    options: IntrinsicsSearchOptions,
    enough: Enough = never_enough,
) -> CoarseModel | None:
    """Evaluate a candidate again from the focal lengths of its own model, while these change and the cost falls, and
    its models do not say `enough`."""
    found: list[CoarseModel] = []
    for _ in range(options.max_repetitions):
        new = evaluate(candidate)
        if new is None:
            break
        found.append(new)
        if len(found) > 1 and new.cost > options.repetition_max_cost_ratio * found[-2].cost:
            return _best(found[-2:])
        change = np.abs(np.log(new.focals / candidate.values[:, 0]))[seen_cameras(new)].max(initial=0.0)
        if change < options.repetition_min_change or enough(found):
            break
        candidate = candidate.with_focals(np.where(seen_cameras(new), new.focals, candidate.values[:, 0]))
    return found[-1] if found else None


def _least_cost_ahead(found: list[CoarseModel], options: IntrinsicsSearchOptions) -> float:
    """What the cost of a candidate comes to if it falls at the `hopeful_rate` from now on; 0 where there was no
    repetition to tell how fast."""
    if len(found) < 2:
        return 0.0
    last, ratio = found[-1].cost, found[-1].cost / max(found[-2].cost, 1e-12)
    return float(last * ratio ** (options.hopeful_rate * (options.max_repetitions - len(found))))


def _best(models: Iterable[CoarseModel | None]) -> CoarseModel | None:
    found = [model for model in models if model is not None]
    return min(found, key=lambda model: model.cost) if found else None


def long_sides(keypoints: Keypoints, intrinsics: Intrinsics) -> Array:
    """(cameras,) pixels; 1 for cameras without photos."""
    side = np.ones(len(intrinsics.models))
    np.maximum.at(side, intrinsics.camera_of_photo, keypoints.size.max(axis=1))
    return side
