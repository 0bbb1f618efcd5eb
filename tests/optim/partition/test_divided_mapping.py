"""Mapping part by part is as good as mapping the whole, and gets over parts that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from unposed.optim.bundle.intrinsics import Intrinsics, intrinsics_with_priors
from unposed.optim.evaluation import evaluate_poses
from unposed.optim.mapping.global_mapper import map_component
from unposed.optim.partition.cluster_graph import EMPTY_MODEL, ClusterGraph, ClusterGraphs, ClusterModel
from unposed.optim.partition.divided_mapping import DividedMappingOptions, DividedModel, map_divided
from unposed.optim.partition.model_merging import moved_poses
from unposed.optim.partition.view_graph_cut import ViewGraphCutOptions
from unposed.optim.rotations import exp_so3
from unposed.optim.similarity import Similarity
from unposed.optim.view_graph import Keypoints, ViewGraph, build_view_graph
from unposed.synthetic.collections import EmulatedCollection, EmulationOptions, emulate_collection

MapCluster = Callable[[ClusterGraph], ClusterModel]


@cache
def emulated(layout: str, photos: int) -> tuple[EmulatedCollection, ViewGraph, Intrinsics]:
    made = emulate_collection(layout, photos, 0, EmulationOptions(keypoints=300))
    graph = build_view_graph(
        Keypoints(made.xy, made.start, made.size),
        made.pairs,
        made.match_count,
        made.row_a,
        made.row_b,
        fundamental=made.fundamental,
    )
    params = [(1.01 * made.focal_px, 800.0, 600.0, 0.0)]
    camera_of_photo = np.zeros(photos, np.int64)
    size = made.size[:1].astype(np.float64)
    return made, graph, intrinsics_with_priors(["SIMPLE_RADIAL"], params, size, ["exif"], camera_of_photo, 0.75)


def divided(layout: str, photos: int, size: int, apply: Callable = map) -> tuple[EmulatedCollection, DividedModel]:
    made, graph, intrinsics = emulated(layout, photos)
    options = DividedMappingOptions(cut=ViewGraphCutOptions(cluster_photos=size), undivided_photos=0)
    found = map_divided(graph, intrinsics, keypoint_error_px=1.0, options=options, apply=apply)
    assert found is not None
    return made, found


def median_deg(made: EmulatedCollection, poses: np.ndarray) -> float:
    return float(np.nanmedian(evaluate_poses(made.cam_from_world, poses).rotation_error_deg))


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "photos", "size"), [("aerial", 100, 30), ("hemisphere", 100, 34)])
def test_clusters_are_as_exact_as_the_whole(layout: str, photos: int, size: int) -> None:
    made, found = divided(layout, photos, size)
    assert found.clusters >= 3 and found.apart == () and found.posed.all()
    _, graph, intrinsics = emulated(layout, photos)
    whole = map_component(graph, None, intrinsics, keypoint_error_px=1.0)
    assert whole is not None
    apart, together = (median_deg(made, bundle.cam_from_world) for bundle in (found.bundle, whole.bundle))
    assert apart < 1.5 * together + 0.02  # the fine stage is still to come
    assert found.bundle.intrinsics[0, 0] == pytest.approx(made.focal_px, rel=2e-3)


@pytest.mark.slow
def test_a_walk_around_a_block_closes_over_its_clusters() -> None:
    made, found = divided("streets", 120, 30)
    assert found.clusters >= 4 and found.posed.all()
    errors = evaluate_poses(made.cam_from_world, found.bundle.cam_from_world)
    assert np.median(errors.rotation_error_deg) < 0.2
    first, last = made.cam_from_world[0], made.cam_from_world[-1]
    pose_first, pose_last = found.bundle.cam_from_world[[0, -1]]
    turn = (last[:, :3] @ first[:, :3].T) @ (pose_last[:, :3] @ pose_first[:, :3].T).T
    assert np.degrees(np.arccos(np.clip(0.5 * (np.trace(turn) - 1.0), -1.0, 1.0))) < 0.3


class Spoilt:
    """Maps clusters in turn; the model of the first one of the first round is spoilt."""

    def __init__(self, spoil: Callable[[ClusterModel], ClusterModel]) -> None:
        self.spoil, self.rounds = spoil, list[list[int]]()

    def __call__(self, mapped: MapCluster, clusters: ClusterGraphs) -> Iterator[ClusterModel]:
        self.rounds.append([len(photos) for photos in clusters.photos])
        for number, cluster in enumerate(clusters):
            model = mapped(cluster)
            yield self.spoil(model) if number == 0 and len(self.rounds) == 1 else model


def folded(model: ClusterModel) -> ClusterModel:
    """One half is turned by 60 degrees against the other."""
    half = len(model.photos) // 2
    turn = exp_so3(np.array([[0.6, 0.6, 0.6]]))[0]
    hinge = model.centres[half]
    poses = model.cam_from_world.copy()
    poses[half:] = moved_poses(poses[half:], Similarity(1.0, turn, hinge - turn @ hinge))
    return replace(model, cam_from_world=poses)


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [lambda model: EMPTY_MODEL, folded], ids=["none", "folded"])
def test_a_cluster_that_fails_is_mapped_again_with_a_neighbour(spoil: Callable) -> None:
    spoilt = Spoilt(spoil)
    made, found = divided("aerial", 100, 30, spoilt)
    assert len(spoilt.rounds) == 2 and len(spoilt.rounds[1]) >= 1
    assert max(spoilt.rounds[1]) > max(spoilt.rounds[0])
    assert found.posed.all() and found.apart == ()
    assert median_deg(made, found.bundle.cam_from_world) < 0.3


@pytest.mark.slow
def test_a_cluster_that_fails_twice_is_named() -> None:
    """Nothing that contains photo 0 can be mapped."""

    def apply(mapped: MapCluster, clusters: ClusterGraphs) -> Iterator[ClusterModel]:
        return (EMPTY_MODEL if 0 in cluster.photos else mapped(cluster) for cluster in clusters)

    made, found = divided("aerial", 100, 30, apply)
    (core,) = found.apart
    assert 0 in core and len(core) < 35
    assert found.posed.sum() >= 100 - len(core)
    assert median_deg(made, found.bundle.cam_from_world) < 0.3
