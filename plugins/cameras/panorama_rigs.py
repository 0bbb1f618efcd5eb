"""Panoramas as rigs: the views of one are fixed to each other, and their camera is known."""

from __future__ import annotations

import numpy as np

from unposed.optim.rigs import Rigs
from unposed.pipeline.artifacts import Camera, Photo, Photos
from unposed.pipeline.images.panoramas import VIEWS, panorama_name


def camera_of_view(view: Photo) -> Camera:
    """The pinhole camera of a view of 90 degrees."""
    return Camera("SIMPLE_PINHOLE", view.width, view.height, (0.5 * view.width, 0.5 * view.width, 0.5 * view.height))


def panorama_rigs(photos: Photos) -> Rigs | None:
    """One rig of all panoramas, in which each is a frame; None where there are none."""
    frames: dict[str, int] = {}
    frame_of_photo = [
        frames.setdefault(photo.name if photo.view is None else panorama_name(photo), len(frames))
        for photo in photos.photos
    ]
    numbers = {name: number for number, name in enumerate(VIEWS)}
    sensor_of_photo = [-1 if photo.view is None else numbers[photo.view.name] for photo in photos.photos]
    if max(sensor_of_photo, default=-1) < 0:
        return None
    turns = np.array(list(VIEWS.values()), np.float64)
    return Rigs(
        frame_of_photo=np.array(frame_of_photo, np.int64),
        sensor_of_photo=np.array(sensor_of_photo, np.int64),
        rig_of_sensor=np.zeros(len(VIEWS), np.int64),
        sensor_from_rig=np.concatenate([turns, np.zeros((len(VIEWS), 3, 1))], axis=2),
        refined=np.zeros(len(VIEWS), bool),
    )
