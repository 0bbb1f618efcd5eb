"""Conversion of SparseModels to COLMAP models and back, in memory and on disk, without loss.

Ids in the model are indices plus one: the id of an image is the index of its photo in the collection, those of cameras
and points are their rows, so that the models of several components agree on their images. Outside of rigs every camera
has a trivial rig and every image a trivial frame. Rotations pass through quaternions, which rounds their last digits;
all else is exact.

pycolmap is the data model and file format here; it is imported late, for a fast start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from .artifacts import Camera, Photos, SparseModel
from .colmap_files import check_binary_model
from .colmap_rigs import add_rigs, rigs_of, with_camera_per_sensor
from .errors import InputError

if TYPE_CHECKING:
    import pycolmap


def to_colmap(scene: SparseModel, photos: Photos) -> pycolmap.Reconstruction:
    """Convert a model to a pycolmap.Reconstruction whose images have the names of the photos."""
    import pycolmap

    model, scene = pycolmap.Reconstruction(), with_camera_per_sensor(scene)
    tied = np.zeros(len(scene.photos), bool) if scene.rigs is None else scene.rigs.known
    of_rigs = set(scene.camera_of_photo[tied].tolist()) - set(scene.camera_of_photo[~tied].tolist())
    for row, camera in enumerate(scene.cameras):
        add = model.add_camera if row in of_rigs else model.add_camera_with_trivial_rig
        add(
            pycolmap.Camera(
                camera_id=row + 1,
                model=camera.model,
                width=camera.width,
                height=camera.height,
                params=list(camera.params),
            )
        )
    images = []
    keypoint_runs = pairwise(scene.xy_start.tolist())
    for photo, camera_row, pose, (start, end) in zip(
        scene.photos.tolist(), scene.camera_of_photo.tolist(), scene.cam_from_world, keypoint_runs, strict=True
    ):
        image = pycolmap.Image(
            name=photos[photo].name, keypoints=scene.xy[start:end], camera_id=camera_row + 1, image_id=photo + 1
        )
        images.append(image)
        if not tied[len(images) - 1]:
            model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
    if scene.rigs is not None:
        add_rigs(model, scene.rigs, scene.camera_of_photo, scene.cam_from_world, images)
    _add_points(model, scene)
    return model


def _add_points(model: pycolmap.Reconstruction, scene: SparseModel) -> None:
    import pycolmap

    row_in_scene = scene.obs_photo
    image_id = (scene.photos[row_in_scene] + 1).tolist()
    keypoint = (scene.obs_xy - scene.xy_start[row_in_scene]).tolist()
    elements = list(map(pycolmap.TrackElement, image_id, keypoint))
    track_start = np.searchsorted(scene.obs_point, np.arange(len(scene.points) + 1)).tolist()
    for row, (start, end) in enumerate(pairwise(track_start)):
        point = pycolmap.Point3D()
        point.xyz, point.color, point.error = scene.points[row], scene.rgb[row], scene.error_px[row]
        point.track = pycolmap.Track(elements[start:end])
        model.add_point3D_with_id(row + 1, point)


def read_model(folder: Path) -> pycolmap.Reconstruction:
    """Read a COLMAP model from an untrusted folder. InputError if it is damaged, cut short or none."""
    import pycolmap

    check_binary_model(folder)
    try:
        model = pycolmap.Reconstruction(folder)
        for image in model.images.values():
            _ = image.name, image.cam_from_world() if image.has_pose else None  # what they hold may be no text or pose
        return model
    except Exception as error:  # pycolmap raises many kinds, some of its own, for files of other content
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{folder}: cannot be read as a COLMAP model: {reason}") from error


def from_colmap(
    model: pycolmap.Reconstruction, photos: Photos, keypoints_of: Mapping[int, NDArray[np.float64]] | None = None
) -> SparseModel:
    """Convert the registered images of a COLMAP model, its cameras and points to a model of the photos of those names.

    Cameras and points are sorted by id. `keypoints_of` has the key points of images by their ids, as
    `keypoints_by_image` reads them from the model's file; those of the others are read one by one. InputError if an
    image has no photo, or the model contradicts itself.
    """
    index_of = {photo.name: index for index, photo in enumerate(photos.photos)}
    images = [image for image in model.images.values() if image.has_pose]
    unknown = sorted(image.name for image in images if image.name not in index_of)
    if unknown:
        raise InputError(f"the COLMAP model has an image {unknown[0]!r}, which is none of the {len(photos)} photos")
    images.sort(key=lambda image: index_of[image.name])

    cameras = sorted(model.cameras.items())
    row_of_camera = {camera_id: row for row, (camera_id, _) in enumerate(cameras)}
    known = keypoints_of or {}
    keypoints = [known[image.image_id] if image.image_id in known else _keypoints(image) for image in images]
    xy_start = np.cumsum([0, *map(len, keypoints)], dtype=np.int64)
    points = sorted(model.points3D.items())
    try:
        obs_xy, obs_point = _observations([point for _, point in points], images, xy_start)
    except (KeyError, OverflowError) as error:
        raise InputError("the COLMAP model has a point that is seen by an image which is not in it") from error
    if len(obs_xy) and not 0 <= int(obs_xy.min()) <= int(obs_xy.max()) < int(xy_start[-1]):
        raise InputError("the COLMAP model has a point that is seen by a key point which is not in it")
    return SparseModel(
        cameras=tuple(Camera(c.model.name, c.width, c.height, tuple(map(float, c.params))) for _, c in cameras),
        photos=np.array([index_of[image.name] for image in images], np.int32),
        camera_of_photo=np.array([row_of_camera[image.camera_id] for image in images], np.int32),
        cam_from_world=np.array([image.cam_from_world().matrix() for image in images]).reshape(-1, 3, 4),
        xy=np.concatenate([np.empty((0, 2)), *keypoints]),
        xy_start=xy_start,
        points=np.array([point.xyz for _, point in points]).reshape(-1, 3),
        rgb=np.array([point.color for _, point in points], np.uint8).reshape(-1, 3),
        error_px=np.array([point.error for _, point in points], np.float64),
        obs_xy=obs_xy,
        obs_point=obs_point,
        rigs=rigs_of(images),
    )


def _keypoints(image: pycolmap.Image) -> NDArray[np.float64]:
    flat = chain.from_iterable((point.x(), point.y()) for point in image.points2D)
    return np.fromiter(flat, np.float64, 2 * image.num_points2D()).reshape(-1, 2)


def _observations(
    points: Sequence[pycolmap.Point3D], images: Sequence[pycolmap.Image], xy_start: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of xy and of points, sorted by (point, xy)."""
    start_of_image = {image.image_id: int(start) for image, start in zip(images, xy_start[:-1], strict=True)}
    tracks = [
        [start_of_image[element.image_id] + element.point2D_idx for element in point.track.elements] for point in points
    ]
    lengths = np.fromiter(map(len, tracks), np.int64, len(tracks))
    obs_xy = np.fromiter(chain.from_iterable(tracks), np.int64, int(lengths.sum()))
    obs_point = np.repeat(np.arange(len(points), dtype=np.int64), lengths)
    order = np.lexsort((obs_xy, obs_point))
    return obs_xy[order], obs_point[order]


def write_models(
    models: Sequence[SparseModel], photos: Photos, folder: Path, file_format: Literal["binary", "text"] = "binary"
) -> list[Path]:
    """Write folder/0, folder/1 ... as COLMAP models in the given order. None of these may exist."""
    written = []
    for number, model in enumerate(models):
        written.append(folder / str(number))
        written[-1].mkdir(parents=True)
        colmap = to_colmap(model, photos)
        (colmap.write_text if file_format == "text" else colmap.write_binary)(written[-1])
    return written
