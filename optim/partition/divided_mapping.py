"""Mapping of a large view graph part by part.

    cut into overlapping clusters -> global mapping of each -> similarities between their models, averaged
    -> bundle adjustment of a subset of the tracks of the whole

Time and memory of global mapping then grow with the photos, not with their square, and clusters can be mapped side by
side. The last step lets matches across clusters correct what the similarities cannot: models that are bent a little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np

from ..arrays import Index, Mask
from ..bundle.adjust import adjust_bundle
from ..bundle.intrinsics import Intrinsics
from ..bundle.problem import Bundle, BundleOptions, errors_px
from ..mapping.epipolar import epipolar_errors_px
from ..mapping.global_mapper import GlobalMapperOptions, map_component
from ..mapping.rig_sensors import fitted_to_rigs
from ..mapping.tracks import establish_tracks, spread_subset
from ..mapping.triangulation import keep_observations, triangulate, without_weak_photos
from ..option_ranges import Count, Positive, Share, Within
from ..view_graph import ViewGraph
from .cluster_graph import EMPTY_MODEL, ClusterGraph, ClusterGraphs, ClusterModel, cluster_model
from .model_merging import MergedModels, ModelMergingOptions, merge_models, moved_poses
from .view_graph_cut import PhotoCluster, ViewGraphCutOptions, cut_view_graph

MapClusters = Callable[[Callable[[ClusterGraph], ClusterModel], ClusterGraphs], Iterable[ClusterModel]]
"""Applies a function to each cluster, results in order, as the built-in `map` does; others use threads or machines."""

_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class DividedMappingOptions:
    """Division of a component of the view graph, and the adjustment after the merge."""

    cut: ViewGraphCutOptions = field(default_factory=ViewGraphCutOptions)
    """Clusters."""
    merging: ModelMergingOptions = field(default_factory=ModelMergingOptions)
    """Merging of their models."""
    min_registered: Share = 0.5
    """A cluster of whose core a smaller share was registered is mapped again, together with the neighbour that it has
    most matches with."""
    undivided_photos: Annotated[int, Within("[0, inf)")] = 3000
    """Where clusters fail or disagree, a view graph of at most so many photos is mapped undivided instead: it is weak
    somewhere, and needs all of its pairs."""
    joint_tracks_per_photo: Count = 80
    """Tracks in the adjustment after the merge, long ones first."""
    joint_max_errors: tuple[Positive, Positive] = (40.0, 8.0)
    """Observations with larger reprojection errors, in key point errors, are removed: when points are triangulated
    under the merged poses, and after the adjustment."""
    joint_loss_scale: Positive = 1.0
    """Scale of the robust loss of that adjustment, in key point errors."""
    joint_iterations: Count = 40
    """Steps of that adjustment, at most."""
    joint_tolerance: Positive = 1e-5
    """Relative decrease of the cost in one step at which it ends. What is left after the merge is a bend of the whole,
    spread over thousands of photos: taking it out lowers the cost by less than a percent."""


@dataclass(frozen=True)
class ClusterMapper:
    """Global mapping of one cluster. It can be pickled: other machines map clusters, too."""

    options: GlobalMapperOptions
    keypoint_error_px: float
    seed: int = 0

    def __call__(self, cluster: ClusterGraph) -> ClusterModel:
        model = map_component(
            cluster.graph,
            None,
            cluster.intrinsics,
            keypoint_error_px=self.keypoint_error_px,
            options=self.options,
            seed=self.seed,
        )
        return cluster_model(cluster, None if model is None else model.bundle)


@dataclass(frozen=True, eq=False)
class DividedModel:
    """A model made of the models of clusters."""

    bundle: Bundle
    clusters: int
    apart: tuple[Index, ...]
    """Cores of the clusters whose models were not found, or contradict the others, and are not part of it."""

    @property
    def posed(self) -> Mask:
        """(photos,) which are registered."""
        return np.isfinite(self.bundle.cam_from_world[:, 0, 0])


def map_divided(
    graph: ViewGraph,
    intrinsics: Intrinsics,
    *,
    keypoint_error_px: float,
    options: DividedMappingOptions | None = None,
    mapper: GlobalMapperOptions | None = None,
    seed: int = 0,
    apply: MapClusters = map,
) -> DividedModel | None:
    """Map a connected view graph part by part; None where it should be mapped undivided, or no part gives a model.

    Clusters whose models fail, or contradict the others, are mapped once more together with a neighbour.
    """
    options, mapper = options or DividedMappingOptions(), mapper or GlobalMapperOptions()

    clusters = list(cut_view_graph(graph, options.cut))
    map_cluster = ClusterMapper(mapper, keypoint_error_px, seed)
    models = list(apply(map_cluster, ClusterGraphs(graph, intrinsics, [cluster.photos for cluster in clusters])))
    merged = merge_models(models, options.merging)
    again = _mapped_again(graph, clusters, models, merged, options.min_registered)
    if again and len(np.unique(graph.pairs)) <= options.undivided_photos:
        return None
    unions = [_union(clusters[i], clusters[j]) for i, j in again]
    better = list(apply(map_cluster, ClusterGraphs(graph, intrinsics, [union.photos for union in unions])))
    for (i, j), union, model in zip(again, unions, better, strict=True):
        if len(model.photos) > max(len(models[i].photos), len(models[j].photos)):
            clusters[i], models[i] = union, model
            clusters[j], models[j] = PhotoCluster(_NONE, _NONE), EMPTY_MODEL
    if again:
        merged = merge_models(models, options.merging)
    start = _start_of(graph, intrinsics, clusters, models, merged)
    bundle = _adjusted(graph, start, intrinsics, keypoint_error_px, options, mapper)
    if np.isfinite(bundle.cam_from_world[:, 0, 0]).sum() < 2:
        return None
    apart = tuple(cluster.core for cluster, joined in zip(clusters, merged.joined, strict=True) if not joined)
    return DividedModel(bundle, len(clusters), tuple(core for core in apart if len(core)))


def _mapped_again(
    graph: ViewGraph,
    clusters: Sequence[PhotoCluster],
    models: Sequence[ClusterModel],
    merged: MergedModels,
    min_registered: float,
) -> list[tuple[int, int]]:
    """Clusters that failed, each with the neighbour that it has most matches with, and clusters whose common photos
    disagree; no cluster is in two pairs.

    Two clusters whose common photos agree and whose link other links contradict are not among them: they look alike,
    and a common model would lay one on the other.
    """
    cluster_of = np.full(graph.photo_count, -1)
    for number, cluster in enumerate(clusters):
        cluster_of[cluster.core] = number
    matches = np.zeros((len(clusters), len(clusters)))
    a, b = cluster_of[graph.pairs].T
    np.add.at(matches, (np.minimum(a, b), np.maximum(a, b)), graph.match_count)
    matches += matches.T
    np.fill_diagonal(matches, 0.0)
    wanted: list[tuple[int, int]] = []
    for number, (cluster, model) in enumerate(zip(clusters, models, strict=True)):
        registered = np.isin(cluster.core, model.photos).mean()
        if registered < min_registered or not merged.joined[number]:
            wanted.append((number, int(np.argmax(matches[number]))))
    wanted += [(a, b) for a, b in merged.pairs[merged.disagreeing].tolist()]
    out: list[tuple[int, int]] = []
    taken: set[int] = set()
    for i, j in wanted:
        if i != j and not {i, j} & taken:
            taken |= {i, j}
            out.append((i, j))
    return out


def _union(one: PhotoCluster, other: PhotoCluster) -> PhotoCluster:
    return PhotoCluster(np.union1d(one.core, other.core), np.union1d(one.photos, other.photos))


def _start_of(
    graph: ViewGraph,
    intrinsics: Intrinsics,
    clusters: Sequence[PhotoCluster],
    models: Sequence[ClusterModel],
    merged: MergedModels,
) -> Bundle:
    """Cameras and poses of the joined models, without points.

    A photo has the pose of the cluster whose core it belongs to, where that has one: photos given to a neighbour lie at
    its border and are less exact there. Intrinsics of cameras that several models share are averaged.
    """
    poses = np.full((graph.photo_count, 3, 4), np.nan)
    total, count = np.zeros_like(intrinsics.values), np.zeros(len(intrinsics.values))
    for cores in (False, True):
        for cluster, model, similarity in zip(clusters, models, merged.world_from_model, strict=True):
            if similarity is not None:
                mine = np.isin(model.photos, cluster.core) == cores
                poses[model.photos[mine]] = moved_poses(model.cam_from_world[mine], similarity)
                total[model.cameras] += cores * model.camera_observations[:, None] * model.intrinsics
                count[model.cameras] += cores * model.camera_observations
    values = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], intrinsics.values)
    if graph.rigs is not None:  # of frames at a joint each model gives a part
        poses, _ = fitted_to_rigs(graph.rigs, poses)
    return Bundle(
        intrinsics.models,
        values,
        intrinsics.camera_of_photo,
        poses,
        points=np.zeros((0, 3)),
        xy=np.zeros((0, 2)),
        photo=_NONE,
        point=_NONE,
        row=_NONE,
    )


def _adjusted(
    graph: ViewGraph,
    start: Bundle,
    intrinsics: Intrinsics,
    keypoint_error_px: float,
    options: DividedMappingOptions,
    mapper: GlobalMapperOptions,
) -> Bundle:
    """Bundle adjustment of a subset of the tracks of all joined models.

    Tracks are made of the matches that the merged poses nearly agree with, and points may be far from their key points
    at first: that is how matches across a joint close it.
    """
    before, after = (bound * keypoint_error_px for bound in options.joint_max_errors)
    own = graph.among(np.isfinite(start.cam_from_world[:, 0, 0]))
    near = epipolar_errors_px(own, start) < before
    tracks = establish_tracks(own.keypoints, *(row[near] for row in own.matches()))
    bundle = triangulate(
        own.keypoints,
        spread_subset(tracks, own.photo_count, options.joint_tracks_per_photo),
        start.models,
        start.intrinsics,
        start.camera_of_photo,
        start.cam_from_world,
        max_error_px=before,
        min_angle_deg=0.0,
    )
    bundle = replace(bundle, rigs=graph.rigs)
    if len(bundle.points) >= mapper.min_points:
        settings = BundleOptions(
            principal=intrinsics.crops,
            loss_px=options.joint_loss_scale * keypoint_error_px,
            max_track_length=mapper.max_track_length,
            max_iterations=options.joint_iterations,
            tolerance=options.joint_tolerance,
        )
        bundle, _ = adjust_bundle(bundle, settings, intrinsics.prior)
        bundle = keep_observations(bundle, errors_px(bundle) < after)
    return without_weak_photos(bundle, mapper.min_photo_points)
