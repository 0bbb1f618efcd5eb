"""The fine stage of finished models and a few new photos: what is known of the old ones is not looked for again."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array, Index, Mask
from unposed.optim.bundle.problem import Bundle, BundleSummary, errors_px
from unposed.optim.localization.pose_refinement import refine_absolute_pose
from unposed.optim.mapping.absolute_pose import register_photos
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
from unposed.optim.option_ranges import Count, Positive
from unposed.optim.view_graph import Keypoints, ViewGraph
from unposed.pipeline.artifacts import CameraPriors, InitialModel, Photos
from unposed.pipeline.stage import Resources, StageError

from .bundle import BundleAdjustment
from .exact_points import kept_when_aligned, sigma_of, with_aligned_new_photos, with_all_points
from .model_start import ModelStart, Refined

MAX_ALIGNED_SHARE = 0.01
"""A key point that the file has further from where it is now, as a share of the longer side, is another one."""

MIN_POINTS_OF_POSE = 6
"""Points that determine a pose in any position; with fewer it waits for the adjustment of everything."""


@dataclass(frozen=True)
class WarmAdjustment(BundleAdjustment):
    """Goes on from finished models with a few new photos: one adjustment of everything from where it was.

    Key points of the old photos stay where an earlier run has aligned them, those of the new photos are aligned with
    them. The cameras keep the distortion that was found for them. Dense matches, and collections of whose key points
    the file has none, are adjusted as by fine.bundle.

    The file of key points is a NumPy archive: `names` of the photos, `start` (photos + 1,), and for the observed key
    points of photo i, rows start[i]:start[i + 1], their numbers `keypoint` and where the model has them, `xy`.
    """

    version: ClassVar[int] = 2

    keypoints: Path = field(kw_only=True)
    """The file."""
    point_steps: Count = 3
    """Steps of points alone, under the old cameras, before that and before key points are aligned."""
    warm_iterations: Count = 8
    """Steps of the adjustment, at most."""
    warm_tolerance: Positive = 1e-3
    """Relative decrease of the cost in one step at which it ends. Of a few new photos among many, even a step that is
    all about them decreases the cost by little."""

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
        row, xy = known_keypoints(self.keypoints, photos, own.keypoints)
        result, moved = self._adjusted(photos, own, start, np.flatnonzero(candidates), row, xy, options, resources)
        return Refined(start, moved, result)

    def _finished(self, model: Refined, photos: Photos, options: RefineOptions, resources: Resources) -> Refined:
        return model if self._is_warm(photos, model.graph) else super()._finished(model, photos, options, resources)

    def _is_warm(self, photos: Photos, graph: ViewGraph) -> bool:
        """Whether the file has key points of this graph; those made of dense matches change with every pair."""
        return not graph.dense and len(known_keypoints(self.keypoints, photos, graph.keypoints)[0]) > 0

    def _adjusted(
        self,
        photos: Photos,
        graph: ViewGraph,
        start: ModelStart,
        candidates: Index,
        known: Index,
        known_xy: Array,
        options: RefineOptions,
        resources: Resources,
    ) -> tuple[RefinementResult, ViewGraph]:
        """All photos adjusted, from the `known` key points (rows of the graph's) where the old model has them."""
        found, unit_px = graph.keypoints.xy, graph.keypoint_error_px
        xy = found.copy()
        xy[known] = known_xy
        old = np.zeros(len(photos), bool)
        old[graph.keypoints.photo_of(known)] = True
        aligned = replace(graph, keypoints=replace(graph.keypoints, xy=xy))
        bundle = retriangulated(aligned, start.bundle, options, unit_px)
        more = register_photos(
            aligned,
            bundle,
            candidates,
            max_error_px=options.max_error * unit_px,
            options=options.absolute_pose,
            seed=self.seed,
        )
        if np.isfinite(more.cam_from_world).sum() > np.isfinite(bundle.cam_from_world).sum():
            bundle = retriangulated(aligned, more, options, unit_px)
        bundle = keep_observations(bundle, dependable(bundle, options.dependable_points))
        free = options.adjustment(unit_px, self.warm_iterations, self.warm_tolerance)
        bundle = refine_points(bundle, free.loss, free.loss_px, sigma_of(graph, bundle), self.point_steps)
        bundle, sigma = self._aligned(photos, graph, bundle, ~old, (xy != found).any(axis=1)[bundle.row])
        if start.anchors is None and bundle.rigs is None:  # each photo moves by itself
            bundle = _with_poses(bundle, np.flatnonzero(~old), sigma, free.loss_px)
        bundle = refine_points(bundle, free.loss, free.loss_px, sigma, self.point_steps)
        prior = prior_of_refinement(start.bundle, start.prior)
        summaries: tuple[BundleSummary, ...] = ()
        if len(bundle.points) >= options.min_points:
            bundle, summary = self.solver(resources.device)(bundle, free, prior, sigma, start.anchors, None)
            summaries = (summary,)
        bundle = keep_observations(bundle, errors_px(bundle) < options.max_error * unit_px)
        bundle = without_weak_photos(bundle, options.min_observations)
        few = np.isfinite(bundle.cam_from_world[:, 0, 0]).sum() <= options.max_covariance_photos
        covariance = None
        if few and len(bundle.points) >= options.min_points:  # of key points as they were found, as in fine.bundle
            as_found = replace(bundle, xy=found[bundle.row])
            covariance = refined_covariance(
                as_found, prior, graph.keypoints.sigma, options, unit_px, start.anchors, None
            )
        done, moved = with_all_points(graph, bundle, options)
        return replace(done, summaries=summaries, covariance=covariance), moved

    def _aligned(
        self, photos: Photos, graph: ViewGraph, bundle: Bundle, new: Mask, moved: Mask
    ) -> tuple[Bundle, Array]:
        """The bundle with its aligned observations, those of new photos with the others; and (m,) their standard
        deviations. As it is where the old model's key points were not aligned."""
        exact = self.exact_points
        sigma = sigma_of(graph, bundle)
        if not moved.any() or not exact.enabled:
            return bundle, sigma
        tracks = with_aligned_new_photos(photos, bundle, new, moved, sigma, graph.keypoint_error_px, exact)
        kept = kept_when_aligned(bundle, tracks, self.dependable_points)
        is_aligned = np.zeros(len(graph.keypoints.xy), bool)
        is_aligned[bundle.row[tracks.aligned]] = True
        bundle = keep_observations(replace(bundle, xy=tracks.xy), kept)
        of_old = is_aligned[bundle.row] & ~new[bundle.photo]
        error_px = float(np.median(errors_px(bundle)[of_old])) if of_old.any() else np.inf
        better = min(1.0, exact.loss_scale * error_px / (self.loss_px * graph.keypoint_error_px))
        return bundle, sigma_of(graph, bundle) * np.where(is_aligned[bundle.row], better, 1.0)


def _with_poses(bundle: Bundle, photos: Index, sigma: Array, loss_px: float) -> Bundle:
    """The bundle with the poses of some photos refined on their own, with points and intrinsics as they are: from
    where an adjustment of everything has little left to do."""
    poses = bundle.cam_from_world.copy()
    for photo in photos[np.isfinite(poses[photos, 0, 0])].tolist():
        own = np.flatnonzero(bundle.photo == photo)
        if len(own) < MIN_POINTS_OF_POSE:
            continue
        camera = int(bundle.camera_of_photo[photo])
        scale = float(np.median(sigma[own]))  # the loss is in units of each key point's error
        refined = refine_absolute_pose(
            bundle.xy[own],
            bundle.points[bundle.point[own]],
            poses[photo],
            bundle.models[camera],
            bundle.intrinsics[camera],
            None,
            loss_px=loss_px * scale,
        )
        poses[photo] = refined.cam_from_world
    return replace(bundle, cam_from_world=poses)


def known_keypoints(file: Path, photos: Photos, keypoints: Keypoints) -> tuple[Index, Array]:
    """Rows of the key points (k,) that a file has, and where (k, 2). Those that are others by now are left out."""
    names, start, number, xy = _read(file)
    index = {photo.name: row for row, photo in enumerate(photos.photos)}
    rows, places = [np.zeros(0, np.int64)], [np.zeros((0, 2))]
    for name, first, last in zip(names, start[:-1].tolist(), start[1:].tolist(), strict=True):
        if name not in index:
            continue
        own = keypoints.rows_of(index[name])
        row = own.start + number[first:last]
        row, at = row[row < own.stop], xy[first:last][row < own.stop]
        bound_px = MAX_ALIGNED_SHARE * float(keypoints.size[index[name]].max())
        same = np.linalg.norm(keypoints.xy[row] - at, axis=1) < bound_px
        rows.append(row[same])
        places.append(at[same])
    return np.concatenate(rows), np.concatenate(places)


def _read(file: Path) -> tuple[list[str], Index, Index, Array]:
    try:
        with file.open("rb") as stream, np.load(stream) as archive:  # NumPy leaves damaged files open
            found: Mapping[str, NDArray[np.generic]] = {name: archive[name] for name in archive.files}
        names, start = [str(name) for name in found["names"]], found["start"].astype(np.int64)
        number, xy = found["keypoint"].astype(np.int64), found["xy"].astype(np.float64).reshape(-1, 2)
        if len(start) != len(names) + 1 or len(number) != len(xy) or start[0] != 0 or start[-1] != len(xy):
            raise ValueError("arrays of different lengths")
        if (np.diff(start) < 0).any() or (number < 0).any():
            raise ValueError("rows or numbers that no photo has")
    except (OSError, ValueError, KeyError, EOFError, TypeError, BadZipFile, zlib.error) as error:
        raise StageError(f"{file.name}: cannot be read as key points: {error}") from error
    return names, start, number, xy
