"""Between the artifacts of the pipeline and the plain arrays of optim, for all mappers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from unposed.optim.bundle.intrinsics import Intrinsics, intrinsics_with_priors
from unposed.optim.bundle.problem import Bundle, errors_px
from unposed.optim.cameras import CAMERA_MODELS, intrinsics_of, params_of
from unposed.optim.mapping.tracks import Correspondences, Keypoints, establish_tracks, spread_subset
from unposed.optim.mapping.triangulation import triangulate
from unposed.pipeline.artifacts import Bytes, Camera, CameraPriors, Photos, SparseModel
from unposed.pipeline.stage import StageError

from .evidence import Evidence

Array = NDArray[np.float64]

SKETCH_ERROR = 6.0
"""By the noise unit: poses from depths are not yet exact."""

PRIOR_NOISE = 0.75
"""By the noise unit; see optim.bundle.problem.Prior."""


def belief_of(cameras: CameraPriors, unit_px: float) -> Intrinsics:
    """What the cameras node says, as optim puts it."""
    unknown = sorted({camera.model for camera in cameras.cameras} - set(CAMERA_MODELS))
    if unknown:
        known = ", ".join(CAMERA_MODELS)
        raise StageError(f"this mapper does not know the camera model {unknown[0]}; it knows {known}")
    return intrinsics_with_priors(
        [camera.model for camera in cameras.cameras],
        [camera.params for camera in cameras.cameras],
        np.array([(camera.width, camera.height) for camera in cameras.cameras], np.float64).reshape(-1, 2),
        cameras.focal_source,
        np.asarray(cameras.camera_of_photo, np.int64),
        PRIOR_NOISE * unit_px,
    )


def scene_of(bundle: Bundle, views: Keypoints, rgb_of: Callable[[int], Bytes]) -> SparseModel:
    """The posed photos of a bundle, with all their key points, and its points with colours and errors."""
    photos = np.flatnonzero(np.isfinite(bundle.cam_from_world[:, 0, 0]))
    used, camera_of_photo = np.unique(bundle.camera_of_photo[photos], return_inverse=True)
    starts = views.start[photos]
    counts = views.start[photos + 1] - starts
    xy_start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    row_in_scene = np.searchsorted(photos, bundle.photo)
    obs_xy = bundle.row - starts[row_in_scene] + xy_start[row_in_scene]
    order = np.lexsort((obs_xy, bundle.point))
    colours = np.concatenate([np.zeros((0, 3), np.uint8), *(rgb_of(int(p)) for p in photos)])
    points = len(bundle.points)
    return SparseModel(
        cameras=tuple(_camera(bundle, int(k), views) for k in used),
        photos=photos.astype(np.int32),
        camera_of_photo=camera_of_photo.astype(np.int32),
        cam_from_world=bundle.cam_from_world[photos],
        xy=np.concatenate([np.zeros((0, 2)), *(views.xy[s : s + n] for s, n in zip(starts, counts, strict=True))]),
        xy_start=xy_start,
        points=bundle.points,
        rgb=np.round(_mean_by_point(colours[obs_xy].astype(np.float64), bundle.point, points)).astype(np.uint8),
        error_px=_mean_by_point(errors_px(bundle)[:, None], bundle.point, points)[:, 0],
        obs_xy=obs_xy[order],
        obs_point=bundle.point[order],
    )


def bundle_of(scene: SparseModel, views: Keypoints, belief: Intrinsics) -> tuple[Bundle, Intrinsics]:
    """Cameras and poses of a scene as a bundle without points, and the belief about its cameras.

    Photos outside the scene share the camera of their group with those inside, unless the scene took groups apart:
    then theirs is the one of before.
    """
    posed = np.full((len(views), 3, 4), np.nan)
    posed[scene.photos] = scene.cam_from_world
    group = belief.camera_of_photo[scene.photos]
    if any(len(np.unique(scene.camera_of_photo[group == g])) > 1 for g in np.unique(group)):
        belief = belief.split()  # the mapper took assumed groups apart
        group = belief.camera_of_photo[scene.photos]
    models, rows = list(belief.models), belief.values.copy()
    for own, index in zip(group, scene.camera_of_photo, strict=True):
        camera = scene.cameras[index]
        models[own], rows[own] = camera.model, intrinsics_of(camera.model, camera.params)
    nothing = np.zeros(0, np.int64)
    bundle = Bundle(
        models=tuple(models),
        intrinsics=rows,
        camera_of_photo=belief.camera_of_photo,
        cam_from_world=posed,
        points=np.zeros((0, 3)),
        xy=np.zeros((0, 2)),
        photo=nothing,
        point=nothing,
        row=nothing,
    )
    return bundle, belief.with_focals(rows[:, 0])


def sketch(
    evidence: Evidence, matches: Correspondences, cameras: Intrinsics, cam_from_world: Array, per_photo: int
) -> Bundle:
    """Cameras and poses with a spread subset of the points that the matches show, so that there is something to see."""
    return triangulate(
        evidence.views,
        spread_subset(establish_tracks(evidence.views, matches.row_a, matches.row_b), len(evidence.views), per_photo),
        cameras.models,
        cameras.values,
        cameras.camera_of_photo,
        cam_from_world,
        max_error_px=SKETCH_ERROR * evidence.unit_px,
        min_angle_deg=0.5,
    )


def reasons(photos: Photos, evidence: Evidence, placed: Sequence[int]) -> dict[int, str]:
    """Why photos are in no component."""
    partners = np.bincount(evidence.matches.pairs.ravel(), minlength=len(photos))
    out = {}
    for index in sorted(set(range(len(photos))) - set(placed)):
        if index in evidence.unusable:
            out[index] = evidence.unusable[index]
        elif partners[index] == 0:
            out[index] = "no other photo was found to overlap it"
        else:
            others = "the photo that overlaps it" if partners[index] == 1 else f"{partners[index]} overlapping photos"
            out[index] = f"its geometry with {others} did not agree with the rest"
    return out


def _camera(bundle: Bundle, camera: int, views: Keypoints) -> Camera:
    photo = int(np.flatnonzero(bundle.camera_of_photo == camera)[0])
    model = bundle.models[camera]
    width, height = views.size[photo].tolist()
    return Camera(model, width, height, params_of(model, bundle.intrinsics[camera]))


def _mean_by_point(values: Array, point: NDArray[np.int64], points: int) -> Array:
    count = np.maximum(np.bincount(point, minlength=points), 1)
    sums = [np.bincount(point, weights=column, minlength=points) for column in values.T]
    return np.stack(sums, axis=1) / count[:, None]
