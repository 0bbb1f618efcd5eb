"""The fine stage of finished models and a few new photos: what is known of the old ones is not looked for again.

First the new photos are adjusted alone, with the points that they see, beside old photos and points that are held. They
stay so where the new photos say no more against that than noise would; else everything is adjusted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array
from unposed.optim.bundle.covariance import Covariance
from unposed.optim.bundle.problem import Bundle, BundleOptions, BundleSummary, errors_px
from unposed.optim.mapping.absolute_pose import register_photos
from unposed.optim.mapping.held_photos import MAX_TENSION, tension
from unposed.optim.mapping.point_refinement import refine_points
from unposed.optim.mapping.refinement import (
    RefinementResult,
    RefineOptions,
    dependable,
    prior_of_refinement,
    refined_covariance,
    retriangulated,
)
from unposed.optim.mapping.triangulation import keep_observations, without_weak_photos
from unposed.optim.option_ranges import Count, Positive, Within
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, InitialModel, InitialModels, Photos
from unposed.pipeline.stage import Resources

from ..shared.sensor_frames import SensorFrames
from .beside_held import (
    WarmInput,
    adjusted_beside_held,
    joined_beside_held,
    near_late_photos,
    old_model,
    settled,
    warm_input,
    with_aligned,
    with_other_points,
    with_refined_poses,
)
from .bundle import BundleAdjustment
from .exact_points import kept_when_aligned, sigma_of, with_aligned_new_photos, with_all_points
from .known_keypoints import known_keypoints
from .model_start import Refined


@dataclass(frozen=True)
class WarmAdjustment(BundleAdjustment):
    """Goes on from finished models with a few new photos: one adjustment of everything from where it was.

    Key points of the old photos stay where an earlier run has aligned them, those of the new photos are aligned with
    them. The cameras keep the distortion that was found for them. Dense matches, and collections of whose key points
    the file has none, are adjusted as by fine.bundle.

    The file of key points is a NumPy archive: `names` of the photos, `start` (photos + 1,), and for the observed key
    points of photo i, rows start[i]:start[i + 1], their numbers `keypoint` and where the model has them, `xy`. Where
    old photos may be held it also has the `points` (n, 3) of the models, and `point` (k,), which of them each key
    point observes.
    """

    version: ClassVar[int] = 4

    keypoints: Path = field(kw_only=True)
    """The file."""
    point_steps: Count = 3
    """Steps of points alone, under the old cameras, before that and before key points are aligned."""
    warm_iterations: Count = 8
    """Steps of the adjustment, at most."""
    warm_tolerance: Positive = 1e-3
    """Relative decrease of the cost in one step at which it ends. Of a few new photos among many, even a step that is
    all about them decreases the cost by little."""
    max_tension: Annotated[float, Within("[0, inf)")] = MAX_TENSION
    """Old photos are held where what the new ones say against it is at most so many times what noise alone lets them
    say; 1 is usual. 0: everything is adjusted."""

    def _sensor_frames(
        self, photos: Photos, cameras: CameraPriors, graph: ViewGraph, coarse: InitialModels, resources: Resources
    ) -> SensorFrames | None:
        if self._is_warm(photos, graph):  # the file is about upright photos
            return None
        return super()._sensor_frames(photos, cameras, graph, coarse, resources)

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
        if not self._is_warm(photos, graph):
            return super()._refined(model, photos, cameras, graph, candidates, options, resources)
        start = self._start_of(model, photos, cameras, graph, candidates)
        own = graph.among(candidates | np.isfinite(start.bundle.cam_from_world[:, 0, 0]))
        known = known_keypoints(self.keypoints, photos, own.keypoints)
        warm = warm_input(photos, own, start, known, np.flatnonzero(candidates))
        found = self._beside_held(warm, options) or self._adjusted(warm, options, resources)
        return Refined(start, found[1], found[0])

    def _finished(self, model: Refined, photos: Photos, options: RefineOptions, resources: Resources) -> Refined:
        return model if self._is_warm(photos, model.graph) else super()._finished(model, photos, options, resources)

    def _is_warm(self, photos: Photos, graph: ViewGraph) -> bool:
        """Whether the file has key points of this graph; those made of dense matches change with every pair."""
        return not graph.dense and len(known_keypoints(self.keypoints, photos, graph.keypoints).row) > 0

    def _beside_held(self, warm: WarmInput, options: RefineOptions) -> tuple[RefinementResult, ViewGraph] | None:
        """The new photos adjusted with the points that they see, all else held. None where the file has no points of
        the old model, where poses are not free to move one by one, and where old photos ought to move."""
        if self.max_tension == 0.0 or warm.start.anchors is not None or warm.start.bundle.rigs is not None:
            return None
        unit_px = warm.graph.keypoint_error_px
        free = options.adjustment(unit_px, self.warm_iterations, self.warm_tolerance)
        old = self._with_candidates(warm, old_model(warm, options), options)
        joint = joined_beside_held(warm, old, options, free)
        if len(joint.points) < options.min_points:
            return None
        near = near_late_photos(warm, joint)
        joint, sigma = with_aligned(warm, joint, near, *self._aligned(warm, near))
        joint = with_refined_poses(joint, np.flatnonzero(warm.late), sigma, free.loss_px)
        joint, summary = adjusted_beside_held(warm, joint, sigma, free)
        joint, sigma = settled(warm, joint, sigma, options)
        strain = tension(joint, warm.late, free.loss, free.loss_px, sigma)
        if strain > self.max_tension:
            return None
        keypoints = warm.graph.keypoints
        bundle = with_other_points(joint, old, len(keypoints.xy))
        done, moved = with_all_points(warm.graph, bundle, options, np.repeat(warm.late, np.diff(keypoints.start)))
        covariance = self._covariance(warm, bundle, options)
        return replace(done, summaries=(summary,), covariance=covariance, tension=strain), moved

    def _adjusted(
        self, warm: WarmInput, options: RefineOptions, resources: Resources
    ) -> tuple[RefinementResult, ViewGraph]:
        """All photos adjusted, from the known key points where the old model has them."""
        graph, start, unit_px = warm.graph, warm.start, warm.graph.keypoint_error_px
        bundle = retriangulated(warm.aligned, start.bundle, options, unit_px)
        more = self._with_candidates(warm, bundle, options)
        if np.isfinite(more.cam_from_world).sum() > np.isfinite(bundle.cam_from_world).sum():
            bundle = retriangulated(warm.aligned, more, options, unit_px)
        bundle = keep_observations(bundle, dependable(bundle, options.dependable_points))
        free = options.adjustment(unit_px, self.warm_iterations, self.warm_tolerance)
        bundle, sigma = self._started(warm, bundle, free)
        prior = prior_of_refinement(start.bundle, start.prior)
        summaries: tuple[BundleSummary, ...] = ()
        if len(bundle.points) >= options.min_points:
            bundle, summary = self.solver(resources.device)(bundle, free, prior, sigma, start.anchors, None)
            summaries = (summary,)
        bundle = keep_observations(bundle, errors_px(bundle) < options.max_error * unit_px)
        bundle = without_weak_photos(bundle, options.min_observations)
        covariance = self._covariance(warm, bundle, options)
        done, moved = with_all_points(graph, bundle, options)
        return replace(done, summaries=summaries, covariance=covariance), moved

    def _with_candidates(self, warm: WarmInput, bundle: Bundle, options: RefineOptions) -> Bundle:
        """The bundle with poses of what was not localized, where its points give them."""
        return register_photos(
            warm.aligned,
            bundle,
            warm.candidates,
            max_error_px=options.max_error * warm.graph.keypoint_error_px,
            options=options.absolute_pose,
            seed=self.seed,
        )

    def _started(self, warm: WarmInput, bundle: Bundle, free: BundleOptions) -> tuple[Bundle, Array]:
        """Where an adjustment has little left to do, with aligned key points; and (m,) standard deviations of these."""
        graph = warm.graph
        bundle = refine_points(bundle, free.loss, free.loss_px, sigma_of(graph, bundle), self.point_steps)
        bundle, ratio = self._aligned(warm, bundle)
        sigma = sigma_of(graph, bundle) * ratio
        if warm.start.anchors is None and bundle.rigs is None:  # each photo moves by itself
            bundle = with_refined_poses(bundle, np.flatnonzero(warm.late), sigma, free.loss_px)
        return refine_points(bundle, free.loss, free.loss_px, sigma, self.point_steps), sigma

    def _covariance(self, warm: WarmInput, bundle: Bundle, options: RefineOptions) -> Covariance | None:
        """Of key points as they were found, as in fine.bundle."""
        few = np.isfinite(bundle.cam_from_world[:, 0, 0]).sum() <= options.max_covariance_photos
        if not few or len(bundle.points) < options.min_points:
            return None
        start, keypoints = warm.start, warm.graph.keypoints
        prior, unit_px = prior_of_refinement(start.bundle, start.prior), warm.graph.keypoint_error_px
        as_found = replace(bundle, xy=keypoints.xy[bundle.row])
        return refined_covariance(as_found, prior, keypoints.sigma, options, unit_px, start.anchors, None)

    def _aligned(self, warm: WarmInput, bundle: Bundle) -> tuple[Bundle, Array]:
        """The bundle with its aligned observations, those of new photos with the others; and (m,) the factors by which
        alignment makes their standard deviations smaller. As it is where the old model's were not aligned."""
        exact, graph, late = self.exact_points, warm.graph, warm.late
        moved = (warm.aligned.keypoints.xy[bundle.row] != graph.keypoints.xy[bundle.row]).any(axis=1)
        if not moved.any() or not exact.enabled:
            return bundle, np.ones(len(bundle.row))
        sigma, unit_px = sigma_of(graph, bundle), graph.keypoint_error_px
        tracks = with_aligned_new_photos(warm.photos, bundle, late, moved, sigma, unit_px, exact)
        kept = kept_when_aligned(bundle, tracks, self.dependable_points)
        is_aligned = np.zeros(len(graph.keypoints.xy), bool)
        is_aligned[bundle.row[tracks.aligned]] = True
        bundle = keep_observations(replace(bundle, xy=tracks.xy), kept)
        of_old = is_aligned[bundle.row] & ~late[bundle.photo]
        error_px = float(np.median(errors_px(bundle)[of_old])) if of_old.any() else np.inf
        better = min(1.0, exact.loss_scale * error_px / (self.loss_px * unit_px))
        return bundle, np.where(is_aligned[bundle.row], better, 1.0)
