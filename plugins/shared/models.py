"""Conversions between artifacts and the arrays of optim: camera priors, initial models and sparse models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array
from unposed.optim.bundle.intrinsics import Intrinsics, intrinsics_with_priors
from unposed.optim.bundle.problem import Bundle, errors_px
from unposed.optim.cameras import CAMERA_MODELS, intrinsics_of, params_of
from unposed.optim.mapping.dense_keypoints import leave_out
from unposed.optim.mapping.tracks import establish_tracks, spread_subset
from unposed.optim.mapping.triangulation import triangulate
from unposed.optim.option_ranges import Count, Positive
from unposed.optim.view_graph import Keypoints, ViewGraph
from unposed.pipeline.artifacts import (
    Camera,
    CameraPriors,
    Doubts,
    InitialModel,
    SparseModel,
)
from unposed.pipeline.config import Within
from unposed.pipeline.stage import StageError

FEW_KEYPOINTS = 100
"""Key points of a photo below which their number is given as a reason why it matches nothing: photos have thousands."""
PRIOR_NOISE = 0.75
"""Default of the option prior_noise: IntrinsicsPrior.noise_px in units of ViewGraph.keypoint_error_px. Less than one:
the expected error is a bound for thresholds, and most key points are more exact."""


@dataclass(frozen=True)
class TriangulatedSubsetOptions:
    """Triangulation of a subset of the tracks under poses that are not exact."""

    tracks_per_photo: Count = 150
    """Long tracks first."""
    max_error: Positive = 6.0
    """Observations with larger reprojection errors are removed, in expected key point errors: poses are not exact."""
    min_angle_deg: Annotated[float, Within("[0, 90]")] = 0.5
    """Points seen under smaller triangulation angles are removed."""


def without_doubts(view_graph: ViewGraph, doubts: Doubts | None) -> ViewGraph:
    """The view graph without doubtful pairs."""
    return view_graph if doubts is None else leave_out(view_graph, doubts.pairs)


def intrinsics_of_priors(
    cameras: CameraPriors, keypoint_error_px: float, prior_noise: float = PRIOR_NOISE
) -> Intrinsics:
    """Initial intrinsics with their priors."""
    unknown = sorted({camera.model for camera in cameras.cameras} - set(CAMERA_MODELS))
    if unknown:
        raise StageError(
            f"this mapper does not know the camera model {unknown[0]}; it knows {', '.join(CAMERA_MODELS)}"
        )
    return intrinsics_with_priors(
        [camera.model for camera in cameras.cameras],
        [camera.params for camera in cameras.cameras],
        np.array([(camera.width, camera.height) for camera in cameras.cameras], np.float64).reshape(-1, 2),
        cameras.focal_source,
        np.asarray(cameras.camera_of_photo, np.int64),
        prior_noise * keypoint_error_px,
        cameras.prior,
        None if cameras.given_sigma is None else np.asarray(cameras.given_sigma, np.float64),
        None if cameras.guess_log_sigma is None else np.asarray(cameras.guess_log_sigma, np.float64),
    )


def initial_model(intrinsics: Intrinsics, cam_from_world: Array, keypoints: Keypoints) -> InitialModel:
    """The model of the photos that have a pose in `cam_from_world` (photos, 3, 4)."""
    photos = np.flatnonzero(np.isfinite(cam_from_world[:, 0, 0]))
    used, camera_of_photo = np.unique(intrinsics.camera_of_photo[photos], return_inverse=True)
    return InitialModel(
        cameras=tuple(
            _camera(intrinsics.models, intrinsics.values, intrinsics.camera_of_photo, int(k), keypoints) for k in used
        ),
        photos=photos.astype(np.int32),
        camera_of_photo=camera_of_photo.astype(np.int32),
        cam_from_world=cam_from_world[photos],
    )


def initial_model_of(bundle: Bundle, intrinsics: Intrinsics, keypoints: Keypoints) -> InitialModel:
    """The model of poses and intrinsics of a bundle that has the cameras of `intrinsics`."""
    return initial_model(intrinsics.with_values(bundle.intrinsics), bundle.cam_from_world, keypoints)


def sparse_model(bundle: Bundle, keypoints: Keypoints) -> SparseModel:
    """The model of a bundle: registered photos with all their key points, and points with colours and errors."""
    photos = np.flatnonzero(np.isfinite(bundle.cam_from_world[:, 0, 0]))
    used, camera_of_photo = np.unique(bundle.camera_of_photo[photos], return_inverse=True)
    starts = keypoints.start[photos]
    counts = keypoints.start[photos + 1] - starts
    xy_start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    row_in_model = np.searchsorted(photos, bundle.photo)
    obs_xy = bundle.row - starts[row_in_model] + xy_start[row_in_model]
    order = np.lexsort((obs_xy, bundle.point))
    points = len(bundle.points)
    rgb = np.zeros((len(bundle.row), 3)) if keypoints.rgb is None else keypoints.rgb[bundle.row].astype(np.float64)
    owned = [keypoints.xy[keypoints.rows_of(photo)] for photo in photos.tolist()]
    return SparseModel(
        cameras=tuple(
            _camera(bundle.models, bundle.intrinsics, bundle.camera_of_photo, int(k), keypoints) for k in used
        ),
        photos=photos.astype(np.int32),
        camera_of_photo=camera_of_photo.astype(np.int32),
        cam_from_world=bundle.cam_from_world[photos],
        xy=np.concatenate([np.zeros((0, 2)), *owned]),
        xy_start=xy_start,
        points=bundle.points,
        rgb=np.round(_mean_by_point(rgb, bundle.point, points)).astype(np.uint8),
        error_px=_mean_by_point(errors_px(bundle)[:, None], bundle.point, points)[:, 0],
        obs_xy=obs_xy[order],
        obs_point=bundle.point[order],
        rigs=None if bundle.rigs is None else bundle.rigs.of_photos(photos),
    )


def initial_bundle(model: InitialModel, photos: int, intrinsics: Intrinsics) -> tuple[Bundle, Intrinsics]:
    """Cameras and poses of an initial model as a bundle without points, and the intrinsics with their priors.

    Photos outside the model share the camera of their group with those inside, unless the model has several for it:
    then each keeps its initial one for itself.
    """
    posed = np.full((photos, 3, 4), np.nan)
    posed[model.photos] = model.cam_from_world
    group = intrinsics.camera_of_photo[model.photos]
    if any(len(np.unique(model.camera_of_photo[group == g])) > 1 for g in np.unique(group)):
        first = np.arange(photos)  # the mapper split an assumed group
        first[model.photos] = model.photos[np.unique(model.camera_of_photo, return_index=True)[1]][
            model.camera_of_photo
        ]
        intrinsics = intrinsics.grouped(np.unique(first, return_inverse=True)[1])
        group = intrinsics.camera_of_photo[model.photos]
    models, values = list(intrinsics.models), intrinsics.values.copy()
    for own, index in zip(group, model.camera_of_photo, strict=True):
        camera = model.cameras[index]
        models[own], values[own] = camera.model, intrinsics_of(camera.model, camera.params)
    nothing = np.zeros(0, np.int64)
    bundle = Bundle(
        models=tuple(models),
        intrinsics=values,
        camera_of_photo=intrinsics.camera_of_photo,
        cam_from_world=posed,
        points=np.zeros((0, 3)),
        xy=np.zeros((0, 2)),
        photo=nothing,
        point=nothing,
        row=nothing,
    )
    return bundle, intrinsics.with_focals(values[:, 0])


def triangulated_subset(
    graph: ViewGraph, intrinsics: Intrinsics, cam_from_world: Array, options: TriangulatedSubsetOptions
) -> Bundle:
    """Triangulate a subset of the tracks, about `tracks_per_photo` of each photo."""
    keypoints = graph.keypoints
    return triangulate(
        keypoints,
        spread_subset(establish_tracks(keypoints, *graph.matches()), graph.photo_count, options.tracks_per_photo),
        intrinsics.models,
        intrinsics.values,
        intrinsics.camera_of_photo,
        cam_from_world,
        max_error_px=options.max_error * graph.keypoint_error_px,
        min_angle_deg=options.min_angle_deg,
    )


def reasons_left_out(graph: ViewGraph, models: Iterable[InitialModel | SparseModel]) -> dict[int, str]:
    """Why photos are in no model."""
    registered = {int(photo) for model in models for photo in model.photos}
    partners = np.bincount(graph.pairs.ravel(), minlength=graph.photo_count)
    keypoints = np.diff(graph.keypoints.start)
    out = {}
    for index in sorted(set(range(graph.photo_count)) - registered):
        if index in graph.unmatched:
            out[index] = graph.unmatched[index]
        elif partners[index] == 0:
            few = 0 < keypoints[index] < FEW_KEYPOINTS  # none: key points are made of matches, or that is said already
            bare = f"only {keypoints[index]} key points were found in it, and " if few else ""
            out[index] = f"{bare}it has verified matches with no other photo"
        else:
            others = "1 photo" if partners[index] == 1 else f"{partners[index]} photos"
            out[index] = f"it could not be registered: its matches with {others} are inconsistent with the others"
    return out


def _camera(
    models: Sequence[str], intrinsics: Array, camera_of_photo: NDArray[np.int64], camera: int, keypoints: Keypoints
) -> Camera:
    photo = int(np.flatnonzero(camera_of_photo == camera)[0])
    width, height = keypoints.size[photo].tolist()
    return Camera(models[camera], width, height, params_of(models[camera], intrinsics[camera]))


def _mean_by_point(values: Array, point: NDArray[np.int64], points: int) -> Array:
    count = np.maximum(np.bincount(point, minlength=points), 1)
    sums = [np.bincount(point, weights=column, minlength=points) for column in values.T]
    return np.stack(sums, axis=1) / count[:, None]
