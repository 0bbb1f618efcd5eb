"""Bundle adjustment by Ceres through pycolmap: a cross-check of our own, and its peer in the benchmarks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pycolmap

from ..arrays import Array
from ..cameras import CX, CY, intrinsics_of, params_of
from .intrinsics import FIXED_SIGMA
from .losses import CAUCHY, HUBER, SQUARED, Loss, barron
from .pose_priors import DepthPriors, PosePriors
from .problem import Bundle, BundleOptions, BundleSummary, IntrinsicsPrior

CERES_LOSSES = {
    CAUCHY.name: pycolmap.LossFunctionType.CAUCHY,
    HUBER.name: pycolmap.LossFunctionType.HUBER,
    SQUARED.name: pycolmap.LossFunctionType.TRIVIAL,
    barron(1.0).name: pycolmap.LossFunctionType.SOFT_L1,
}
"""By the name of our loss."""


def ceres_loss(loss: Loss) -> pycolmap.LossFunctionType:
    """The same loss in Ceres; ValueError where COLMAP offers none."""
    if loss.name not in CERES_LOSSES:
        raise ValueError(f"loss: Ceres has no {loss.name!r}; it has {', '.join(CERES_LOSSES)}")
    return CERES_LOSSES[loss.name]


def adjust_by_ceres(
    bundle: Bundle,
    options: BundleOptions,
    prior: IntrinsicsPrior | None = None,
    sigma: Array | None = None,
    pose_priors: PosePriors | None = None,
    depth_priors: DepthPriors | None = None,
) -> tuple[Bundle, BundleSummary]:
    """Adjust a bundle as `adjust_bundle` does, as far as COLMAP's bundle adjustment can.

    It ignores `sigma` and `depth_priors`; of `prior` it keeps what is fixed (the principal point for all cameras or for
    none), of `pose_priors` fixed poses; and it does not report the costs of single steps.
    """
    del sigma, depth_priors
    model, adjuster = ceres_problem(bundle, options, prior, pose_priors)
    solved = adjuster.solve()
    assert isinstance(solved, pycolmap.CeresBundleAdjustmentSummary)
    summary = solved.ceres_summary
    iterations = summary.num_successful_steps + summary.num_unsuccessful_steps
    first, last = summary.initial_cost, summary.final_cost
    return _from_colmap(bundle, model), BundleSummary(first, last, iterations, (first, last))


def ceres_problem(
    bundle: Bundle, options: BundleOptions, prior: IntrinsicsPrior | None = None, pose_priors: PosePriors | None = None
) -> tuple[pycolmap.Reconstruction, pycolmap.BundleAdjuster]:
    """The bundle as a COLMAP model, and a bundle adjuster whose solve() changes it in place."""
    model = _to_colmap(bundle)
    fixed = np.zeros_like(bundle.intrinsics, bool) if prior is None else prior.sigma <= FIXED_SIGMA
    fixed_cameras = fixed.all(axis=1)
    settings = pycolmap.BundleAdjustmentOptions(
        print_summary=False,
        refine_focal_length=options.focal,
        refine_principal_point=options.principal and not fixed[~fixed_cameras][:, [CX, CY]].any(),
        refine_extra_params=options.distortion,
        constant_rig_from_world_rotation=not options.rotations,
    )
    settings.ceres.loss_function_type = ceres_loss(options.loss)
    settings.ceres.loss_function_scale = options.loss_px
    settings.ceres.solver_options.max_num_iterations = options.max_iterations
    settings.ceres.solver_options.function_tolerance = options.tolerance
    settings.ceres.solver_options.num_threads = 1
    config = pycolmap.BundleAdjustmentConfig()
    for image_id, image in model.images.items():
        config.add_image(image_id)
        if pose_priors is not None and pose_priors.fixed[image_id - 1]:
            config.set_constant_rig_from_world_pose(image.frame_id)
    for camera in np.flatnonzero(fixed_cameras):
        config.set_constant_cam_intrinsics(int(camera) + 1)
    return model, pycolmap.create_default_ceres_bundle_adjuster(settings, config, model)


def _to_colmap(bundle: Bundle) -> pycolmap.Reconstruction:
    """A COLMAP model of the bundle: ids of cameras, images and points are indices plus one; photos without a pose are
    left out."""
    model = pycolmap.Reconstruction()
    for k, name in enumerate(bundle.models):
        params = params_of(name, bundle.intrinsics[k])
        # COLMAP requires a size; bundle adjustment does not use it.
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(camera_id=k + 1, model=name, width=1, height=1, params=list(params))
        )
    order = np.argsort(bundle.photo, kind="stable")
    starts = np.searchsorted(bundle.photo[order], np.arange(len(bundle.cam_from_world) + 1))
    row_in_image = np.empty(len(order), np.int64)
    for photo in np.flatnonzero(np.isfinite(bundle.cam_from_world[:, 0, 0])):
        own = order[starts[photo] : starts[photo + 1]]
        row_in_image[own] = np.arange(len(own))
        image = pycolmap.Image(
            name=str(photo), camera_id=int(bundle.camera_of_photo[photo]) + 1, image_id=int(photo) + 1
        )
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in bundle.xy[own]])
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(bundle.cam_from_world[photo]))
    bounds = np.searchsorted(bundle.point, np.arange(len(bundle.points) + 1))
    image_ids, rows = (bundle.photo + 1).tolist(), row_in_image.tolist()
    grey = np.zeros(3, np.uint8)
    for begin, end, xyz in zip(bounds[:-1].tolist(), bounds[1:].tolist(), bundle.points, strict=True):
        track = pycolmap.Track()
        for i in range(begin, end):
            track.add_element(image_ids[i], rows[i])
        model.add_point3D(xyz, track, grey)
    return model


def _from_colmap(bundle: Bundle, model: pycolmap.Reconstruction) -> Bundle:
    """The bundle with poses, intrinsics and points of the model."""
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
