"""Rigs and frames of COLMAP models: photos that are fixed to each other, written and read.

COLMAP tells the sensors of a rig apart by their cameras, and counts their poses from that of a reference. Sensors that
share a camera are therefore written with a copy each, and photos of one sensor that have cameras of their own belong to
several rigs there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from unposed.optim.rigs import Rigs

from .artifacts import Floats, Ints, SparseModel

if TYPE_CHECKING:
    import pycolmap


def with_camera_per_sensor(scene: SparseModel) -> SparseModel:
    """The model with a copy of a camera for each further sensor that has it, after all others."""
    if scene.rigs is None:
        return scene
    cameras, camera_of_photo = list(scene.cameras), scene.camera_of_photo.copy()
    owner: dict[int, int] = {}
    copies: dict[tuple[int, int], int] = {}
    sensors = np.where(scene.rigs.known, scene.rigs.sensor_of_photo, -1).tolist()
    for photo, (camera, sensor) in enumerate(zip(scene.camera_of_photo.tolist(), sensors, strict=True)):
        if owner.setdefault(camera, sensor) != sensor:
            if (camera, sensor) not in copies:
                copies[camera, sensor] = len(cameras)
                cameras.append(cameras[camera])
            camera_of_photo[photo] = copies[camera, sensor]
    return replace(scene, cameras=tuple(cameras), camera_of_photo=camera_of_photo)


def add_rigs(
    model: pycolmap.Reconstruction,
    rigs: Rigs,
    camera_of_photo: Ints,
    cam_from_world: Floats,
    images: Sequence[pycolmap.Image],
) -> None:
    """Add the rigs, frames and images of all photos that have a sensor (photos, in the order of `rigs`) to a model that
    has their cameras. Ids of rigs follow those of the cameras, ids of frames are those of their first image."""
    import pycolmap

    known: dict[tuple[tuple[int, int], ...], pycolmap.Rig] = {}
    first_id = max(model.rigs, default=0) + max(model.cameras, default=0) + 1
    for frame in np.unique(rigs.frame_of_photo[rigs.known]).tolist():
        members = np.flatnonzero((rigs.frame_of_photo == frame) & rigs.known)
        members = members[np.argsort(rigs.sensor_of_photo[members], kind="stable")]
        sensors, cameras = rigs.sensor_of_photo[members].tolist(), (camera_of_photo[members] + 1).tolist()
        kind = tuple(zip(sensors, cameras, strict=True))
        if kind not in known:
            known[kind] = _rig(first_id + len(known), rigs, kind)
            model.add_rig(known[kind])
        whole = pycolmap.Frame(frame_id=images[members[0]].image_id, rig_id=known[kind].rig_id)
        for member in members.tolist():
            images[member].frame_id = whole.frame_id
            whole.add_data_id(images[member].data_id)
        whole.rig_from_world = pycolmap.Rigid3d(cam_from_world[members[0]])
        model.add_frame(whole)
        for member in members.tolist():
            model.add_image(images[member])
        model.register_frame(whole.frame_id)


def _rig(rig_id: int, rigs: Rigs, kind: tuple[tuple[int, int], ...]) -> pycolmap.Rig:
    """A rig of sensors and their cameras, the first of which is the reference."""
    import pycolmap

    rig = pycolmap.Rig(rig_id=rig_id)
    (first, camera), *others = kind
    reference = pycolmap.Rigid3d(rigs.sensor_from_rig[first]).inverse()
    rig.add_ref_sensor(pycolmap.sensor_t(pycolmap.SensorType.CAMERA, camera))
    for sensor, camera in others:
        pose = pycolmap.Rigid3d(rigs.sensor_from_rig[sensor]) * reference
        rig.add_sensor(pycolmap.sensor_t(pycolmap.SensorType.CAMERA, camera), pose)
    return rig


def rigs_of(images: Sequence[pycolmap.Image]) -> Rigs | None:
    """The rigs of several sensors that these registered images belong to; None where there are none."""
    sensors: dict[tuple[int, int], int] = {}
    poses: list[Floats] = []
    numbers: dict[int, int] = {}
    for frame in (image.frame for image in images):
        rig = None if frame is None else frame.rig
        if rig is None or rig.num_sensors() < 2 or rig.rig_id in numbers:
            continue
        numbers[rig.rig_id] = len(numbers)
        for sensor in [rig.ref_sensor_id, *sorted(rig.non_ref_sensors, key=lambda each: each.id)]:
            sensors[rig.rig_id, sensor.id] = len(poses)
            pose = None if rig.is_ref_sensor(sensor) else rig.sensor_from_rig(sensor)
            poses.append(np.eye(3, 4) if pose is None else np.asarray(pose.matrix()))
    if not poses:
        return None
    frames: dict[int, int] = {}
    rig_of_sensor = [numbers[rig_id] for rig_id, _ in sensors]
    sensor_of_photo = [
        -1 if image.frame is None else sensors.get((image.frame.rig_id, image.camera_id), -1) for image in images
    ]
    return Rigs(
        frame_of_photo=np.array([frames.setdefault(image.frame_id, len(frames)) for image in images], np.int64),
        sensor_of_photo=np.array(sensor_of_photo, np.int64),
        rig_of_sensor=np.array(rig_of_sensor, np.int64),
        sensor_from_rig=np.array(poses),
        refined=np.zeros(len(poses), bool),
    )
