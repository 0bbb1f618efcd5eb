"""What point maps say where there are few tracks: depths of key points, and focal lengths.

Two photos, or photos that only ever meet two by two, hardly tell their focal lengths, and with these wrong the poses
bend.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from unposed.optim.bundle.intrinsics import Intrinsics
from unposed.optim.bundle.pose_priors import DepthPriors
from unposed.optim.bundle.problem import Bundle, IntrinsicsPrior
from unposed.optim.cameras import CAMERA_MODELS, FX, FY
from unposed.optim.pointmaps.pair_maps import FOCAL_SIGMA, plausible
from unposed.pipeline.artifacts import PairMatches, SparseModel, TwoViewGeometry
from unposed.pipeline.stage import PerPair

from ..evidence import Evidence

Array = NDArray[np.float64]
Index = NDArray[np.int64]

INDEPENDENT = 3
"""Errors of a depth map are smooth: however many of its points are asked, they say no more than so many would."""

LEAST_SIGMA, MOST_SIGMA = 0.01, 0.3
"""Relative errors of depths that are taken for true, whatever the scatter."""

FOCAL_LEAST = 0.02
"""Relative error of predicted focal lengths, at least: those of one photo have much in common."""

CONFIRMED = 40
"""Points per photo that a third one sees, from which on a scene is in no need of predictions."""

ENOUGH_ON_THEIR_OWN = 5
"""Points of a prediction that the scene must have for its scale to be found."""


def predicted_depths(
    evidence: Evidence,
    matching: PerPair[PairMatches],
    verification: PerPair[TwoViewGeometry],
    scene: SparseModel,
    start: Bundle,
) -> DepthPriors | None:
    """Of every key point of the collection, in the units of `start`, which is the scene, maybe moved into another
    frame; None where nobody predicts any.

    Each prediction is scaled by what the scene already shows of it, and all of one key point are averaged.
    """
    row, side, said = _said(evidence, matching, verification, scene)
    if not len(row):
        return None
    known = _depths_of(scene, evidence) + np.log(_growth(scene, start))
    ratio = known[row] - said
    seen = np.isfinite(ratio)
    scale = _medians(side[seen], ratio[seen], int(side.max()) + 1)
    level = said + scale[side]
    kept = np.isfinite(level)
    row, level = row[kept], level[kept]
    count = np.bincount(row, minlength=len(known))
    mean = np.bincount(row, level, minlength=len(known)) / np.where(count > 0, count, np.nan)
    off = np.abs(known - mean)
    if not np.isfinite(off).any():
        return None
    scatter = float(np.clip(1.4826 * np.nanmedian(off), LEAST_SIGMA, MOST_SIGMA))
    per_photo = np.add.reduceat(np.append(count > 0, False).astype(np.int64), evidence.views.start[:-1])
    sigma = scatter * np.sqrt(np.maximum(per_photo / INDEPENDENT, 1.0))
    return DepthPriors(np.exp(mean), np.repeat(sigma, np.diff(evidence.views.start)))


def with_predicted_focals(
    prior: IntrinsicsPrior, belief: Intrinsics, matching: PerPair[PairMatches], pairs: Index
) -> IntrinsicsPrior:
    """The prior with the focal lengths that predictions of `pairs` (e, 2) agree upon, where nothing else is known."""
    mean, sigma = np.broadcast_to(prior.mean, belief.values.shape).copy(), prior.sigma.copy()
    said: dict[int, list[float]] = {}
    for a, b in pairs.tolist():
        for photo, grid in zip((a, b), matching[a, b].grids or (), strict=False):
            if np.isfinite(grid.focal_px) and grid.focal_px > 0.0:
                said.setdefault(int(belief.camera_of_photo[photo]), []).append(float(np.log(grid.focal_px)))
    for camera, logs in said.items():
        if np.isfinite(sigma[camera, FX]):
            continue
        middle = float(np.median(logs))
        spread = 1.4826 * float(np.median(np.abs(np.array(logs) - middle)))
        free = [FX] if CAMERA_MODELS[belief.models[camera]].shared_focal else [FX, FY]
        mean[camera, free] = np.exp(middle)
        sigma[camera, free] = np.exp(middle) * np.clip(spread, FOCAL_LEAST, FOCAL_SIGMA[1])
    return replace(prior, mean=mean, sigma=sigma)


def _said(
    evidence: Evidence, matching: PerPair[PairMatches], verification: PerPair[TwoViewGeometry], scene: SparseModel
) -> tuple[Index, Index, Array]:
    """Key points, the predictions that tell of them, and the logarithms of their depths."""
    matches = evidence.matches
    rows, sides, logs = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    inside = np.isin(matches.pairs, scene.photos).all(axis=1)
    for edge in np.flatnonzero(inside).tolist():
        a, b = matches.pairs[edge].tolist()
        pair, good = matching[a, b], verification[a, b].inliers
        own = slice(matches.start[edge], matches.start[edge + 1])
        for end, (row, depth) in enumerate(((matches.row_a[own], pair.depth_a), (matches.row_b[own], pair.depth_b))):
            if depth is None:
                continue
            value = depth[good].astype(np.float64)
            known = plausible(value)
            rows.append(row[known])
            sides.append(np.full(int(known.sum()), 2 * edge + end))
            logs.append(np.log(value[known]))
    return np.concatenate(rows), np.concatenate(sides), np.concatenate(logs)


def _depths_of(scene: SparseModel, evidence: Evidence) -> Array:
    """Logarithm of the depth of every key point of the collection in the scene; not a number where it has none."""
    photo = np.searchsorted(scene.xy_start, scene.obs_xy, side="right") - 1
    row = scene.obs_xy - scene.xy_start[photo] + evidence.views.start[scene.photos[photo]]
    pose = scene.cam_from_world[photo]
    z = np.einsum("mj,mj->m", pose[:, 2, :3], scene.points[scene.obs_point]) + pose[:, 2, 3]
    out = np.full(len(evidence.views.xy), np.nan)
    out[row] = np.log(np.where(z > 0.0, z, np.nan))
    return out


def _growth(scene: SparseModel, start: Bundle) -> float:
    """How many units of the start a unit of the scene is."""
    before, after = (
        np.einsum("cji,cj->ci", poses[:, :, :3], poses[:, :, 3])
        for poses in (scene.cam_from_world, start.cam_from_world[scene.photos])
    )
    spread = [float(np.median(np.linalg.norm(each - each.mean(axis=0), axis=1))) for each in (before, after)]
    return spread[1] / spread[0] if spread[0] > 0.0 and spread[1] > 0.0 else 1.0


def few_tracks(scene: SparseModel) -> bool:
    """Whether so few points of a scene are seen by three photos that depths are worth hearing: what three photos see
    tells more than any prediction, and is bent by them."""
    long = np.bincount(scene.obs_point, minlength=len(scene.points)) >= 3
    photo = np.searchsorted(scene.xy_start, scene.obs_xy, side="right") - 1
    count = np.bincount(photo[long[scene.obs_point]], minlength=len(scene.photos))
    return bool(np.median(count) < CONFIRMED)


def _medians(group: Index, values: Array, groups: int) -> Array:
    """(groups,) not a number of those with too few."""
    order = np.lexsort((values, group))
    count = np.bincount(group, minlength=groups)
    out = np.full(groups, np.nan)
    enough = count >= ENOUGH_ON_THEIR_OWN
    out[enough] = values[order][(np.cumsum(count) - count + count // 2)[enough]]
    return out
