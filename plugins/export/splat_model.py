"""The part of a model that splats are trained from: without stray cameras and points, in a frame of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unposed.optim.partition.model_merging import moved_poses
from unposed.optim.poses import camera_centres
from unposed.optim.scene_frame import far_from_others, upright_frame
from unposed.optim.similarity import Similarity
from unposed.pipeline.artifacts import Bools, Photos, SparseModel
from unposed.pipeline.errors import InputError

ONE_SPOT = 1e-4
"""Spread of the cameras over the median depth of the points below which no photo sees a point from elsewhere."""


def trainable(model: SparseModel, photos: Photos) -> None:
    """InputError if nothing can be trained from the model: too few photos, one spot, or photos that have changed."""
    if len(model.photos) < 2:
        raise InputError("one registered photo shows no depth: splats need several, from several places")
    if not len(model.points):
        raise InputError("the model has no points, from which splats start: reconstruct with points")
    centres = camera_centres(model.cam_from_world)
    depth = float(np.median(np.linalg.norm(model.points - centres.mean(axis=0), axis=1)))
    if not np.ptp(centres, axis=0).max() > ONE_SPOT * depth:
        raise InputError("all photos were taken from one spot, which shows no depth: splats need several places")
    for row, index in enumerate(model.photos.tolist()):
        camera, photo = model.cameras[model.camera_of_photo[row]], photos[index]
        if (photo.width, photo.height) != (camera.width, camera.height):
            raise InputError(
                f"{photo.path}: the photo has changed since: it has {photo.width} x {photo.height} pixels, and had "
                f"{camera.width} x {camera.height}: reconstruct again, or put the old one back"
            )


def without_far_cameras(model: SparseModel, ratio: float) -> tuple[SparseModel, list[int]]:
    """The model without the cameras that are far from all others, and the photos of these."""
    far = far_from_others(camera_centres(model.cam_from_world), ratio)
    if not far.any():
        return model, []
    lengths = np.diff(model.xy_start)
    kept = selected(model, np.repeat(~far, lengths))
    own = np.concatenate([kept.xy_start[:-1][~far], kept.xy_start[-1:]])
    smaller = replace(
        kept,
        photos=model.photos[~far],
        camera_of_photo=model.camera_of_photo[~far],
        cam_from_world=model.cam_from_world[~far],
        xy_start=own,
    )
    return smaller, model.photos[far].tolist()


def without_cameras_of_none(model: SparseModel) -> SparseModel:
    """The model with the cameras only that have photos."""
    used, row = np.unique(model.camera_of_photo, return_inverse=True)
    cameras = tuple(model.cameras[number] for number in used.tolist())
    return replace(model, cameras=cameras, camera_of_photo=row.astype(np.int32))


def selected(model: SparseModel, keep_xy: Bools, keep_points: Bools | None = None) -> SparseModel:
    """The model with these key points and points only, of the latter those that at least two key points observe.

    Of points at exactly one place the first stays: trainers take the distance to the nearest points as the first size
    of a splat. Our own mappers make none, others do of two key points at one pixel.
    """
    first = np.zeros(len(model.points), bool)
    first[np.unique(model.points, axis=0, return_index=True)[1]] = True
    wanted = first if keep_points is None else first & keep_points
    keep = keep_xy[model.obs_xy] & wanted[model.obs_point]
    seen = np.bincount(model.obs_point[keep], minlength=len(model.points)) >= 2
    keep &= seen[model.obs_point]
    before = np.concatenate([[0], np.cumsum(keep_xy)])
    return replace(
        model,
        xy=model.xy[keep_xy],
        xy_start=before[model.xy_start],
        points=model.points[seen],
        rgb=model.rgb[seen],
        error_px=model.error_px[seen],
        obs_xy=before[model.obs_xy[keep]],
        obs_point=(np.cumsum(seen) - 1)[model.obs_point[keep]],
    )


def chosen_points(model: SparseModel, budget: int | None, ratio: float) -> tuple[Bools, int]:
    """Which points are kept, and how many were stray: none far away, and of the others at most a budget.

    A random choice is as dense everywhere, in proportion, as all points are; the longest tracks would crowd where most
    photos look.
    """
    far = far_from_others(model.points.astype(np.float64), ratio)
    keep = ~far
    if budget is not None and keep.sum() > budget:
        dropped = np.random.default_rng(0).permutation(np.flatnonzero(keep))[budget:]
        keep[dropped] = False
    return keep, int(far.sum())


def in_frame(model: SparseModel, frame: Similarity) -> SparseModel:
    """The same model in another frame."""
    poses = moved_poses(model.cam_from_world.astype(np.float64), frame)
    return replace(model, cam_from_world=poses, points=frame(model.points))


def frame_of(model: SparseModel, kind: str) -> Similarity:
    """The similarity to a frame: `unit`, `metric` or `keep`."""
    if kind == "keep":
        return Similarity(1.0, np.eye(3), np.zeros(3))
    return upright_frame(model.cam_from_world.astype(np.float64), keep_scale=kind == "metric")


def names_of(photos: Photos, indices: Sequence[int]) -> list[str]:
    """Names of photos of the collection."""
    return [photos[index].name for index in indices]
