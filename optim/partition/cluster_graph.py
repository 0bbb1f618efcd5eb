"""The part of a view graph that belongs to a cluster, with photos, key points and cameras numbered anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, overload

import numpy as np

from ..arrays import Array, Index, Mask
from ..bundle.intrinsics import Intrinsics
from ..bundle.problem import Bundle
from ..poses import camera_centres
from ..view_graph import Keypoints, ViewGraph

_Column = TypeVar("_Column")


@dataclass(frozen=True, eq=False)
class PartGraph:
    """A view graph of some photos of a larger one. What is computed on it costs nothing for the others."""

    graph: ViewGraph
    intrinsics: Intrinsics
    photos: Index
    """(n,) their numbers in the larger graph, sorted."""
    cameras: Index
    """(cameras,) likewise."""


@dataclass(frozen=True, eq=False)
class ClusterGraph(PartGraph):
    """The view graph of a cluster, and where its key points lie in the larger one."""

    rows: Index
    """(k,) rows of the key points in the larger graph."""


@dataclass(frozen=True, eq=False)
class ClusterModel:
    """The model of a cluster in a frame of its own; photos, cameras and rows are numbered as in the whole graph."""

    photos: Index
    """(n,) the registered ones, sorted."""
    cam_from_world: Array
    """(n, 3, 4)."""
    cameras: Index
    """(cameras,)."""
    intrinsics: Array
    """(cameras, 8) as in optim.cameras."""
    camera_observations: Index
    """(cameras,) observations in the photos of each camera."""
    points: Array
    """(p, 3)."""
    row: Index
    """(m,) key points that are observed, sorted."""
    point: Index
    """(m,) the point that each of them shows."""

    @property
    def centres(self) -> Array:
        """(n, 3) positions of the photos."""
        return camera_centres(self.cam_from_world)


EMPTY_MODEL = ClusterModel(
    photos=np.zeros(0, np.int64),
    cam_from_world=np.zeros((0, 3, 4)),
    cameras=np.zeros(0, np.int64),
    intrinsics=np.zeros((0, 8)),
    camera_observations=np.zeros(0, np.int64),
    points=np.zeros((0, 3)),
    row=np.zeros(0, np.int64),
    point=np.zeros(0, np.int64),
)


def cluster_graph(graph: ViewGraph, intrinsics: Intrinsics, photos: Index) -> ClusterGraph:
    """Select the part of a view graph among these photos (n,), sorted."""
    member = np.zeros(graph.photo_count, bool)
    member[photos] = True
    part = graph.among(member)
    keypoints = graph.keypoints
    count = np.diff(keypoints.start)[photos]
    start = np.concatenate([[0], np.cumsum(count)])
    shift = np.zeros(graph.photo_count, np.int64)
    shift[photos] = start[:-1] - keypoints.start[photos]
    rows = np.arange(start[-1]) - np.repeat(shift[photos], count)
    number = np.cumsum(member) - 1
    matches = part.all_match_rows()
    stop = np.cumsum(part.match_count)
    a, b = (np.repeat(shift[side], part.match_count) for side in part.pairs.T)
    small = replace(
        part,
        keypoints=Keypoints(
            keypoints.xy[rows],
            start,
            keypoints.size[photos],
            _of(keypoints.sigma, lambda column: column[rows]),
            _of(keypoints.rgb, lambda column: column[rows]),
        ),
        photo_error_px=_of(part.photo_error_px, lambda column: column[photos]),
        rigs=_of(part.rigs, lambda rigs: rigs.of_photos(photos)),
        pairs=number[part.pairs],
        match_start=stop - part.match_count,
        match_stop=stop,
        row_a=part.row_a[matches] + a,
        row_b=part.row_b[matches] + b,
        weight=_of(part.weight, lambda column: column[matches]),
        depth_a=_of(part.depth_a, lambda column: column[matches]),
        depth_b=_of(part.depth_b, lambda column: column[matches]),
        unmatched={},
    )
    cameras, camera_of_photo = np.unique(intrinsics.camera_of_photo[photos], return_inverse=True)
    prior = intrinsics.prior
    own = replace(
        intrinsics,
        models=tuple(intrinsics.models[camera] for camera in cameras.tolist()),
        values=intrinsics.values[cameras],
        camera_of_photo=camera_of_photo.astype(np.int64),
        prior=replace(prior, mean=prior.mean[cameras], sigma=prior.sigma[cameras]),
    )
    return ClusterGraph(small, own, photos, cameras, rows)


def part_of(graph: ViewGraph, intrinsics: Intrinsics, photos: Mask) -> PartGraph:
    """The part of a view graph among these photos (photos,), numbered as if there were no others: what is computed on
    it does not hang on their number. Where no edge is outside, the graph itself, without a copy."""
    if photos[graph.pairs].all():
        return PartGraph(graph, intrinsics, np.arange(graph.photo_count), np.arange(len(intrinsics.models)))
    return cluster_graph(graph, intrinsics, np.flatnonzero(photos))


@dataclass(frozen=True, eq=False)
class ClusterGraphs(Sequence[ClusterGraph]):
    """The graphs of clusters, each made when it is asked for: all together would double the memory of the matches."""

    graph: ViewGraph
    intrinsics: Intrinsics
    photos: Sequence[Index]
    """Of each cluster, sorted."""

    def __len__(self) -> int:
        return len(self.photos)

    @overload
    def __getitem__(self, number: int) -> ClusterGraph: ...
    @overload
    def __getitem__(self, number: slice) -> ClusterGraphs: ...
    def __getitem__(self, number: int | slice) -> ClusterGraph | ClusterGraphs:
        if isinstance(number, slice):
            return replace(self, photos=self.photos[number])
        return cluster_graph(self.graph, self.intrinsics, self.photos[number])


def cluster_model(cluster: ClusterGraph, bundle: Bundle | None) -> ClusterModel:
    """The model in a bundle that was made of a cluster's graph; one without photos where there is none."""
    if bundle is None:
        return EMPTY_MODEL
    inside = np.flatnonzero(np.isfinite(bundle.cam_from_world[:, 0, 0]))
    order = np.argsort(bundle.row)
    return ClusterModel(
        cluster.photos[inside],
        bundle.cam_from_world[inside],
        cluster.cameras,
        bundle.intrinsics,
        np.bincount(bundle.camera_of_photo[bundle.photo], minlength=len(cluster.cameras)),
        bundle.points,
        cluster.rows[bundle.row[order]],
        bundle.point[order],
    )


def _of(column: _Column | None, select: Callable[[_Column], _Column]) -> _Column | None:
    return None if column is None else select(column)
