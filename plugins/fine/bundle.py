"""Bundle adjustment of everything: all matches, all tracks, all photos that can join."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.intrinsics import hold_principal
from unposed.optim.bundle.losses import BARRON_SHAPE, LossName, loss_by_name
from unposed.optim.bundle.pose_priors import DepthPriors, PosePriors, align_to_pose_priors, no_pose_priors
from unposed.optim.bundle.problem import Bundle, BundleOptions, BundleSummary, IntrinsicsPrior
from unposed.optim.mapping.refinement import RefinementResult, RefineOptions, Solver, refine
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import (
    CameraPriors,
    Doubts,
    InitialModel,
    InitialModels,
    Photos,
    RefinementReport,
    SparseModel,
    SparseModels,
)
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, Resources

from ..shared.models import (
    bundle_of,
    intrinsics_of_priors,
    reasons_left_out,
    sparse_model,
    triangulated_subset,
    without_doubts,
)
from .positions import positions_m
from .predictions import has_few_long_tracks, predicted_depths, with_predicted_focals
from .report import poses_in_conflict, refinement_report, warning_about

Array = NDArray[np.float64]

DEPENDABLE_DENSE = 2000
"""Points that a third photo confirms, per photo, from which on those between two photos have no say. Of dense matches
most are between two photos, and what these tell is worth more than the few wrong ones cost."""

HEIGHT_SIGMA = 3.0
"""Heights by satellite are so much less exact than places, and those that are not even told so much less again."""

SUBSET_TRACKS_PER_PHOTO = 150
"""Points that give predicted depths their scale."""

WORTH_A_GPU = 100_000
"""Observations from which on an adjustment goes to the GPU, where there is one."""


@dataclass(frozen=True)
class BundleAdjustment:
    """Rounds of tracking, triangulating, adjusting and filtering; photos left out may join by resection.

    gps_sigma_m: how exact the positions in the photos' EXIF are, if they are to be heeded. The result is then in
    metres, x to the east, y to the north, z up. Given poses go before them.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 15

    max_error_px: Annotated[float, Within("(0, inf)")] = 4.0
    """Observations further from their point are dropped. In a photo of 1600 pixels; larger photos allow more."""
    loss_px: Annotated[float, Within("(0, inf)")] = 0.8
    """Scale of the loss, likewise."""
    loss: LossName = "cauchy"
    """Robust loss of the reprojection errors."""
    barron_shape: Annotated[float, Within("(-inf, 2)")] = BARRON_SHAPE
    """Shape of Barron's general loss; matters to `loss: barron` only."""
    min_angle_deg: Annotated[float, Within("[0, 90]")] = 1.5
    """Points seen under smaller angles are dropped."""
    rounds: Annotated[int, Within("[1, 20]")] = 1
    gps_sigma_m: Annotated[float | None, Within("(0, inf)")] = None
    seed: int = 0

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        coarse: InitialModels,
        resources: Resources,
        doubts: Doubts | None = None,
    ) -> SparseModels:
        graph = without_doubts(view_graph, doubts)
        options = self.options(graph)
        registered = np.zeros(len(photos), bool)
        for model in coarse.models:
            registered[model.photos] = True
        done: list[_Outcome] = []
        for model in coarse.models:
            start = _start_of(model, photos, cameras, graph, self.gps_sigma_m)
            candidates = ~registered
            reachable = candidates | np.isfinite(start.bundle.cam_from_world[:, 0, 0])
            own = graph.among(reachable)
            result = refine(
                own,
                start.bundle,
                start.prior,
                np.flatnonzero(candidates),
                options,
                unit_px=graph.unit_px,
                seed=self.seed,
                solver=self.solver(resources.device),
                anchors=start.anchors,
                depths=start.depths,
            )
            conflicting = _conflicting_poses(cameras, own, start, result.bundle, self.max_error_px)
            done.append(_outcome(model, start, result, conflicting, photos, own))
            registered[done[-1].model.photos] |= done[-1].stands
        standing = sorted((each for each in done if each.stands), key=lambda each: -len(each.model.photos))
        warnings = [*coarse.warnings, *(warning for each in done for warning in each.warnings)]
        models = tuple(each.model for each in standing)
        left_out = reasons_left_out(graph, models)
        left_out |= _why(left_out, {p for each in done for p in each.conflicting}, registered, options.min_observations)
        return SparseModels(models, left_out, tuple(dict.fromkeys(warnings)), tuple(each.report for each in standing))

    def options(self, graph: ViewGraph) -> RefineOptions:
        """How to refine with these matches."""
        options = RefineOptions(
            max_error=self.max_error_px,
            loss=loss_by_name(self.loss, self.barron_shape),
            loss_scale=self.loss_px,
            min_angle_deg=self.min_angle_deg,
            rounds=self.rounds,
        )
        return replace(options, dependable_points=DEPENDABLE_DENSE) if graph.dense else options

    def solver(self, device: str) -> Solver:
        """What adjusts."""
        return adjust_bundle if device == "cpu" else partial(_on_gpu, device)


@dataclass(frozen=True, eq=False)
class _Start:
    """What is known of a model before its refinement."""

    bundle: Bundle
    prior: IntrinsicsPrior
    anchors: PosePriors | None
    depths: DepthPriors | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Outcome:
    """What became of a model."""

    model: SparseModel
    report: RefinementReport
    conflicting: tuple[int, ...]
    """Photos whose given poses are in conflict with their matches."""
    warnings: tuple[str, ...]

    @property
    def stands(self) -> bool:
        return len(self.model.photos) >= 2


def _start_of(
    model: InitialModel, photos: Photos, cameras: CameraPriors, graph: ViewGraph, gps_sigma_m: float | None
) -> _Start:
    """In the frame of the pose priors, if there are any."""
    bundle, intrinsics = bundle_of(model, len(photos), intrinsics_of_priors(cameras, graph.unit_px))
    bundle, anchors, warnings = _anchored(bundle, cameras, pose_priors_of(cameras, photos, gps_sigma_m))
    prior, depths = intrinsics.prior, None
    if graph.dense:  # it would follow what is systematic in the matches, and take the rotations along
        prior = hold_principal(prior, np.zeros(len(intrinsics.models), np.int64))
        own = graph.among(np.isin(np.arange(len(photos)), model.photos))
        subset = triangulated_subset(
            own, intrinsics.with_values(bundle.intrinsics), bundle.cam_from_world, SUBSET_TRACKS_PER_PHOTO
        )
        if has_few_long_tracks(subset):
            depths = predicted_depths(own, subset)
            prior = with_predicted_focals(prior, intrinsics, own)
    return _Start(bundle, prior, anchors, depths, warnings)


def _anchored(
    start: Bundle, cameras: CameraPriors, anchors: PosePriors | None
) -> tuple[Bundle, PosePriors | None, tuple[str, ...]]:
    """The start in the frame of the anchors; without these, and with a note, where they tell no frame."""
    if anchors is None:
        return start, None, ()
    given = start.cam_from_world if cameras.cam_from_world is None else cameras.cam_from_world
    there = align_to_pose_priors(start, anchors, np.asarray(given, np.float64))
    if there is not None:
        return there, anchors, ()
    told = "poses" if cameras.cam_from_world is not None else "positions"
    note = f"a component has too few known {told}, or ones that contradict each other, and stays in a frame of its own"
    return start, None, (note,)


def _conflicting_poses(
    cameras: CameraPriors, graph: ViewGraph, start: _Start, bundle: Bundle, max_error: float
) -> NDArray[np.int64]:
    """Photos whose given poses are in conflict with their matches, if the model is in the frame of given poses."""
    if start.anchors is None or cameras.cam_from_world is None:
        return np.zeros(0, np.int64)
    mine = np.isfinite(start.bundle.cam_from_world[:, 0, 0])[:, None, None]
    given = np.where(mine, np.asarray(cameras.cam_from_world, np.float64), np.nan)
    return poses_in_conflict(graph, bundle, given, max_error * graph.unit_px)


def _outcome(
    initial: InitialModel,
    start: _Start,
    result: RefinementResult,
    conflicting: NDArray[np.int64],
    photos: Photos,
    graph: ViewGraph,
) -> _Outcome:
    model = sparse_model(result.bundle, graph.keypoints)
    warnings = [*start.warnings, *([warning_about(photos, conflicting)] if len(conflicting) else [])]
    if len(model.photos) < 2:
        warnings.append(
            f"{len(initial.photos)} photos match each other and give no points: the camera hardly moved between "
            "them, or it is not as it was said to be"
        )
    report = refinement_report(result, graph, model)
    return _Outcome(model, report, tuple(conflicting.tolist()), tuple(warnings))


def _why(
    left_out: Mapping[int, str], conflicting: set[int], registered: NDArray[np.bool_], least: int
) -> dict[int, str]:
    """Reasons of this stage for photos that are left out."""
    few = {
        photo: f"fewer than {least} of its key points went with the others" for photo in left_out if registered[photo]
    }
    return few | {photo: "its given pose contradicts what it shows" for photo in left_out if photo in conflicting}


def pose_priors_of(cameras: CameraPriors, photos: Photos, gps_sigma_m: float | None) -> PosePriors | None:
    """Given poses as fixed ones, or else positions by satellite as a soft hold."""
    nothing = no_pose_priors(len(photos))
    if cameras.cam_from_world is not None:
        return replace(nothing, fixed=np.asarray(np.isfinite(cameras.cam_from_world).all(axis=(1, 2))))
    if gps_sigma_m is None:
        return None
    positions, height_known = positions_m(photos)
    sigma = np.where(np.isfinite(positions), gps_sigma_m * np.array([1.0, 1.0, HEIGHT_SIGMA]), np.inf)
    sigma[~height_known, 2] *= HEIGHT_SIGMA
    return replace(nothing, centre=positions, centre_sigma=sigma)


def _on_gpu(
    device: str,
    bundle: Bundle,
    options: BundleOptions,
    prior: IntrinsicsPrior | None,
    sigma: Array | None,
    pose_priors: PosePriors | None,
    depth_priors: DepthPriors | None,
) -> tuple[Bundle, BundleSummary]:
    if len(bundle.xy) < WORTH_A_GPU:
        return adjust_bundle(bundle, options, prior, sigma, pose_priors, depth_priors)
    from unposed.optim.bundle.adjust_torch import adjust_by_torch  # torch takes a second to import

    return adjust_by_torch(device, bundle, options, prior, sigma, pose_priors, depth_priors)
