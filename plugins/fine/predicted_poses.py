"""Photos that no match holds, at the poses that a network has predicted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from unposed.optim.bundle.problem import Bundle
from unposed.optim.mapping.carried_poses import carried_poses
from unposed.optim.mapping.refinement import RefineOptions
from unposed.optim.option_ranges import Count
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import InitialModel, Photos, RefinementReport, SparseModel
from unposed.pipeline.config import Within

from ..shared.models import sparse_model
from .report import named


@dataclass(frozen=True)
class PredictedPoseOptions:
    """Which photos without points stay where a network has seen them."""

    enabled: bool = True
    """Without, they are left out of the model. Only matters to mappers whose poses a network predicts."""
    neighbours: Annotated[int, Within("[2, inf)")] = 8
    """Refined photos, the nearest, that such a photo goes with when refinement moves the model."""
    max_matches: Count = RefineOptions.min_observations
    """A photo with so many verified matches with photos of the model, and yet no points, is inconsistent with its
    predicted pose, and is left out."""


def with_predicted_poses(
    model: SparseModel,
    report: RefinementReport,
    initial: InitialModel,
    bundle: Bundle,
    graph: ViewGraph,
    photos: Photos,
    options: PredictedPoseOptions,
) -> tuple[SparseModel, RefinementReport, tuple[str, ...]]:
    """The model of a bundle with the photos that refinement has lost for want of matches, its report, and a warning.

    These photos have no points, no standard deviation and no probability: nothing that was measured holds them.
    """
    nothing = model, report, ()
    if not options.enabled or not len(model.photos) or bundle.rigs is not None:
        return nothing
    before = np.full_like(bundle.cam_from_world, np.nan)
    before[initial.photos] = initial.cam_from_world
    poses = carried_poses(before, bundle.cam_from_world, options.neighbours)
    poses[_matches_with(graph, model.photos) >= options.max_matches] = np.nan
    carried = np.isfinite(poses[:, 0, 0])
    if not carried.any():
        return nothing
    poses = np.where(carried[:, None, None], poses, bundle.cam_from_world)
    whole = sparse_model(replace(bundle, cam_from_world=poses), graph.keypoints)
    rows = np.searchsorted(whole.photos, model.photos)

    def spread(values: NDArray[np.floating]) -> NDArray[np.float64]:
        out = np.full(len(whole.photos), np.nan)
        out[rows] = values
        return out

    verdict = report.verdict
    report = replace(
        report,
        sigma_deg=None if report.sigma_deg is None else spread(report.sigma_deg),
        sigma_centre=None if report.sigma_centre is None else spread(report.sigma_centre),
        verdict=verdict and replace(verdict, photo_probability=spread(verdict.photo_probability)),
        predicted=tuple(np.flatnonzero(carried).tolist()),
    )
    one = len(report.predicted) == 1
    warning = (
        f"{named(photos, report.predicted)} {'has' if one else 'have'} too few matches; the network alone says where "
        f"{'it was' if one else 'they were'} taken, and nothing confirms it"
    )
    return whole, report, (warning,)


def _matches_with(graph: ViewGraph, photos: NDArray[np.integer]) -> NDArray[np.int64]:
    """(photos,) verified matches of each photo with these."""
    inside = np.isin(graph.pairs, photos)
    count = np.zeros(graph.photo_count, np.int64)
    for end in (0, 1):
        shared = inside[:, 1 - end]
        np.add.at(count, graph.pairs[shared, end], graph.match_count[shared])
    return count
