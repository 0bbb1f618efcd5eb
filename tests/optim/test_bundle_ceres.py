"""The minimum of bundle adjustment against COLMAP's, which Ceres finds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pycolmap
import pytest

from unposed.optim.bundle import Adjust, Bundle, adjust, errors_px
from unposed.optim.cameras import intrinsics_of, params_of

LOSS_PX = 1.0


def to_colmap(bundle: Bundle, sizes: np.ndarray) -> pycolmap.Reconstruction:
    model = pycolmap.Reconstruction()
    for k, name in enumerate(bundle.models):
        width, height = sizes[int(np.flatnonzero(bundle.camera_of == k)[0])].tolist()
        params = params_of(name, bundle.intrinsics[k])
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(camera_id=k + 1, model=name, width=width, height=height, params=params)
        )
    within = np.zeros(len(bundle.xy), int)
    for photo, pose in enumerate(bundle.cam_from_world):
        own = np.flatnonzero(bundle.photo == photo)
        within[own] = np.arange(len(own))
        image = pycolmap.Image(name=str(photo), camera_id=int(bundle.camera_of[photo]) + 1, image_id=photo + 1)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(p) for p in bundle.xy[own]])
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
    for point, xyz in enumerate(bundle.points):
        track = pycolmap.Track()
        for i in np.flatnonzero(bundle.point == point):
            track.add_element(int(bundle.photo[i]) + 1, int(within[i]))
        model.add_point3D(xyz, track, np.zeros(3, np.uint8))
    return model


def cost(bundle: Bundle) -> float:
    """By the definition, not by the code under test."""
    return float(0.5 * LOSS_PX**2 * np.log(1.0 + errors_px(bundle) ** 2 / LOSS_PX**2).sum())


def with_model(bundle: Bundle, model: pycolmap.Reconstruction) -> Bundle:
    """The bundle in the state of the model."""
    cameras = [model.cameras[k + 1] for k in range(len(bundle.models))]
    return Bundle(
        bundle.models,
        np.array([intrinsics_of(camera.model.name, camera.params) for camera in cameras]),
        bundle.camera_of,
        np.array([model.images[i + 1].cam_from_world().matrix() for i in range(len(bundle.cam_from_world))]),
        np.array([model.points3D[i + 1].xyz for i in range(len(bundle.points))]),
        bundle.xy,
        bundle.photo,
        bundle.point,
        bundle.row,
    )


@pytest.mark.parametrize("seed", range(2))
def test_the_minimum_is_that_of_ceres(collection: Callable[..., Any], seed: int) -> None:
    """Half a pixel of noise, one observation in fifty wrong, two cameras, everything free but the principal points."""
    lenses = ((1500.0, 800.0, 600.0, -0.05), (1100.0, 500.0, 400.0, 0.03))
    sizes = ((1600, 1200), (1000, 800))
    world = collection(photos=20, points=500, lenses=lenses, sizes=sizes, noise_px=0.5, seed=seed)
    start = world.bundle(wrong=0.02, wrong_px=20.0)

    options = pycolmap.BundleAdjustmentOptions(print_summary=False, refine_principal_point=False)
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = LOSS_PX
    options.ceres.solver_options.max_num_iterations = 200
    options.ceres.solver_options.function_tolerance = 1e-12
    options.ceres.solver_options.num_threads = 1
    model = to_colmap(start, world.size)
    assert cost(with_model(start, model)) == pytest.approx(cost(start), rel=1e-12)
    pycolmap.bundle_adjustment(model, options)
    theirs = with_model(start, model)

    ours, summary = adjust(start, Adjust(distortion=True, loss_px=LOSS_PX, max_iterations=200, tolerance=1e-9))
    assert summary.iterations <= 14  # plain reweighting takes 17 and more
    assert summary.final_cost == pytest.approx(cost(ours), rel=1e-12)
    assert cost(ours) < 0.9 * cost(start)
    assert cost(ours) == pytest.approx(cost(theirs), rel=1e-6)
    np.testing.assert_allclose(ours.intrinsics[:, :2], theirs.intrinsics[:, :2], rtol=1e-4)
    apart = (
        world.errors(ours.cam_from_world).rotation_error_deg - world.errors(theirs.cam_from_world).rotation_error_deg
    )
    assert np.abs(apart).max() < 1e-3
