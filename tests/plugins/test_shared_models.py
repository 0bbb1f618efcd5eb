"""Between artifacts and the plain arrays of optim."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unposed.optim.bundle.problem import errors_px
from unposed.optim.intrinsics_priors import IntrinsicsPriorOptions
from unposed.optim.mapping.triangulation import keep_observations
from unposed.optim.view_graph import Keypoints, build_view_graph
from unposed.pipeline.artifacts import Camera, CameraPriors, InitialModel, SparseModel
from unposed.pipeline.stage import StageError
from unposed.plugins.shared.models import (
    initial_bundle,
    initial_model_of,
    intrinsics_of_priors,
    reasons_left_out,
    sparse_model,
)

Make = Callable[..., Any]


def cameras_of(model: str, *params: tuple[float, ...], camera_of_photo: list[int]) -> CameraPriors:
    cameras = tuple(Camera(model, 1600, 1200, p) for p in params)
    return CameraPriors(cameras, np.array(camera_of_photo, np.int32), ("guess",) * len(cameras))


def test_unknown_camera_models_are_refused_by_name() -> None:
    with pytest.raises(StageError, match=r"FULL_OPENCV; it knows SIMPLE_PINHOLE, PINHOLE"):
        intrinsics_of_priors(cameras_of("FULL_OPENCV", (900.0,) * 12, camera_of_photo=[0]), 1.0)


def test_priors_are_as_soft_as_photos_are_large() -> None:
    cameras = cameras_of("SIMPLE_RADIAL", (900.0, 800.0, 600.0, 0.0), camera_of_photo=[0, 0])
    small, large = intrinsics_of_priors(cameras, 1.0), intrinsics_of_priors(cameras, 2.0)
    np.testing.assert_array_equal(small.values, [[900.0, 900.0, 800.0, 600.0, 0, 0, 0, 0]])
    assert large.prior.noise_px == 2.0 * small.prior.noise_px
    assert small.camera_of_photo.dtype == np.int64


def test_priors_have_the_standard_deviations_of_the_cameras_stage() -> None:
    cameras = cameras_of("SIMPLE_RADIAL", (900.0, 800.0, 600.0, 0.0), camera_of_photo=[0, 0])
    found = intrinsics_of_priors(replace(cameras, prior=IntrinsicsPriorOptions(principal_sigma=0.5)), 1.0)
    np.testing.assert_allclose(found.prior.sigma[0, 2:4], 0.5 * 1600)
    assert found.options.principal_sigma == 0.5


@pytest.fixture
def world(collection: Make) -> Any:
    """Six photos of two cameras, the third without a pose."""
    lenses = ((1500.0, 800.0, 600.0, -0.02), (1100.0, 500.0, 400.0, 0.0))
    return collection(photos=6, points=150, lenses=lenses, sizes=((1600, 1200), (1000, 800)), noise_px=0.3)


def model_and_bundle(world: Any) -> tuple[SparseModel, Any, Keypoints]:
    """A model of the truth, single precision as of features, and what it was made of."""
    keypoints = world.graph.keypoints
    colour = np.column_stack([10 * keypoints.photo_of(np.arange(len(keypoints.xy)))] * 3) * [1, 2, 0] + [0, 0, 7]
    keypoints = replace(keypoints, xy=keypoints.xy.astype(np.float32).astype(float), rgb=colour.astype(np.uint8))
    bundle = world.bundle()
    poses = bundle.cam_from_world.copy()
    poses[2] = np.nan
    bundle = replace(keep_observations(bundle, bundle.photo != 2), cam_from_world=poses)
    return sparse_model(bundle, keypoints), bundle, keypoints


def test_a_model_says_what_the_bundle_says(world: Any) -> None:
    model, bundle, _ = model_and_bundle(world)
    np.testing.assert_array_equal(model.photos, [0, 1, 3, 4, 5])
    np.testing.assert_array_equal(model.cam_from_world, bundle.cam_from_world[[0, 1, 3, 4, 5]])
    np.testing.assert_array_equal(model.points, bundle.points)
    assert (np.diff(model.obs_point) >= 0).all()
    same = np.diff(model.obs_point) == 0
    assert (np.diff(model.obs_xy)[same] > 0).all()
    seen = np.stack([model.obs_point, model.photos[np.searchsorted(model.xy_start, model.obs_xy, side="right") - 1]])
    told = np.stack([bundle.point, bundle.photo])
    assert set(map(tuple, seen.T.tolist())) == set(map(tuple, told.T.tolist()))
    # Pixels come from the features, in single precision; each observation still means its own key point.
    order = np.lexsort((bundle.row, bundle.point))
    np.testing.assert_allclose(model.xy[model.obs_xy], bundle.xy[order], atol=1e-3)


def test_a_model_has_the_cameras_of_its_photos(world: Any) -> None:
    model, _, _ = model_and_bundle(world)
    assert len(model.cameras) == 2
    for photo, index in zip(model.photos, model.camera_of_photo, strict=True):
        camera = model.cameras[index]
        assert (camera.width, camera.height) == tuple(world.size[photo])
        assert camera.params[0] == world.photo_intrinsics[photo, 0]


def test_points_have_mean_colours_and_errors(world: Any) -> None:
    model, bundle, keypoints = model_and_bundle(world)
    errors = errors_px(replace(bundle, xy=keypoints.xy[bundle.row]))
    for point in (0, 7, len(model.points) - 1):
        own = bundle.point == point
        assert model.rgb[point].tolist() == pytest.approx(
            [10 * bundle.photo[own].mean(), 20 * bundle.photo[own].mean(), 7], abs=0.5
        )
        assert model.error_px[point] == pytest.approx(errors[own].mean(), abs=1e-3)


def test_an_initial_model_becomes_a_start_again(world: Any) -> None:
    _, bundle, keypoints = model_and_bundle(world)
    initial = initial_model_of(bundle, world.initial_intrinsics(1.3), keypoints)
    np.testing.assert_array_equal(initial.photos, [0, 1, 3, 4, 5])
    start, intrinsics = initial_bundle(initial, 6, world.initial_intrinsics(1.3))
    np.testing.assert_array_equal(start.cam_from_world, bundle.cam_from_world)
    np.testing.assert_array_equal(start.intrinsics, bundle.intrinsics)
    np.testing.assert_array_equal(start.camera_of_photo, world.camera_of_photo)
    assert start.models == bundle.models
    assert len(start.points) == len(start.xy) == 0
    np.testing.assert_array_equal(intrinsics.prior.mean[:, 0], 1.3 * world.photo_intrinsics[world.first, 0])


def test_groups_that_the_mapper_took_apart_stay_apart(world: Any) -> None:
    """Every photo of the model came back with its own camera; the one left out keeps its prior."""
    _, bundle, keypoints = model_and_bundle(world)
    initial = initial_model_of(bundle, world.initial_intrinsics(1.3), keypoints)
    own = tuple(Camera("SIMPLE_RADIAL", 1600, 1200, (1000.0 + p, 800.0, 600.0, 0.0)) for p in initial.photos)
    apart: InitialModel = replace(initial, cameras=own, camera_of_photo=np.arange(5, dtype=np.int32))
    before = world.initial_intrinsics(1.3)
    start, intrinsics = initial_bundle(apart, 6, before)
    np.testing.assert_array_equal(start.camera_of_photo, np.arange(6))
    np.testing.assert_array_equal(start.intrinsics[initial.photos, 0], 1000.0 + initial.photos)
    np.testing.assert_array_equal(start.intrinsics[2], before.values[before.camera_of_photo[2]])
    assert len(intrinsics.models) == len(intrinsics.prior.sigma) == 6


def test_every_photo_left_out_has_its_reason() -> None:
    keypoints = Keypoints(np.zeros((0, 2)), np.zeros(7, np.int64), np.full((6, 2), 100))
    unmatched = {0: "no features could be taken from it", 1: "no key points found in it"}
    nothing = np.zeros(0, np.int64)
    graph = build_view_graph(
        keypoints, np.array([[3, 4], [3, 5]]), np.zeros(2, int), nothing, nothing, unmatched=unmatched
    )
    only = InitialModel((), np.array([4]), np.zeros(1, np.int32), np.zeros((1, 3, 4)))
    assert reasons_left_out(graph, [only]) == {
        0: "no features could be taken from it",
        1: "no key points found in it",
        2: "it has verified matches with no other photo",
        3: "it could not be registered: its matches with 2 photos are inconsistent with the others",
        5: "it could not be registered: its matches with 1 photo are inconsistent with the others",
    }
    few = Keypoints(np.zeros((3, 2)), np.array([0, 0, 0, 3, 3, 3, 3]), np.full((6, 2), 100))
    bare = "only 3 key points were found in it, and it has verified matches with no other photo"
    assert reasons_left_out(replace(graph, keypoints=few), [only])[2] == bare
