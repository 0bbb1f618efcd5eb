"""The photos and points of a reconstruction as localization reads them: which key point of which photo sees what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from unposed.optim.arrays import Array, Array32, Index, Mask
from unposed.optim.cameras import fisheyes, intrinsics_of, project_with_jacobians
from unposed.optim.mapping.keypoint_error import detected_keypoint_error_px, detected_keypoint_errors_px
from unposed.optim.pair.matching import unit_rows
from unposed.optim.view_graph import KeypointOptions
from unposed.pipeline.artifacts import Camera, Features, PairMatches, Photo, Photos, SparseModel
from unposed.retrieval.photo_votes import VoteTable, vote_table

MAX_MEDIAN_ALIGNED_SHARE = 0.005
"""Of the longer side, for the median of a photo: alignment moves key points by parts of it, and equal numbers of other
key points lie a quarter of the photo apart. A single key point may be moved further; half of them are not."""


@dataclass(frozen=True, eq=False)
class MappedPhoto:
    """A registered photo."""

    photo: Photo
    model: int
    """Number of its model."""
    camera: Camera
    cam_from_world: Array
    """(3, 4)."""
    xy: Array
    """(k, 2) the key points that see a point, as they were detected: what matches lead to."""
    aligned_xy: Array
    """(k, 2) the same where the model has them: an alignment in the pixels of the photos has moved some."""
    keypoint: Index
    """(k,) their numbers among the key points of the photo."""
    point: Index
    """(k,) the points that they see, rows of `ModelMap.points`."""


@dataclass(frozen=True, eq=False)
class ModelMap:
    """All models of a reconstruction: registered photos, and points of which each belongs to one model."""

    photos: tuple[MappedPhoto, ...]
    points: Array
    """(n, 3) in the world of their model."""
    point_model: Index
    """(n,) the number of that model."""
    first_point: Index
    """(models,) row in `points` of the first point of each model."""
    seen_by: Index
    """(m,) rows of `photos` that see the points, point after point."""
    seen_start: Index
    """(n + 1,): point i is seen by seen_by[seen_start[i]:seen_start[i + 1]]."""
    noise: Array
    """(models,) noise of the key points of each model as its reprojection errors show it, in expected errors of
    detected ones: aligned ones have a fraction of it."""

    def covisible(self, points: Index) -> Index:
        """(photos,) how many of these points each photo sees."""
        return np.bincount(self.seen_by[self._observations(points)[0]], minlength=len(self.photos))

    def point_covariances(self, points: Index) -> Array:
        """(n, 3, 3) covariances of these points under exact poses of the photos that see them: the inverse of the sum
        of J^T J / s^2 over these photos, J the derivative of the pixel by the point, s the noise of its key point."""
        rows, of = self._observations(points)
        own = self.seen_by[rows]
        poses = self._poses[own]
        y = np.einsum("mij,mj->mi", poses[:, :, :3], self.points[points[of]]) + poses[:, :, 3]
        y[:, 2] = np.maximum(y[:, 2], 1e-9)
        intrinsics, round_eye, noise_px = self._cameras
        by_point = project_with_jacobians(y, intrinsics[own], round_eye[own])[1] @ poses[:, :, :3]
        by_point /= noise_px[own, None, None]
        information = np.zeros((len(points), 3, 3))
        np.add.at(information, of, by_point.transpose(0, 2, 1) @ by_point)
        # Rays that are nearly parallel leave the depth open; a ten-thousandth of the rest stands for its limits.
        information += 1e-8 * np.trace(information, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        return np.asarray(np.linalg.inv(information), np.float64)

    @cached_property
    def _poses(self) -> Array:
        """(photos, 3, 4) cam_from_world."""
        return np.array([each.cam_from_world for each in self.photos])

    @cached_property
    def _cameras(self) -> tuple[Array, Mask, Array]:
        """Intrinsics (photos, 8), which of the photos are of a fisheye, and the noise of their key points in pixels."""
        size = np.array([(each.camera.width, each.camera.height) for each in self.photos])
        share = self.noise[[each.model for each in self.photos]]
        return (
            np.array([intrinsics_of(each.camera.model, each.camera.params) for each in self.photos]),
            fisheyes([each.camera.model for each in self.photos]),
            detected_keypoint_errors_px(size, KeypointOptions()) * share,
        )

    def _observations(self, points: Index) -> tuple[Index, Index]:
        """Rows of `seen_by` of these points, and which of the points each belongs to."""
        count = self.seen_start[points + 1] - self.seen_start[points]
        begin = np.repeat(self.seen_start[points] - np.cumsum(count) + count, count)
        return begin + np.arange(len(begin)), np.repeat(np.arange(len(points)), count)


def model_map(models: Sequence[SparseModel], photos: Photos, min_noise: float) -> ModelMap:
    """The map of all models of a reconstruction."""
    mapped: list[MappedPhoto] = []
    columns: list[tuple[Index, Index]] = []
    first, points = [0], [np.zeros((0, 3))]
    for number, model in enumerate(models):
        owner = model.obs_photo
        seen = np.asarray(model.obs_point, np.int64) + first[-1]
        columns.append((seen, owner + len(mapped)))
        order = np.argsort(model.obs_xy, kind="stable")
        bounds = np.searchsorted(owner[order], np.arange(len(model.photos) + 1))
        for row, (index, pose) in enumerate(zip(model.photos.tolist(), model.cam_from_world, strict=True)):
            own = order[bounds[row] : bounds[row + 1]]
            camera = model.cameras[int(model.camera_of_photo[row])]
            xy = np.asarray(model.xy[model.obs_xy[own]], np.float64)
            keypoint = np.asarray(model.obs_xy[own], np.int64) - int(model.xy_start[row])
            cam_from_world = np.asarray(pose, np.float64)
            mapped.append(MappedPhoto(photos[index], number, camera, cam_from_world, xy, xy, keypoint, seen[own]))
        points.append(np.asarray(model.points, np.float64))
        first.append(first[-1] + len(model.points))
    point, owner = (np.concatenate([np.zeros(0, np.int64), *column]) for column in zip(*columns, strict=True))
    order = np.argsort(point, kind="stable")
    return ModelMap(
        photos=tuple(mapped),
        points=np.concatenate(points),
        point_model=np.repeat(np.arange(len(models)), np.diff(first)),
        first_point=np.array(first[:-1], np.int64),
        seen_by=owner[order],
        seen_start=np.searchsorted(point[order], np.arange(first[-1] + 1)),
        noise=np.array([max(_noise(model), min_noise) for model in models]),
    )


def _noise(model: SparseModel) -> float:
    """Median reprojection error of the points of a model, in expected errors of detected key points."""
    error_px = model.error_px[np.isfinite(model.error_px)]
    size = np.array([(model.cameras[own].width, model.cameras[own].height) for own in model.camera_of_photo.tolist()])
    if not len(error_px):
        return 1.0
    return float(np.median(error_px)) / detected_keypoint_error_px(size, KeypointOptions())


def as_detected(mapped: MappedPhoto, features: Features) -> MappedPhoto:
    """The photo with its key points where its features have them, by their numbers; as it is where the key points are
    not of these features, as those that are made of dense matches."""
    known = mapped.keypoint < len(features.xy)
    detected = features.xy[mapped.keypoint[known]].astype(np.float64)
    bound_px = MAX_MEDIAN_ALIGNED_SHARE * max(mapped.photo.width, mapped.photo.height)
    offset_px = np.linalg.norm(detected - mapped.aligned_xy[known], axis=1)
    if not known.any() or np.median(offset_px) > bound_px:
        return mapped
    xy = mapped.aligned_xy.copy()
    xy[known] = detected
    return replace(mapped, xy=xy)


def observed_part(value: Any, mapped: MappedPhoto) -> Any:
    """The key points of a photo's features that see a point; other values as they are.

    Matching the others is a waste: no pose follows from them. Features none of which is a key point of the model, as
    those of a retrieval network, are kept whole.
    """
    if not isinstance(value, Features):
        return value
    rows = np.flatnonzero(np.isin(_as_complex(value.xy), _as_complex(mapped.xy)))
    if not len(rows):
        return value
    return Features(value.xy[rows], value.scale[rows], value.descriptors[rows], value.rgb[rows], value.score[rows])


def correspondences(matches: PairMatches, mapped: MappedPhoto, max_offset_px: float) -> tuple[Array, Index]:
    """Pixels (m, 2) of the first photo of a pair, and the points (m,) that they see by its matches with a photo of the
    model: those of the matched key points, or without these of the nearest ones."""
    if not len(mapped.xy) or not len(matches.xy_b):
        return np.zeros((0, 2)), np.zeros(0, np.int64)
    if matches.index_b is not None:  # the very key points
        own, wanted = _as_complex(mapped.xy), _as_complex(matches.xy_b)
        order = np.argsort(own, kind="stable")
        row = order[np.minimum(np.searchsorted(own[order], wanted), len(own) - 1)]
        known = own[row] == wanted
    else:
        # Here: it is needed for dense matches alone, and importing it takes a third of what a localizer does.
        from scipy.spatial import cKDTree

        found = cKDTree(mapped.xy).query(matches.xy_b.astype(np.float64), distance_upper_bound=max_offset_px)
        distance, row = (np.asarray(each) for each in found)
        known = np.isfinite(distance)
    return matches.xy_a[known].astype(np.float64), mapped.point[row[known]]


def largest_unit_rows(features: Features, count: int) -> Array32:
    """Unit descriptors of the largest key points, which retrieval compares."""
    return unit_rows(features.descriptors[np.argsort(-features.scale, kind="stable")[:count]])


def model_vote_table(features: Sequence[Features], count: int) -> VoteTable:
    """The descriptors of the model that retrieval compares."""
    return vote_table([largest_unit_rows(each, count) for each in features])


def _as_complex(xy: Any) -> Any:
    pairs = np.ascontiguousarray(xy, np.float64)
    return pairs.view(np.complex128)[:, 0] if len(pairs) else np.zeros(0, np.complex128)
