"""Intrinsics with more freedom than usual cameras have: principal points of crops, two focal lengths where squeezed.

Freedom always lowers the cost a little. So it has to lower it by much, first in a few steps of bundle adjustment, then
in a model that is mapped anew under what these have found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..arrays import Array, Mask
from ..bundle.adjust import adjust_bundle
from ..bundle.intrinsics import FIXED_SIGMA, Intrinsics
from ..bundle.problem import Bundle, BundleOptions, errors_px
from ..cameras import FX, FY, K1, K2, fisheyes
from .global_mapper import CoarseModel
from .intrinsics_search_options import IntrinsicsSearchOptions


def with_free_principal_points(
    evaluate: Callable[[Intrinsics, int], CoarseModel | None],
    best: CoarseModel,
    intrinsics: Intrinsics,
    keypoint_error_px: float,
    options: IntrinsicsSearchOptions,
) -> tuple[CoarseModel, Intrinsics] | None:
    """A model with free principal points, and its intrinsics, if it is clearly better than `best`."""
    if np.count_nonzero(best.posed) < options.min_crop_photos:
        return None
    free, ratio = adjust_freed(best, intrinsics.with_crops(), keypoint_error_px)
    if ratio > options.freed_cost_ratio and best.cost < options.clear_cost:
        return None  # with a higher cost the test says nothing: `best` has lost the observations that would show it
    found: list[tuple[CoarseModel, Intrinsics]] = []
    rows = free.intrinsics
    for number in range(options.crop_rounds):
        new = evaluate(intrinsics.with_crops().with_focals(rows[:, 0]).with_principal(rows), number)
        if new is None:
            break
        rows = np.where(seen_cameras(new)[:, None], new.bundle.intrinsics, rows)
        found.append((new, intrinsics.with_crops().with_focals(rows[:, 0]).with_principal(rows)))
        if new.cost >= best.cost:  # of crops already the first one is better, if not yet by much
            break
    chosen = min(found, key=lambda one: one[0].cost, default=None)
    return chosen if chosen is not None and chosen[0].cost < options.accepted_cost_ratio * best.cost else None


def adjust_freed(model: CoarseModel, intrinsics: Intrinsics, keypoint_error_px: float) -> tuple[Bundle, float]:
    """A few steps of bundle adjustment under intrinsics with more freedom, and the ratio of the costs after and before.

    Costs are those of the observations that the model has.
    """
    bundle, rows = model.bundle, intrinsics.values.copy()
    rows[intrinsics.camera_of_photo] = bundle.intrinsics[bundle.camera_of_photo]
    freed = replace(bundle, models=intrinsics.models, intrinsics=rows, camera_of_photo=intrinsics.camera_of_photo)
    options = BundleOptions(
        principal=intrinsics.crops, distortion=True, loss_px=keypoint_error_px, max_iterations=5, tolerance=1e-3
    )
    freed, _ = adjust_bundle(freed, options, intrinsics.prior)
    before, after = ((errors_px(each) / keypoint_error_px) ** 2 for each in (bundle, freed))
    return freed, float((after / (1.0 + after)).mean() / max(float((before / (1.0 + before)).mean()), 1e-12))


def with_two_focals(
    evaluate: Callable[[Intrinsics, int], CoarseModel | None],
    best: CoarseModel,
    intrinsics: Intrinsics,
    cameras: Mask,
    keypoint_error_px: float,
    options: IntrinsicsSearchOptions,
) -> tuple[CoarseModel, Intrinsics] | None:
    """A model in which these cameras (cameras,) have a focal length across and one down, and its intrinsics, if it is
    clearly better than `best`."""
    photos = np.bincount(best.bundle.camera_of_photo[best.posed], minlength=len(cameras))
    cameras = cameras & (photos >= options.min_squeezed_photos) & ~fisheyes(intrinsics.models)
    if not cameras.any():
        return None
    start = intrinsics.with_focals(np.where(seen_cameras(best), best.focals, intrinsics.values[:, FX]))
    start = start.with_two_focals(cameras)
    rows = adjust_freed(best, start, keypoint_error_px)[0].intrinsics
    movable, found = cameras & seen_cameras(best), list[tuple[CoarseModel, Intrinsics]]()
    for number in range(options.squeeze_rounds):
        squeeze = np.where(movable, rows[:, FY] / rows[:, FX], 1.0)
        if number == 0 and np.abs(np.log(squeeze)).max() < options.min_squeeze:
            return None
        candidate = start.with_focals(rows[:, FX]).with_squeeze(squeeze)
        model = evaluate(candidate, number)
        if model is None:
            break
        rows = np.where(seen_cameras(model)[:, None], model.bundle.intrinsics, rows)
        now = np.where(movable, rows[:, FY] / rows[:, FX], 1.0)
        found.append((model, start.with_focals(rows[:, FX]).with_squeeze(now)))
        if np.abs(np.log(now / squeeze)).max() < options.min_squeeze:
            break
    chosen = min(found, key=lambda one: one[0].cost, default=None)
    return chosen if chosen is not None and chosen[0].cost < options.accepted_cost_ratio * best.cost else None


def with_fisheyes(
    evaluate: Callable[[Intrinsics, int], CoarseModel | None],
    best: CoarseModel,
    intrinsics: Intrinsics,
    known: Mask,
    sides_px: Array,
    options: IntrinsicsSearchOptions,
) -> tuple[CoarseModel, Intrinsics] | None:
    """A model in which all cameras that are not given are fisheyes, and its intrinsics, where `best` has a distortion
    that lenses are built to avoid, and this one fits clearly better.

    Focal lengths that are `known` (cameras,) stay, others are looked for in photos whose longer sides are `sides_px`.
    """
    given = np.any(intrinsics.prior.sigma <= FIXED_SIGMA, axis=1)  # a focal length may be given with a deviation
    if given.all() or _barrel(best, sides_px) < options.min_barrel:
        return None
    start, found = intrinsics.with_fisheyes(~given), list[CoarseModel]()
    for number, ratio in enumerate(options.fisheye_focal_ratios):
        model = evaluate(start.with_focals(np.where(known, start.values[:, FX], ratio * sides_px)), number)
        if model is not None and np.abs(np.log(_squeeze(model))).max() < options.max_fisheye_squeeze:
            found.append(model)
    chosen = min(found, key=lambda model: model.cost, default=None)
    if chosen is None or chosen.cost > options.accepted_cost_ratio * best.cost:
        return None
    return chosen, start.with_focals(np.where(seen_cameras(chosen), chosen.focals, start.values[:, FX]))


def _barrel(model: CoarseModel, sides_px: Array) -> float:
    """Median over the cameras of how far distortion moves what lies half a longer side from the middle towards it,
    relative to that distance."""
    seen = seen_cameras(model)
    rows = model.bundle.intrinsics[seen]
    squared = (0.5 * sides_px[seen] / rows[:, FX]) ** 2
    return float(np.median(-squared * (rows[:, K1] + squared * rows[:, K2])))


def _squeeze(model: CoarseModel) -> Array:
    """(cameras in the model,) focal length down over that across."""
    rows = model.bundle.intrinsics[seen_cameras(model)]
    ratio: Array = rows[:, FY] / rows[:, FX]
    return ratio


def seen_cameras(model: CoarseModel) -> Mask:
    """(cameras,) which have a registered photo."""
    out = np.zeros(len(model.bundle.models), bool)
    out[model.bundle.camera_of_photo[model.posed]] = True
    return out
