"""A cluster's graph is the part of the whole that belongs to it, in smaller numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from unposed.optim.mapping.global_mapper import map_component
from unposed.optim.partition.cluster_graph import EMPTY_MODEL, cluster_graph, cluster_model
from unposed.optim.partition.divided_mapping import map_divided

Make = Callable[..., Any]


def test_matches_and_cameras_are_those_of_the_whole(collection: Make) -> None:
    world = collection(
        photos=9,
        noise_px=0.4,
        lenses=((1500.0, 800.0, 600.0, 0.0), (1300.0, 640.0, 480.0, 0.0)),
        sizes=((1600, 1200), (1280, 960)),
    )
    whole = world.graph
    weight = world.rng.random(len(whole.row_a))
    whole = replace(
        whole,
        weight=weight,
        depth_a=2.0 * weight,
        depth_b=3.0 * weight,
        depth_focal_px=np.tile(np.arange(len(whole), dtype=np.float64)[:, None], 2),
    )
    photos = np.array([1, 3, 5, 7])
    part = cluster_graph(whole, world.initial_intrinsics(), photos)
    own = whole.among(np.isin(np.arange(9), photos))
    np.testing.assert_array_equal(photos[part.graph.pairs], own.pairs)
    row_a, row_b = part.graph.matches()
    np.testing.assert_array_equal(part.rows[row_a], own.matches()[0])
    np.testing.assert_array_equal(part.rows[row_b], own.matches()[1])
    np.testing.assert_array_equal(part.graph.keypoints.xy, whole.keypoints.xy[part.rows])
    np.testing.assert_array_equal(
        part.graph.keypoints.photo_of(row_a), np.repeat(part.graph.pairs[:, 0], own.match_count)
    )
    for name in ("weight", "depth_a", "depth_b"):
        np.testing.assert_array_equal(getattr(part.graph, name), getattr(own, name)[own.all_match_rows()])
    np.testing.assert_array_equal(part.graph.depth_focal_px, own.depth_focal_px)
    np.testing.assert_array_equal(part.cameras, [0])  # odd photos have the smaller size, which is numbered first
    assert part.intrinsics.values.shape == (1, 8)
    np.testing.assert_array_equal(part.intrinsics.camera_of_photo, np.zeros(4))


def test_a_model_gets_the_numbers_of_the_whole(collection: Make) -> None:
    world = collection(photos=9, noise_px=0.3)
    photos = np.array([2, 3, 4, 6])
    part = cluster_graph(world.graph, world.initial_intrinsics(), photos)
    found = map_component(part.graph, None, part.intrinsics, keypoint_error_px=1.0)
    assert found is not None
    model = cluster_model(part, found.bundle)
    np.testing.assert_array_equal(model.photos, photos)
    order = np.argsort(found.bundle.row)
    np.testing.assert_array_equal(world.graph.keypoints.xy[model.row], found.bundle.xy[order])
    np.testing.assert_array_equal(world.graph.keypoints.photo_of(model.row), photos[found.bundle.photo[order]])
    assert model.camera_observations.tolist() == [len(model.row)]
    poses = np.full((9, 3, 4), np.nan)
    poses[photos] = model.cam_from_world
    assert np.nanmax(world.errors(poses).rotation_error_deg) < 0.5


def test_no_model_has_no_photos(collection: Make) -> None:
    world = collection(photos=4)
    part = cluster_graph(world.graph, world.initial_intrinsics(), np.arange(3))
    assert cluster_model(part, None) is EMPTY_MODEL
    nothing = world.graph.select(np.zeros(len(world.graph), bool))
    assert map_divided(nothing, world.initial_intrinsics(), keypoint_error_px=1.0) is None
