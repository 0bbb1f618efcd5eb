"""Bundle adjustment of everything: all matches, all tracks, all photos that can join."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.intrinsics import hold_principal
from unposed.optim.bundle.losses import BARRON_SHAPE, LossName, loss_by_name
from unposed.optim.bundle.pose_priors import DepthPriors, PosePriors, align_to_pose_priors, no_pose_priors
from unposed.optim.bundle.problem import Bundle, BundleOptions, BundleSummary, IntrinsicsPrior
from unposed.optim.mapping.refinement import RefinementResult, RefineOptions, Solver, refine
from unposed.pipeline.artifacts import (
    CameraPriors,
    Doubts,
    Features,
    PairMatches,
    Photos,
    RefinementReport,
    SparseModel,
    SparseModels,
    TwoViewGeometry,
)
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerPair, PerPhoto, Resources

from ..arrays import belief_of, bundle_of, reasons, scene_of
from ..evidence import Evidence, evidence_of
from .positions import positions_m
from .predictions import few_tracks, predicted_depths, with_predicted_focals
from .report import poses_in_conflict, refinement_report, warning_about

Array = NDArray[np.float64]

DEPENDABLE_DENSE = 2000
"""Points that a third photo confirms, per photo, from which on those between two photos have no say. Of dense matches
most are between two photos, and what these tell is worth more than the few wrong ones cost."""

HEIGHT_SIGMA = 3.0
"""Heights by satellite are so much less exact than places, and those that are not even told so much less again."""

WORTH_A_GPU = 100_000
"""Observations from which on an adjustment goes to the GPU, where there is one."""


@dataclass(frozen=True)
class BundleAdjustment:
    """Rounds of tracking, triangulating, adjusting and filtering; photos left out may join by resection.

    gps_sigma_m: how exact the positions in the photos' EXIF are, if they are to be heeded. The result is then in
    metres, x to the east, y to the north, z up. Given poses go before them.
    """

    grain: ClassVar[Grain] = Grain.COLLECTION
    version: ClassVar[int] = 14

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
        matching: PerPair[PairMatches],
        verification: PerPair[TwoViewGeometry],
        coarse: SparseModels,
        resources: Resources,
        features: PerPhoto[Features] | None = None,
        doubts: Doubts | None = None,
    ) -> SparseModels:
        evidence = evidence_of(photos, features, matching, verification, doubts)
        options = self.options(evidence)
        placed = np.zeros(len(photos), bool)
        for scene in coarse.models:
            placed[scene.photos] = True
        done: list[_Outcome] = []
        for scene in coarse.models:
            start = _start_of(scene, photos, cameras, evidence, matching, verification, self.gps_sigma_m)
            refined = refine(
                evidence.views,
                evidence.matches,
                start.bundle,
                start.prior,
                np.flatnonzero(~placed),
                options,
                unit_px=evidence.unit_px,
                seed=self.seed,
                solver=self.solver(resources.device),
                anchors=start.anchors,
                depths=start.depths,
            )
            off = _contradicted_poses(cameras, evidence, start, refined.bundle, self.max_error_px)
            done.append(_outcome(scene, start, refined, off, photos, evidence))
            placed[done[-1].scene.photos] |= done[-1].stands
        standing = sorted((each for each in done if each.stands), key=lambda each: -len(each.scene.photos))
        warnings = [*coarse.warnings, *(note for each in done for note in each.warnings)]
        models = tuple(each.scene for each in standing)
        left_out = reasons(photos, evidence, [photo for scene in models for photo in scene.photos.tolist()])
        left_out |= _why(left_out, {photo for each in done for photo in each.off}, placed, options.min_observations)
        return SparseModels(models, left_out, tuple(dict.fromkeys(warnings)), tuple(each.account for each in standing))

    def options(self, evidence: Evidence) -> RefineOptions:
        """How to refine what there is to go by."""
        options = RefineOptions(
            max_error=self.max_error_px,
            loss=loss_by_name(self.loss, self.barron_shape),
            loss_scale=self.loss_px,
            min_angle_deg=self.min_angle_deg,
            rounds=self.rounds,
        )
        return replace(options, dependable_points=DEPENDABLE_DENSE) if evidence.dense else options

    def solver(self, device: str) -> Solver:
        """What adjusts."""
        return adjust_bundle if device == "cpu" else partial(_on_gpu, device)


@dataclass(frozen=True, eq=False)
class _Start:
    """What is known of a component before its refinement."""

    bundle: Bundle
    prior: IntrinsicsPrior
    anchors: PosePriors | None
    depths: DepthPriors | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Outcome:
    """What became of a component."""

    scene: SparseModel
    account: RefinementReport
    off: tuple[int, ...]
    """Photos whose given poses contradict what they show."""
    warnings: tuple[str, ...]

    @property
    def stands(self) -> bool:
        return len(self.scene.photos) >= 2


def _start_of(
    scene: SparseModel,
    photos: Photos,
    cameras: CameraPriors,
    evidence: Evidence,
    matching: PerPair[PairMatches],
    verification: PerPair[TwoViewGeometry],
    gps_sigma_m: float | None,
) -> _Start:
    """In the frame of the anchors, if there are any."""
    bundle, belief = bundle_of(scene, evidence.views, belief_of(cameras, evidence.unit_px))
    bundle, anchors, warnings = _anchored(bundle, cameras, anchors_of(cameras, photos, gps_sigma_m))
    prior, depths = belief.prior, None
    if evidence.dense:  # it would follow what is systematic in the matches, and take the rotations along
        prior = hold_principal(prior, np.zeros(len(belief.models), np.int64))
    if evidence.dense and few_tracks(scene):
        depths = predicted_depths(evidence, matching, verification, scene, bundle)
        pairs = evidence.matches.pairs
        inside = np.asarray(np.isin(pairs, scene.photos).all(axis=1))
        prior = with_predicted_focals(prior, belief, matching, pairs[inside])
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


def _contradicted_poses(
    cameras: CameraPriors, evidence: Evidence, start: _Start, found: Bundle, max_error_px: float
) -> NDArray[np.int64]:
    """Photos of a component whose given poses contradict what they show, if it stands in the frame of given poses."""
    if start.anchors is None or cameras.cam_from_world is None:
        return np.zeros(0, np.int64)
    mine = np.isfinite(start.bundle.cam_from_world[:, 0, 0])[:, None, None]
    given = np.where(mine, np.asarray(cameras.cam_from_world, np.float64), np.nan)
    return poses_in_conflict(evidence.views, evidence.matches, found, given, max_error_px * evidence.unit_px)


def _outcome(
    scene: SparseModel,
    start: _Start,
    refined: RefinementResult,
    off: NDArray[np.int64],
    photos: Photos,
    evidence: Evidence,
) -> _Outcome:
    result = scene_of(refined.bundle, evidence.views, evidence.rgb_of)
    warnings = [*start.warnings, *([warning_about(photos, off)] if len(off) else [])]
    if len(result.photos) < 2:
        warnings.append(
            f"{len(scene.photos)} photos match each other and give no points: the camera hardly moved between "
            "them, or it is not as it was said to be"
        )
    return _Outcome(result, refinement_report(refined, evidence.matches, result), tuple(off.tolist()), tuple(warnings))


def _why(left_out: Mapping[int, str], wrong: set[int], placed: NDArray[np.bool_], least: int) -> dict[int, str]:
    """What this stage knows better of photos that are left out."""
    few = {index: f"fewer than {least} of its key points went with the others" for index in left_out if placed[index]}
    return few | {index: "its given pose contradicts what it shows" for index in left_out if index in wrong}


def anchors_of(cameras: CameraPriors, photos: Photos, gps_sigma_m: float | None) -> PosePriors | None:
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
