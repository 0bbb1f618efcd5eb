"""Panoramas put together again: models of views as models of the panoramas that these were cut from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unposed.optim.rigs import frame_poses

from .artifacts import Camera, Photo, Photos, SparseModel
from .images.panoramas import VIEWS, panorama_name, panorama_pixels


def whole_panoramas(models: Sequence[SparseModel], photos: Photos) -> tuple[list[SparseModel], Photos]:
    """The models with a photo for each panorama, of COLMAP's camera model EQUIRECTANGULAR, in place of its views; key
    points lie in the panorama. Other photos stay as they are. With them, the collection that they are of."""
    each = [_whole(photo) for photo in photos.photos]
    whole = {photo.name: photo for photo in each}
    number = {name: at for at, name in enumerate(whole)}
    of_photo = np.array([number[photo.name] for photo in each], np.int64)
    return [_together(model, photos, of_photo) for model in models], Photos(tuple(whole.values()), photos.rejected)


def _whole(photo: Photo) -> Photo:
    """The panorama that a view was cut from; other photos are whole."""
    if photo.view is None:
        return photo
    width = photo.view.panorama_width
    return Photo(panorama_name(photo), photo.path, photo.content, width, width // 2, exif=photo.exif)


def _together(model: SparseModel, photos: Photos, of_photo: NDArray[np.int64]) -> SparseModel:
    """A model of the panoramas (of_photo, by view) from that of their views."""
    own = of_photo[model.photos]
    order = np.argsort(own, kind="stable")  # photos of a panorama in a row, each with its key points
    kept, first = np.unique(own[order], return_index=True)
    count = np.diff(model.xy_start)
    start = np.concatenate([[0], np.cumsum(count[order])])
    shift = np.empty(len(own), np.int64)
    shift[order] = start[:-1]
    row_in_model = np.repeat(np.arange(len(own)), count)
    moved = shift[row_in_model] + np.arange(len(model.xy)) - model.xy_start[:-1][row_in_model]
    xy = np.empty((len(model.xy), 2))
    cameras: dict[Camera, int] = {}
    camera_of_photo = np.empty(len(own), np.int64)
    for row, photo in enumerate(photos[index] for index in model.photos.tolist()):
        camera = model.cameras[model.camera_of_photo[row]]
        pixels = model.xy[model.xy_start[row] : model.xy_start[row + 1]]
        if photo.view is not None:
            width, focal = photo.view.panorama_width, 0.5 * photo.width
            rays = np.concatenate([pixels / focal - 1.0, np.ones((len(pixels), 1))], axis=1)
            pixels = panorama_pixels(rays @ np.array(VIEWS[photo.view.name], np.float64), width)
            camera = Camera("EQUIRECTANGULAR", width, width // 2, (float(width), width / 2))
        xy[shift[row] : shift[row] + len(pixels)] = pixels
        camera_of_photo[row] = cameras.setdefault(camera, len(cameras))
    poses = np.asarray(model.cam_from_world, np.float64)
    poses = poses if model.rigs is None else frame_poses(model.rigs, poses)
    sort = np.lexsort((moved[model.obs_xy], model.obs_point))
    return SparseModel(
        cameras=tuple(cameras),
        photos=kept.astype(np.int32),
        camera_of_photo=camera_of_photo[order][first].astype(np.int32),
        cam_from_world=poses[order][first],
        xy=xy,
        xy_start=np.append(start[:-1][first], start[-1]).astype(np.int64),
        points=model.points,
        rgb=model.rgb,
        error_px=model.error_px,
        obs_xy=moved[model.obs_xy][sort],
        obs_point=model.obs_point[sort],
    )
