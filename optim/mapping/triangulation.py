"""Triangulation: points from tracks and known poses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..arrays import Array, Index, Mask
from ..bundle.problem import Bundle, errors_px
from ..cameras import fisheyes, unproject
from ..parallel import chunk_map, even_slices
from ..poses import camera_centres
from ..rigs import frames_of
from ..view_graph import Keypoints
from .tracks import Tracks

TRACK_CHUNK = 2_000
"""Tracks triangulated together: what is computed in between stays in the cache."""

RAY_CHUNK = 1 << 14
"""Rays unprojected together, for the same reason."""


def triangulate(
    keypoints: Keypoints,
    tracks: Tracks,
    models: tuple[str, ...],
    intrinsics: Array,
    camera_of_photo: Index,
    cam_from_world: Array,
    *,
    max_error_px: float,
    min_angle_deg: float,
) -> Bundle:
    """Triangulate tracks, and keep the observations that agree with their point.

    Linear triangulation three times: from all observations in registered photos, from those within twice the error
    bound, and from those within it. The last one moves points as well, those of small triangulation angles even behind
    their cameras, so that what does not agree with it is removed in the end.
    """
    posed = np.isfinite(cam_from_world[:, 0, 0])
    tracks = tracks.select(posed[tracks.photo])
    rays = rays_of(keypoints, tracks.row, tracks.photo, models, intrinsics, camera_of_photo)
    seen = np.asarray(np.isfinite(rays).all(axis=1))
    if not seen.all():
        tracks, rays = _select(tracks, seen, rays)
    bundle = _linear(keypoints, tracks, rays, models, intrinsics, camera_of_photo, cam_from_world)
    for bound_px, angle_deg in ((2.0 * max_error_px, 0.0), (max_error_px, min_angle_deg)):
        wide = np.asarray(angles_deg(bundle) >= angle_deg)
        near = np.asarray(errors_px(bundle) < bound_px)
        tracks, rays = _select(tracks, near & wide[bundle.point], rays)
        bundle = _linear(keypoints, tracks, rays, models, intrinsics, camera_of_photo, cam_from_world)
    return keep_observations(bundle, errors_px(bundle) < max_error_px)


def track_errors_px(keypoints: Keypoints, tracks: Tracks, cameras: Bundle, *, bound_px: float) -> Array:
    """(m,) reprojection error of every observation, of the point triangulated from its track under a bundle's cameras.

    Unlike the errors of the bundle itself these cannot be made small by removing observations.
    """
    calibration = (cameras.models, cameras.intrinsics, cameras.camera_of_photo, cameras.cam_from_world)
    rays = rays_of(keypoints, tracks.row, tracks.photo, *calibration[:3])
    errors = np.full(len(tracks.row), np.inf)
    valid = np.isfinite(rays).all(axis=1) & np.isfinite(cameras.cam_from_world[tracks.photo, 0, 0])
    for _ in range(2):  # all observations, then those within the bound
        valid &= (np.bincount(tracks.track[valid], minlength=tracks.count) >= 2)[tracks.track]
        if not valid.any():
            break
        bundle = _linear(keypoints, tracks.select(valid), rays[valid], *calibration)
        errors[valid] = errors_px(bundle)
        valid = valid & (errors < bound_px)
    return errors


def rays_of(
    keypoints: Keypoints, row: Index, photo: Index, models: tuple[str, ...], intrinsics: Array, camera_of_photo: Index
) -> Array:
    """(m, 3) unit viewing rays of key points, in camera coordinates."""
    rays = np.empty((len(row), 3))
    fisheye = fisheyes(models)

    def unprojected(part: slice) -> None:
        camera = camera_of_photo[photo[part]]
        plane = unproject(keypoints.xy[row[part]], intrinsics[camera], fisheye[camera])
        rays[part, :2], rays[part, 2] = plane, 1.0
        rays[part] /= np.linalg.norm(rays[part], axis=1, keepdims=True)

    chunk_map(unprojected, even_slices(len(row), RAY_CHUNK))
    return rays


def angles_deg(bundle: Bundle) -> Array:
    """(points,) upper bound of the triangulation angle: twice the largest angle of a ray to the mean of all rays."""
    centres = camera_centres(bundle.cam_from_world)
    starts = np.flatnonzero(np.diff(bundle.point, prepend=-1))
    out = np.empty(len(starts))

    def chords(chunk: tuple[slice, slice]) -> None:
        some, part = chunk
        first, point = starts[some] - part.start, bundle.point[part]
        rays = bundle.points[point] - centres[bundle.photo[part]]
        rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-300)
        mean = np.add.reduceat(rays, first, axis=0)
        mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-300)
        # The chord, not the cosine: the cosine of a small angle has lost half its digits.
        chord = np.linalg.norm(rays - mean[point - point[0]], axis=1)
        out[some] = np.maximum.reduceat(chord, first)

    chunk_map(chords, _parts(starts, len(bundle.point)))
    return np.degrees(4.0 * np.arcsin(np.clip(0.5 * out, 0.0, 1.0)))


def keep_observations(bundle: Bundle, keep: Mask, min_length: int = 2) -> Bundle:
    """The bundle with the observations `keep` only, without points that have fewer than min_length of them."""
    length = np.bincount(bundle.point[keep], minlength=len(bundle.points))
    alive = length >= min_length
    keep = keep & alive[bundle.point]
    number = np.cumsum(alive) - 1
    return replace(
        bundle,
        points=bundle.points[alive],
        xy=bundle.xy[keep],
        photo=bundle.photo[keep],
        point=number[bundle.point[keep]],
        row=bundle.row[keep],
    )


def one_point_per_place(bundle: Bundle) -> Bundle:
    """The bundle in which no place of a photo sees two points: the one with the most observations stays.

    Detectors make several key points of one with several orientations. Their matches become several tracks, and these
    as many points at one position, or nearly so.
    """
    place = np.ascontiguousarray(bundle.xy, np.float32).view(np.uint64).ravel()  # one number to sort by, and not two
    length = np.bincount(bundle.point, minlength=len(bundle.points))
    order = np.lexsort((bundle.point, -length[bundle.point], bundle.photo, place))
    xy, photo = bundle.xy[order], bundle.photo[order]
    again = np.zeros(len(order), bool)
    again[order[1:]] = (xy[1:] == xy[:-1]).all(axis=1) & (photo[1:] == photo[:-1])
    return keep_observations(bundle, ~again)


def join_points(bundle: Bundle, more: Bundle) -> Bundle:
    """The bundle with the points and observations of another one with the same cameras."""
    return replace(
        bundle,
        points=np.concatenate([bundle.points, more.points]),
        xy=np.concatenate([bundle.xy, more.xy]),
        photo=np.concatenate([bundle.photo, more.photo]),
        point=np.concatenate([bundle.point, more.point + len(bundle.points)]),
        row=np.concatenate([bundle.row, more.row]),
    )


def without_weak_photos(bundle: Bundle, min_observations: int) -> Bundle:
    """The bundle without the poses and observations of photos that have fewer observations, each counted with all
    photos of its frame."""
    frame = frames_of(bundle.rigs, len(bundle.cam_from_world))
    weak = np.bincount(frame[bundle.photo], minlength=int(frame.max(initial=-1)) + 1)[frame] < min_observations
    poses = np.where(weak[:, None, None], np.nan, bundle.cam_from_world)
    return keep_observations(replace(bundle, cam_from_world=poses), ~weak[bundle.photo])


def _select(tracks: Tracks, keep: Mask, rays: Array) -> tuple[Tracks, Array]:
    length = np.bincount(tracks.track[keep], minlength=tracks.count)
    keep = keep & (length[tracks.track] >= 2)
    return tracks.select(keep), rays[keep]


def _linear(
    keypoints: Keypoints,
    tracks: Tracks,
    rays: Array,
    models: tuple[str, ...],
    intrinsics: Array,
    camera_of_photo: Index,
    cam_from_world: Array,
) -> Bundle:
    """Direct linear transform, in coordinates in which the cameras have unit extent around the origin.

    The algebraic error depends on the coordinates, and its squares lose all digits far from the origin.
    """
    centres = camera_centres(cam_from_world[np.flatnonzero(np.bincount(tracks.photo))])
    middle = centres.mean(axis=0) if len(centres) else np.zeros(3)
    extent = float(np.linalg.norm(centres - middle, axis=1).max(initial=0.0)) or 1.0
    pose = cam_from_world.copy()
    pose[:, :, 3] = (pose[:, :, 3] + pose[:, :, :3] @ middle) / extent
    starts = np.flatnonzero(np.diff(tracks.track, prepend=-1))
    points = np.empty((len(starts), 3))

    def solved(chunk: tuple[slice, slice]) -> None:
        some, part = chunk
        normal = _normal_matrices(rays[part], tracks.photo[part], starts[some] - part.start, pose)
        homogeneous = np.linalg.eigh(normal)[1][:, :, 0]
        w = homogeneous[:, 3:]
        points[some] = middle + extent * homogeneous[:, :3] / np.where(np.abs(w) < 1e-12, 1e-12, w)

    chunk_map(solved, _parts(starts, len(rays)))
    return Bundle(
        models,
        intrinsics,
        camera_of_photo,
        cam_from_world,
        points,
        keypoints.xy[tracks.row],
        tracks.photo,
        tracks.track,
        tracks.row,
    )


def _normal_matrices(rays: Array, photo: Index, starts: Index, pose: Array) -> Array:
    """(tracks, 4, 4) normal matrices of the equations of each track, whose observations begin at `starts`."""
    seen_from = pose[photo]
    rows = np.empty((len(rays), 2, 4))
    rows[:, 0] = rays[:, 0:1] * seen_from[:, 2] - rays[:, 2:3] * seen_from[:, 0]
    rows[:, 1] = rays[:, 1:2] * seen_from[:, 2] - rays[:, 2:3] * seen_from[:, 1]
    return np.add.reduceat(rows.transpose(0, 2, 1) @ rows, starts, axis=0)


def _parts(starts: Index, observations: int) -> list[tuple[slice, slice]]:
    """Chunks of tracks and of their observations, which begin at `starts`."""
    bounds = np.append(starts, observations)
    return [
        (some, slice(int(bounds[some.start]), int(bounds[some.stop]))) for some in even_slices(len(starts), TRACK_CHUNK)
    ]
