"""What pairs say of each other's rotations, under the cameras that make them contradict each other least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..bundle.intrinsics import FocalSource, Intrinsics
from ..cameras import FX, K1
from ..mapping.relative_poses import estimate_relative_poses
from ..mapping.view_graph_calibration import shared_focal
from ..view_graph import ViewGraph
from .hypothesis import Hypothesis, RelativeRotations
from .missing_correspondences import matched_points, score_pairs
from .search import has_inconsistent_cluster, initial_hypotheses

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

OTHER_FOCALS = (0.7, 0.5, 1.0, 1.5)
"""Parts of a photo's longer side."""

STRANGE, CLEARLY = 0.5, 0.2
"""Coincidences, as .beliefs counts them, that make one look for other cameras, and by how many fewer these
have to leave."""

DISTORTIONS = (-0.1, -0.2)
"""Radial ones, of wide lenses."""

AGREED = 0.5
"""Part of the matches whose pairs suggest about the same focal length, which is then believed."""


@dataclass(frozen=True, eq=False)
class _Seen:
    """What does not depend on the cameras."""

    graph: ViewGraph
    flat: Mask
    suspicion: Array
    likeness: Array
    real: Index
    """(photos,) key points that match anywhere."""


def least_contradicted(
    graph: ViewGraph,
    intrinsics: Intrinsics,
    sources: Sequence[FocalSource],
    *,
    flat: Mask,
    max_error_px: float,
    seed: int = 0,
) -> tuple[RelativeRotations, list[Hypothesis]]:
    """What the pairs say of rotations, and ways to believe them, none where no pair says anything. `sources` are those
    of each camera's focal length; `flat` (e,) tells the pairs that a plane explains.

    With a focal length that is far off, or through a wide lens taken for a perfect one, no chain closes. If a
    contradiction is left, distortion is tried, and other focal lengths where pairs do not agree on any: a camera under
    which none is left must be right. Where pairs agree no other focal length is tried, since there is mostly one under
    which even look-alikes fit.
    """
    real = np.add.reduceat(np.append(matched_points(graph), False).astype(np.int64), graph.keypoints.start[:-1])
    seen = _Seen(graph, flat, *score_pairs(graph), real)
    focals_px, unsure = intrinsics.values[:, FX].copy(), np.zeros(len(intrinsics.values), bool)
    for camera, source in enumerate(sources):
        if source == "guess":
            suggested_px, agreement = shared_focal(graph, intrinsics.camera_of_photo, camera)
            focals_px[camera] = suggested_px if np.isfinite(suggested_px) else focals_px[camera]
            unsure[camera] = agreement < AGREED
    relations = _relations(seen, intrinsics.with_focals(focals_px), max_error_px, seed)
    begun = initial_hypotheses(relations)
    free = np.array([source != "given" for source in sources], bool)
    if not begun or not free.any() or not (begun[0].cost > STRANGE or has_inconsistent_cluster(begun[0], relations)):
        return relations, begun
    longer_px = np.ones(len(focals_px))
    np.maximum.at(longer_px, intrinsics.camera_of_photo, graph.keypoints.size.max(axis=1))
    trials: list[tuple[Array, float | None]] = [(focals_px, k1) for k1 in DISTORTIONS]
    if unsure.any():
        others_px = [np.where(unsure, factor * longer_px, focals_px) for factor in OTHER_FOCALS]
        trials += [(other_px, k1) for other_px in others_px for k1 in (None, *DISTORTIONS[:1])]
    for trial_px, k1 in trials:
        trial = intrinsics.with_focals(trial_px)
        other = _relations(seen, trial if k1 is None else _bent(trial, free, k1), max_error_px, seed)
        other_begun = initial_hypotheses(other)
        if (
            other_begun
            and not has_inconsistent_cluster(other_begun[0], other)
            and other_begun[0].cost < begun[0].cost - CLEARLY
        ):
            return other, other_begun
    return relations, begun


def _bent(intrinsics: Intrinsics, cameras: Mask, k1: float) -> Intrinsics:
    rows = intrinsics.values.copy()
    rows[cameras, K1] = k1
    return replace(intrinsics, values=rows)


def _relations(seen: _Seen, intrinsics: Intrinsics, max_error_px: float, seed: int) -> RelativeRotations:
    relative = estimate_relative_poses(
        seen.graph,
        intrinsics.models,
        intrinsics.values,
        intrinsics.camera_of_photo,
        max_error_px=max_error_px,
        seed=seed,
    )
    pairs = seen.graph.pairs[relative.edge]
    return RelativeRotations(
        photos=seen.graph.photo_count,
        pairs=pairs,
        b_from_a=relative.b_from_a[:, :, :3],
        matches=relative.weight,
        share=relative.weight / seen.real[pairs].min(axis=1),
        flat=seen.flat[relative.edge],
        suspicion=seen.suspicion[relative.edge],
        likeness=seen.likeness[relative.edge],
    )
