"""Bundle adjustment by Ceres through pycolmap: the cross-check of our own, and its peer in the benchmarks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pycolmap
from numpy.typing import NDArray

from ..cameras import CX, CY, intrinsics_of, params_of
from .intrinsics import HELD
from .losses import CAUCHY, HUBER, SQUARES
from .pose_priors import DepthPriors, PosePriors
from .problem import Bundle, BundleOptions, BundleSummary, IntrinsicsPrior

Array = NDArray[np.float64]

LOSSES = {
    CAUCHY: pycolmap.LossFunctionType.CAUCHY,
    HUBER: pycolmap.LossFunctionType.HUBER,
    SQUARES: pycolmap.LossFunctionType.TRIVIAL,
}


def adjust_by_ceres(
    bundle: Bundle,
    options: BundleOptions,
    prior: IntrinsicsPrior | None = None,
    sigma: Array | None = None,
    anchors: PosePriors | None = None,
    depths: DepthPriors | None = None,
) -> tuple[Bundle, BundleSummary]:
    """As optim.bundle.adjust.adjust, but all observations are equally exact and intrinsics are free or fixed: COLMAP's
    adjustment has no place for `sigma` and `depths`, and of a `prior` it only heeds what is held, the principal point
    for all cameras or none, and of anchors only fixed poses; nor does it tell the costs on the way."""
    del sigma, depths
    model, adjuster = prepared(bundle, options, prior, anchors)
    solved = adjuster.solve()
    assert isinstance(solved, pycolmap.CeresBundleAdjustmentSummary)
    summary = solved.ceres_summary
    iterations = summary.num_successful_steps + summary.num_unsuccessful_steps
    first, last = summary.initial_cost, summary.final_cost
    return _from_colmap(bundle, model), BundleSummary(first, last, iterations, (first, last))


def prepared(
    bundle: Bundle, options: BundleOptions, prior: IntrinsicsPrior | None = None, anchors: PosePriors | None = None
) -> tuple[pycolmap.Reconstruction, pycolmap.BundleAdjuster]:
    """The bundle as a model of COLMAP, and what adjusts it when its solve() is called."""
    model = _to_colmap(bundle)
    held = np.zeros_like(bundle.intrinsics, bool) if prior is None else prior.sigma <= HELD
    fixed = held.all(axis=1)
    settings = pycolmap.BundleAdjustmentOptions(
        print_summary=False,
        refine_focal_length=options.focal,
        refine_principal_point=options.principal and not held[~fixed][:, [CX, CY]].any(),
        refine_extra_params=options.distortion,
        constant_rig_from_world_rotation=not options.rotations,
    )
    settings.ceres.loss_function_type = LOSSES[options.loss]
    settings.ceres.loss_function_scale = options.loss_px
    settings.ceres.solver_options.max_num_iterations = options.max_iterations
    settings.ceres.solver_options.function_tolerance = options.tolerance
    settings.ceres.solver_options.num_threads = 1
    config = pycolmap.BundleAdjustmentConfig()
    for image_id, image in model.images.items():
        config.add_image(image_id)
        if anchors is not None and anchors.fixed[image_id - 1]:
            config.set_constant_rig_from_world_pose(image.frame_id)
    for camera in np.flatnonzero(fixed):
        config.set_constant_cam_intrinsics(int(camera) + 1)
    return model, pycolmap.create_default_ceres_bundle_adjuster(settings, config, model)


def _to_colmap(bundle: Bundle) -> pycolmap.Reconstruction:
    """Cameras and points are numbered from one; so are photos, of which those without a pose are absent."""
    model = pycolmap.Reconstruction()
    for k, name in enumerate(bundle.models):
        params = params_of(name, bundle.intrinsics[k])
        # The size is asked for and never used.
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(camera_id=k + 1, model=name, width=1, height=1, params=list(params))
        )
    order = np.argsort(bundle.photo, kind="stable")
    starts = np.searchsorted(bundle.photo[order], np.arange(len(bundle.cam_from_world) + 1))
    within = np.empty(len(order), np.int64)
    for photo in np.flatnonzero(np.isfinite(bundle.cam_from_world[:, 0, 0])):
        own = order[starts[photo] : starts[photo + 1]]
        within[own] = np.arange(len(own))
        image = pycolmap.Image(
            name=str(photo), camera_id=int(bundle.camera_of_photo[photo]) + 1, image_id=int(photo) + 1
        )
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in bundle.xy[own]])
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(bundle.cam_from_world[photo]))
    bounds = np.searchsorted(bundle.point, np.arange(len(bundle.points) + 1))
    image_ids, rows = (bundle.photo + 1).tolist(), within.tolist()
    grey = np.zeros(3, np.uint8)
    for begin, end, xyz in zip(bounds[:-1].tolist(), bounds[1:].tolist(), bundle.points, strict=True):
        track = pycolmap.Track()
        for i in range(begin, end):
            track.add_element(image_ids[i], rows[i])
        model.add_point3D(xyz, track, grey)
    return model


def _from_colmap(bundle: Bundle, model: pycolmap.Reconstruction) -> Bundle:
    """The bundle in the state of the model."""
    poses = bundle.cam_from_world.copy()
    for image_id, image in model.images.items():
        poses[image_id - 1] = image.cam_from_world().matrix()
    cameras = [model.cameras[k + 1] for k in range(len(bundle.models))]
    return replace(
        bundle,
        intrinsics=np.array([intrinsics_of(camera.model.name, camera.params.tolist()) for camera in cameras]),
        cam_from_world=poses,
        points=np.array([model.points3D[i + 1].xyz for i in range(len(bundle.points))]).reshape(-1, 3),
    )
