"""Artifacts in the frames of sensors: photos of a camera that was turned share it there (optim.quarter_turns)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from unposed.optim.quarter_turns import quarter_rotations, turned_params, turned_pixels, turned_view_graph
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import Camera, CameraPriors, InitialModel, InitialModels, Photos, SparseModel

EQUAL = 1e-9
"""Relative difference of parameters up to which two cameras are one."""

ORIENTATION = (1, 8, 3, 6)
"""EXIF's number of a photo that 0 to 3 quarters, counter-clockwise, bring upright."""

Model = TypeVar("Model", bound=InitialModel)
Models = TypeVar("Models", bound=InitialModels)


@dataclass(frozen=True, eq=False)
class SensorFrames:
    """The frames of the sensors of a collection."""

    cameras: CameraPriors
    """What is known of the cameras; those that are one are one."""
    quarters: NDArray[np.int64]
    """(photos,) after which each photo lies in the frame of its sensor."""

    def view_graph(self, graph: ViewGraph) -> ViewGraph:
        """The view graph in these frames."""
        return turned_view_graph(graph, self.quarters)

    def photos(self, photos: Photos) -> Photos:
        """Photos that are read as they lie in these frames."""
        turned = list(photos.photos)
        for i in np.flatnonzero(self.quarters).tolist():
            photo, quarters = turned[i], int(self.quarters[i])
            width, height = (photo.height, photo.width) if quarters % 2 else (photo.width, photo.height)
            orientation = ORIENTATION[(ORIENTATION.index(photo.orientation) + quarters) % 4]
            turned[i] = replace(photo, width=width, height=height, orientation=orientation)
        return replace(photos, photos=tuple(turned))

    def into(self, model: InitialModel) -> InitialModel:
        """A model in these frames; cameras that are equal there, and one by what is known, are joined."""
        turned = _turned(model, self.quarters[model.photos])
        known = self.cameras.camera_of_photo[model.photos]
        first: dict[int, int] = {}
        for camera in range(len(turned.cameras)):
            own = known[turned.camera_of_photo == camera]
            same = (c for c in first if _equal(turned.cameras[c], turned.cameras[camera]) and own[0] == first[c])
            place = next(same, camera)
            turned.camera_of_photo[turned.camera_of_photo == camera] = place
            first.setdefault(place, int(own[0]))
        used, camera_of_photo = np.unique(turned.camera_of_photo, return_inverse=True)
        cameras = tuple(turned.cameras[camera] for camera in used)
        return replace(turned, cameras=cameras, camera_of_photo=camera_of_photo.astype(np.int32))

    def back(self, model: Model) -> Model:
        """A model of these frames with its photos upright."""
        return _turned(model, -self.quarters[model.photos] % 4)

    def join(self, photos: NDArray[np.generic]) -> bool:
        """Whether one camera took some of these photos turned and others not."""
        camera = 4 * self.cameras.camera_of_photo[photos].astype(np.int64) + self.quarters[photos]
        return len(np.unique(camera)) > len(np.unique(camera // 4))

    def fits(self, model: InitialModel) -> bool:
        """Whether cameras that are one by what is known are one in a model, too."""
        return len(self.into(model).cameras) == len(np.unique(self.cameras.camera_of_photo[model.photos]))


def sensor_frames(cameras: CameraPriors) -> list[SensorFrames]:
    """The frames that are possible; none where no camera was turned, two where it may have been to either side."""
    turns = cameras.turns
    if turns is None:
        return []
    used, number = np.unique(turns.camera, return_inverse=True)
    joined = replace(
        cameras,
        cameras=tuple(cameras.cameras[camera] for camera in used),
        camera_of_photo=number[cameras.camera_of_photo].astype(np.int32),
        focal_source=tuple(cameras.focal_source[camera] for camera in used),
        given_sigma=None if cameras.given_sigma is None else cameras.given_sigma[used],
        guess_log_sigma=None if cameras.guess_log_sigma is None else cameras.guess_log_sigma[used],
        turns=None,
    )
    found = []
    for more in (0, 2) if turns.uncertain.any() else (0,):
        quarters = ((turns.quarters + more * turns.uncertain) % 4)[cameras.camera_of_photo]
        poses = cameras.cam_from_world
        given = None if poses is None else quarter_rotations(quarters) @ poses
        found.append(SensorFrames(replace(joined, cam_from_world=given), quarters))
    return found


def into_frames(models: InitialModels, frames: SensorFrames) -> InitialModels:
    """Models in the frames of the sensors."""
    hypotheses = tuple(tuple(frames.into(each) for each in others) for others in models.hypotheses)
    return replace(models, models=tuple(frames.into(model) for model in models.models), hypotheses=hypotheses)


def upright(models: Models, frames: SensorFrames) -> Models:
    """Models of these frames with their photos upright."""
    hypotheses = tuple(tuple(frames.back(each) for each in others) for others in models.hypotheses)
    return replace(models, models=tuple(frames.back(model) for model in models.models), hypotheses=hypotheses)


def _turned(model: Model, quarters: NDArray[np.int64]) -> Model:
    keys, camera_of_photo = np.unique(4 * model.camera_of_photo.astype(np.int64) + quarters, return_inverse=True)
    cameras = []
    for key in keys.tolist():
        old, k = model.cameras[key // 4], key % 4
        width, height = (old.height, old.width) if k % 2 else (old.width, old.height)
        params = turned_params(old.model, old.params, (old.width, old.height), k)
        cameras.append(Camera(old.model, width, height, params))
    out = replace(
        model,
        cameras=tuple(cameras),
        camera_of_photo=camera_of_photo.astype(np.int32),
        cam_from_world=quarter_rotations(quarters) @ model.cam_from_world,
    )
    if not isinstance(out, SparseModel) or not isinstance(model, SparseModel):
        return out
    row = np.repeat(np.arange(len(model.photos)), np.diff(model.xy_start))
    sizes = np.array([(camera.width, camera.height) for camera in model.cameras])[model.camera_of_photo]
    return replace(out, xy=turned_pixels(model.xy.astype(np.float64), sizes[row], quarters[row]))


def _equal(one: Camera, other: Camera) -> bool:
    same = (one.model, one.width, one.height) == (other.model, other.width, other.height)
    return same and np.allclose(one.params, other.params, rtol=EQUAL, atol=EQUAL)
