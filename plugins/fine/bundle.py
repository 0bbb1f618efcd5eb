"""Refinement of initial models by bundle adjustment of all tracks, with registration of further photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.intrinsics import hold_principal
from unposed.optim.bundle.losses import BARRON_SHAPE, LossName, loss_by_name
from unposed.optim.bundle.problem import Bundle
from unposed.optim.mapping.absolute_pose import AbsolutePoseOptions
from unposed.optim.mapping.global_mapper import track_cost
from unposed.optim.mapping.radial_terms import RadialTermOptions, with_radial_terms
from unposed.optim.mapping.refinement import RefineOptions, Solver, prior_of_refinement, refine
from unposed.optim.mapping.rig_sensors import RigSensorOptions
from unposed.optim.mapping.tracks import establish_tracks, spread_subset
from unposed.optim.mapping.weak_parts import WeakPartOptions
from unposed.optim.option_ranges import Count, Positive
from unposed.optim.parallel import lent_threads
from unposed.optim.verdict.judge import VerdictOptions
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import (
    CameraPriors,
    Doubts,
    InitialModel,
    InitialModels,
    Photos,
    PredictedModels,
    SparseModels,
)
from unposed.pipeline.config import Within
from unposed.pipeline.stage import CollectionMemory, Grain, Resources
from unposed.pipeline.threads import hold_this_thread

from ..shared.failed_components import FailedComponents
from ..shared.models import (
    PRIOR_NOISE,
    TriangulatedSubsetOptions,
    initial_bundle,
    intrinsics_of_priors,
    reasons_left_out,
    triangulated_subset,
    without_doubts,
)
from ..shared.sensor_frames import SensorFrames, into_frames, sensor_frames, upright
from .exact_points import ExactPointOptions, with_exact_points
from .model_start import ModelStart, Refined
from .on_device import adjust_on_device
from .outcome import Outcome, outcome_of
from .pose_priors import anchored, given_pose_sigma, is_rough, pose_priors_of
from .predicted_poses import PredictedPoseOptions, with_predicted_poses
from .predictions import PredictionOptions, has_few_long_tracks, predicted_depths, with_predicted_focals
from .report import hypothesis_figures, poses_in_conflict, reasons_not_refined
from .rigs import tied_by_rigs, ties_more
from .steadied import SteadiedOptions, with_steadied_photos
from .verdict import verdict_of, warnings_of
from .weak_parts import cut_at_open_parts, with_parts_in_place


@dataclass(frozen=True)
class BundleAdjustment:
    """Rounds of retriangulation, bundle adjustment and filtering; further photos are registered by absolute pose.

    gps_sigma_m: standard deviation of the positions in EXIF, to be used as priors. The result is then in metres, x
    to the east, y to the north, z up. Given poses take precedence.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 28
    memory: ClassVar[CollectionMemory] = CollectionMemory(70 << 20, 300 << 10)

    max_error_px: Annotated[float, Within("(0, inf)")] = 4.0
    """Observations with larger reprojection errors are removed. In a photo of 1600 pixels; larger photos allow more."""
    loss_px: Annotated[float, Within("(0, inf)")] = 0.8
    """Scale of the loss, likewise."""
    loss: LossName = "cauchy"
    """Robust loss of the reprojection errors."""
    barron_shape: Annotated[float, Within("(-inf, 2)")] = BARRON_SHAPE
    """Shape of Barron's general loss; matters to `loss: barron` only."""
    min_angle_deg: Annotated[float, Within("[0, 90]")] = 1.5
    """Points seen under smaller triangulation angles are removed."""
    rounds: Annotated[int, Within("[1, 20]")] = 1
    gps_sigma_m: Annotated[float | None, Within("(0, inf)")] = None
    pose_sigma: tuple[Positive, Positive] | None = None
    """Standard deviations of given poses that have none in their file, degrees and units of the world, such as
    [2, 0.05] of a phone's own tracking. None: these poses are exact."""
    seed: int = 0
    height_sigma_ratio: Annotated[float, Within("[1, inf)")] = 3.0
    """Standard deviation of GPS heights over that of positions, and once more that of unknown heights, which are taken
    from the mean of the others."""
    subset_tracks: Annotated[int, Within("[20, inf)")] = RefineOptions.subset_tracks
    """Tracks per photo in the first bundle adjustment, which does most of the way."""
    dependable_points: Annotated[int, Within("[0, inf)")] = RefineOptions.dependable_points
    """A photo that sees so many points which two others see as well is adjusted by these alone."""
    dense_dependable_points: Annotated[int, Within("[0, inf)")] = 2000
    """Likewise, of dense matches: most of their tracks are between two photos, and are worth more than the few wrong
    ones among them cost."""
    min_observations: Annotated[int, Within("[3, inf)")] = RefineOptions.min_observations
    """Photos with fewer are not registered."""
    max_iterations: tuple[Count, Count] = RefineOptions.max_iterations
    """Steps of bundle adjustment, at most: of the subset of the tracks, and of all tracks."""
    max_track_length: Annotated[int, Within("[4, inf)")] = RefineOptions.max_track_length
    """Points that more photos see are taken for several while cameras are adjusted, on a CPU: see coarse."""
    tolerance: tuple[Positive, Positive] = RefineOptions.tolerance
    """Relative decrease of the cost in one step at which these end."""
    max_covariance_photos: Annotated[int, Within("[0, inf)")] = RefineOptions.max_covariance_photos
    """Photos up to which covariances are computed: their cost grows with the cube of the number."""
    min_pose_inlier_ratio: Annotated[float, Within("[0, 1]")] = 0.5
    """A given pose is reported as inconsistent if a smaller ratio of the matches of its photo agrees with it."""
    prior_noise: Annotated[float, Within("(0, inf)")] = PRIOR_NOISE
    """Noise that priors of intrinsics are weighed against, in expected key point errors."""
    compared_tracks: Count = 150
    """Tracks per photo on which hypotheses of a model are compared, long ones first."""
    compared_max_error: Positive = 6.0
    """Observations that decide where a point is in that comparison, in expected key point errors."""
    absolute_pose: AbsolutePoseOptions = field(default_factory=AbsolutePoseOptions)
    """Registration of further photos."""
    verdict: VerdictOptions = field(default_factory=VerdictOptions)
    """Verdict: how probable it is that the poses of a model are right."""
    rig_sensors: RigSensorOptions = field(default_factory=RigSensorOptions)
    """Sensors of rigs whose poses are unknown: when photos show that they are fixed to each other."""
    radial_terms: RadialTermOptions = field(default_factory=RadialTermOptions)
    """Which cameras get a second radial term of distortion."""
    exact_points: ExactPointOptions = field(default_factory=ExactPointOptions)
    """A last adjustment of key points that were aligned in the pixels of the photos."""
    predictions: PredictionOptions = field(default_factory=PredictionOptions)
    """Priors from the depths and focal lengths that a dense matcher, or a network for single photos, predicts."""
    predicted_poses: PredictedPoseOptions = field(default_factory=PredictedPoseOptions)
    """Photos without matches whose poses a network predicts."""
    steadied: SteadiedOptions = field(default_factory=SteadiedOptions)
    """Photos with few observations whose poses a network predicts as well."""
    weak_parts: WeakPartOptions = field(default_factory=WeakPartOptions)
    """Parts that few matches tie to the rest: moved to where these put them, or delivered by themselves."""
    scale_subset: TriangulatedSubsetOptions = field(default_factory=TriangulatedSubsetOptions)
    """Points that determine the scale of predicted depths."""
    min_gpu_observations: Annotated[int, Within("[0, inf)")] = 100_000
    """Observations from which on a GPU adjusts, if there is one: below, a CPU is done before it is told what to do."""
    thread_chunks: bool = False
    """Whether loops over chunks of arrays run on the threads that the stage is lent, too, as of `coarse.global`."""

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        coarse: InitialModels,
        resources: Resources,
        doubts: Doubts | None = None,
    ) -> SparseModels:
        frames = self._sensor_frames(photos, cameras, without_doubts(view_graph, doubts), coarse, resources)
        if frames is None:
            return self._all_refined(photos, cameras, view_graph, coarse, resources, doubts)
        turned = frames.photos(photos), frames.cameras, frames.view_graph(view_graph), into_frames(coarse, frames)
        return upright(self._all_refined(*turned, resources, doubts), frames)

    def _sensor_frames(
        self, photos: Photos, cameras: CameraPriors, graph: ViewGraph, coarse: InitialModels, resources: Resources
    ) -> SensorFrames | None:
        """The frames of the sensors of these models, where some of their cameras were turned. Where these may have been
        turned to either side, those in which the largest model of such has the lower cost: a principal point tells."""
        found = [] if graph.dense or isinstance(coarse, PredictedModels) else sensor_frames(cameras)
        joined = [model for model in coarse.models if any(f.join(model.photos) and f.fits(model) for f in found)]
        if not joined:
            return None
        if len(found) < 2:
            return found[0]
        model, none = joined[0], np.zeros(len(photos), np.bool_)
        graph = graph.in_units_of(model.photos)

        def cost(frames: SensorFrames) -> float:
            turned = frames.into(model), frames.photos(photos), frames.cameras, frames.view_graph(graph)
            refine = partial(self._refined, *turned, none, self.options(graph), resources)
            with lent_threads(resources.threads, hold_this_thread, self.thread_chunks):
                refined = FailedComponents("refining").attempt(len(model.photos), refine)
            return np.inf if refined is None else self._cost(refined.result.bundle, refined.graph)

        return min(found, key=cost)

    def _all_refined(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        coarse: InitialModels,
        resources: Resources,
        doubts: Doubts | None,
    ) -> SparseModels:
        """Refine all models."""
        graph = without_doubts(view_graph, doubts).tied_by(cameras.rigs)
        options = replace(self.options(graph), rough_start=isinstance(coarse, PredictedModels))
        registered = np.zeros(len(photos), bool)
        for model in coarse.models:
            registered[model.photos] = True
        done: list[Outcome] = []
        failed = FailedComponents("refining")
        for model, others in zip(coarse.models, coarse.hypotheses or ((),) * len(coarse.models), strict=True):
            refined = partial(
                self._best,
                (model, *others),
                photos,
                cameras,
                view_graph.in_units_of(model.photos),
                graph.in_units_of(model.photos),
                ~registered,
                options,
                resources,
                doubts,
            )
            with lent_threads(resources.threads, hold_this_thread, self.thread_chunks):
                outcomes = failed.attempt(len(model.photos), refined)
            if outcomes is None:
                registered[model.photos] = False
                continue
            done += outcomes
            for outcome in outcomes:
                registered[outcome.model.photos] |= outcome.registered
        failed.raise_if_nothing(len(done))
        kept = sorted((each for each in done if each.registered), key=lambda each: -len(each.model.photos))
        warnings = [*(warning for each in done for warning in each.warnings), *coarse.warnings, *failed.warnings]
        models, reports = tuple(each.model for each in kept), tuple(each.report for each in kept)
        left_out, inconsistent = reasons_left_out(graph, models), {p for each in done for p in each.inconsistent}
        left_out |= reasons_not_refined(left_out, inconsistent, registered, options.min_observations)
        return SparseModels(models, left_out, tuple(dict.fromkeys(warnings)), reports=reports)

    def _best(
        self,
        models: Sequence[InitialModel],
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        graph: ViewGraph,
        candidates: NDArray[np.bool_],
        options: RefineOptions,
        resources: Resources,
        doubts: Doubts | None,
    ) -> list[Outcome]:
        """Refine all hypotheses about a component, and judge the one of least cost; `graph` is without doubts. Parts
        of open scale follow as models of their own."""
        refined = [self._refined(each, photos, cameras, graph, candidates, options, resources) for each in models]
        posed = [np.isfinite(each.start.bundle.cam_from_world[:, 0, 0]) for each in refined]
        every = graph.among(candidates | np.any(posed, axis=0))
        costs = [self._cost(each.result.bundle, every) for each in refined] if len(models) > 1 else [0.0]
        chosen = int(np.argmin(costs))
        best = self._finished(refined[chosen], photos, options, resources)
        (best, *parts), cuts = cut_at_open_parts(best, photos, options, self.weak_parts)
        inconsistent = self._inconsistent_poses(cameras, best.graph, best.start, best.result.bundle).tolist()
        outcome = outcome_of(models[0], best.start, best.result, inconsistent, photos, best.graph)
        if len(models) > 1:
            hypotheses = hypothesis_figures([each.result.bundle for each in refined], costs)
            outcome = replace(outcome, report=replace(outcome.report, hypotheses=hypotheses))
        judged = partial(self._judged, view_graph=view_graph, doubts=doubts, initial=models[chosen], photos=photos)
        outcome = judged(replace(outcome, warnings=(*outcome.warnings, *cuts)), bundle=best.result.bundle)
        apart = [
            judged(outcome_of(models[0], each.start, each.result, (), photos, each.graph), bundle=each.result.bundle)
            for each in parts
        ]
        if not options.rough_start:
            return [outcome, *apart]
        model, report, warnings = with_predicted_poses(
            outcome.model, outcome.report, models[chosen], best.result.bundle, best.graph, photos, self.predicted_poses
        )
        return [replace(outcome, model=model, report=report, warnings=(*outcome.warnings, *warnings)), *apart]

    def _refined(
        self,
        model: InitialModel,
        photos: Photos,
        cameras: CameraPriors,
        graph: ViewGraph,
        candidates: NDArray[np.bool_],
        options: RefineOptions,
        resources: Resources,
    ) -> Refined:
        """Refine one model, and register what it can of the candidates (photos,)."""
        start = self._start_of(model, photos, cameras, graph, candidates)
        own = graph.among(candidates | np.isfinite(start.bundle.cam_from_world[:, 0, 0]))
        start = with_parts_in_place(start, own, self.solver(resources.device), options, self.weak_parts, self.seed)
        refined = partial(
            refine,
            own,
            prior=start.prior,
            candidates=np.flatnonzero(candidates),
            options=options,
            keypoint_error_px=graph.keypoint_error_px,
            seed=self.seed,
            solver=self.solver(resources.device),
            anchors=start.anchors,
            depths=start.depths,
        )
        result = refined(start.bundle)
        tied = tied_by_rigs(result.bundle, result.bundle.rigs, candidates, self.rig_sensors)
        if ties_more(tied, start.bundle):  # refined poses show rigs that those of the coarse stage did not
            result = refined(tied)
        found = Refined(start, own, result)
        if not options.rough_start:
            return found
        return with_steadied_photos(found, model, self.solver(resources.device), options, self.steadied)

    def _finished(self, model: Refined, photos: Photos, options: RefineOptions, resources: Resources) -> Refined:
        """The model with the distortion that its photos ask for and adjusted to exact points, unless predicted depths,
        which have no part in that, have shaped it."""
        start = model.start
        if start.depths is not None:
            return model
        prior, solver = prior_of_refinement(start.bundle, start.prior), self.solver(resources.device)
        result = with_radial_terms(model.graph, model.result, prior, start.anchors, solver, options, self.radial_terms)
        result, graph = with_exact_points(
            photos, model.graph, result, prior, start.anchors, solver, options, self.exact_points, resources.ram_bytes
        )
        return replace(model, graph=graph, result=result)

    def _judged(
        self,
        outcome: Outcome,
        view_graph: ViewGraph,
        doubts: Doubts | None,
        initial: InitialModel,
        bundle: Bundle,
        photos: Photos,
    ) -> Outcome:
        """The outcome with the verdict about its model; dense matches, on which it was not calibrated, get none."""
        if not self.verdict.enabled or view_graph.dense or not outcome.registered:
            return outcome
        verdict = verdict_of(view_graph, doubts, initial, bundle, outcome.model, outcome.report, self.verdict)
        warnings = (*warnings_of(photos, outcome.model, verdict, self.verdict), *outcome.warnings)
        return replace(outcome, report=replace(outcome.report, verdict=verdict), warnings=warnings)

    def _cost(self, bundle: Bundle, graph: ViewGraph) -> float:
        """Robust cost of a model on tracks of all matches, which no hypothesis can make small by leaving some out."""
        tracks = establish_tracks(graph.keypoints, *graph.matches())
        subset = spread_subset(tracks, graph.photo_count, self.compared_tracks)
        return track_cost(graph.keypoints, subset, bundle, graph.keypoint_error_px, self.compared_max_error)

    def options(self, graph: ViewGraph) -> RefineOptions:
        """Options of refinement of this view graph."""
        return RefineOptions(
            max_error=self.max_error_px,
            loss=loss_by_name(self.loss, self.barron_shape),
            loss_scale=self.loss_px,
            min_angle_deg=self.min_angle_deg,
            rounds=self.rounds,
            subset_tracks=self.subset_tracks,
            dependable_points=self.dense_dependable_points if graph.dense else self.dependable_points,
            min_observations=self.min_observations,
            max_iterations=self.max_iterations,
            max_track_length=self.max_track_length,
            tolerance=self.tolerance,
            max_covariance_photos=self.max_covariance_photos,
            absolute_pose=self.absolute_pose,
        )

    def solver(self, device: str) -> Solver:
        """The bundle adjustment that runs on a device."""
        return adjust_bundle if device == "cpu" else partial(adjust_on_device, device, self.min_gpu_observations)

    def _start_of(
        self,
        model: InitialModel,
        photos: Photos,
        cameras: CameraPriors,
        graph: ViewGraph,
        candidates: NDArray[np.bool_],
    ) -> ModelStart:
        """The initial model with its priors, in the frame of the pose priors if there are any."""
        intrinsics = intrinsics_of_priors(cameras, graph.keypoint_error_px, self.prior_noise)
        bundle, intrinsics = initial_bundle(model, len(photos), intrinsics)
        bundle = tied_by_rigs(bundle, graph.rigs, candidates, self.rig_sensors)
        anchors = pose_priors_of(cameras, photos, self.gps_sigma_m, self.height_sigma_ratio, self.pose_sigma)
        bundle, anchors, warnings = anchored(bundle, cameras, anchors)
        prior, depths = intrinsics.prior, None
        if graph.dense:  # a free principal point would absorb systematic errors of dense matches, and bias rotations
            prior = hold_principal(prior, np.zeros(len(intrinsics.models), np.int64))
        if graph.depth_a is not None:
            own = graph.among(np.isin(np.arange(len(photos)), model.photos))
            subset = triangulated_subset(
                own, intrinsics.with_values(bundle.intrinsics), bundle.cam_from_world, self.scale_subset
            )
            if has_few_long_tracks(subset, self.predictions):
                depths = predicted_depths(own, subset, self.predictions)
                prior = with_predicted_focals(prior, intrinsics, own, self.predictions)
        return ModelStart(bundle, prior, anchors, depths, warnings)

    def _inconsistent_poses(
        self, cameras: CameraPriors, graph: ViewGraph, start: ModelStart, bundle: Bundle
    ) -> NDArray[np.int64]:
        """Photos whose given poses are inconsistent with their matches, if the model is in the frame of given poses."""
        if start.anchors is None or cameras.cam_from_world is None:
            return np.zeros(0, np.int64)
        mine = np.isfinite(start.bundle.cam_from_world[:, 0, 0])[:, None, None]
        exact = ~is_rough(given_pose_sigma(cameras, self.pose_sigma))[:, None, None]
        given = np.where(mine & exact, np.asarray(cameras.cam_from_world, np.float64), np.nan)
        max_error_px = self.max_error_px * graph.keypoint_error_px
        return poses_in_conflict(graph, bundle, given, max_error_px, self.min_pose_inlier_ratio)
