"""Which photos rigs fix to each other: views of panoramas, rigs of a file, and rigs that folders suggest.

A file has the form of COLMAP's rig_config.json: a list of rigs, each with its cameras,

    [{"cameras": [{"image_prefix": "left/", "ref_sensor": true},
                  {"image_prefix": "right/",
                   "cam_from_rig_rotation": [w, x, y, z], "cam_from_rig_translation": [x, y, z],
                   "camera_model_name": "PINHOLE", "camera_params": [...]}]}]

Photos whose names begin with these prefixes and go on alike were taken at one moment. Without a pose the mapper finds
it; without parameters the camera is estimated like any other. A malformed file raises InputError, which ends the run.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from unposed.optim.arrays import Array
from unposed.optim.rigs import Rigs
from unposed.optim.rotations import rotation_from_quaternion
from unposed.pipeline.artifacts import Camera, Photo, Photos
from unposed.pipeline.errors import InputError
from unposed.pipeline.images.panoramas import VIEWS, panorama_name
from unposed.pipeline.regular_files import read_text

from .given import NUM_PARAMS, numbers

MIN_FRAMES = 3
"""Moments that at least half of the photos of two folders must have in common for these to be taken for a rig: fewer
could not show whether they are one."""

PANORAMA = "panorama"
"""Name of the rig that all panoramas are of."""


@dataclass(frozen=True)
class _Layout:
    """Rigs by names: what is known of photos by index, and of the sensors, whose rigs begin with their reference."""

    frame: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Names of the rig and of the moment."""
    sensor: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Names of the rig and of the sensor."""
    pose: dict[tuple[str, str], Array | None] = field(default_factory=dict)
    """(3, 4) sensor_from_rig by sensor, or None."""


def rigs_of(
    photos: Photos, file: Path | None, *, of_folders: bool, refined: bool
) -> tuple[Rigs | None, dict[int, Camera]]:
    """The rigs that photos belong to, None where there are none, and cameras that the file knows.

    of_folders: whether folders that hold photos of the same names may be the sensors of a rig of unknown poses; where
    a file says which ones are, they may not. refined: whether known poses of sensors are refined.
    """
    layout, cameras = _of_panoramas(photos), dict[int, Camera]()
    if file is not None:
        cameras = _of_file(file, photos, layout)
    elif of_folders:
        _of_folders(photos, layout)
    if not layout.sensor:
        return None, cameras
    sensors = {name: row for row, name in enumerate(layout.pose)}
    rigs = {rig: row for row, rig in enumerate(dict.fromkeys(rig for rig, _ in sensors))}
    references = {next(row for name, row in sensors.items() if name[0] == rig) for rig in rigs}
    frames: dict[tuple[str, str], int] = {}
    frame = [layout.frame.get(i, ("", photo.name)) for i, photo in enumerate(photos.photos)]
    unknown = np.full((3, 4), np.nan)
    free = [
        row not in references and (pose is None or (refined and name[0] != PANORAMA))
        for row, (name, pose) in enumerate(layout.pose.items())
    ]
    found = Rigs(
        frame_of_photo=np.array([frames.setdefault(each, len(frames)) for each in frame], np.int64),
        sensor_of_photo=np.array(
            [sensors.get(layout.sensor.get(i, ("", "")), -1) for i in range(len(photos))], np.int64
        ),
        rig_of_sensor=np.array([rigs[rig] for rig, _ in sensors], np.int64),
        sensor_from_rig=np.array([unknown if pose is None else pose for pose in layout.pose.values()]),
        refined=np.array(free, bool),
    )
    return found, cameras


def camera_of_view(view: Photo) -> Camera:
    """The pinhole camera of a view of 90 degrees."""
    return Camera("SIMPLE_PINHOLE", view.width, view.height, (0.5 * view.width, 0.5 * view.width, 0.5 * view.height))


def _of_panoramas(photos: Photos) -> _Layout:
    layout = _Layout()
    for i, photo in enumerate(photos.photos):
        if photo.view is not None:
            layout.frame[i], layout.sensor[i] = (PANORAMA, panorama_name(photo)), (PANORAMA, photo.view.name)
    if layout.sensor:
        for name, turn in VIEWS.items():
            layout.pose[PANORAMA, name] = np.concatenate([np.array(turn, np.float64), np.zeros((3, 1))], axis=1)
    return layout


def _of_folders(photos: Photos, layout: _Layout) -> None:
    """Folders beside each other whose photos have the same names, most of them."""
    names = defaultdict[str, dict[str, int]](dict)
    for i, photo in enumerate(photos.photos):
        if photo.view is None and "/" in photo.name:
            folder, _, name = photo.name.rpartition("/")
            names[folder][name.rpartition(".")[0]] = i
    together: dict[str, str] = {}
    for a, b in combinations(sorted(names), 2):
        beside = a.rpartition("/")[0] == b.rpartition("/")[0]
        least = max(MIN_FRAMES, 0.5 * max(len(names[a]), len(names[b])))
        if beside and len(names[a].keys() & names[b].keys()) >= least:
            together[b] = together.setdefault(a, a)
    for folder, first in sorted(together.items()):
        layout.pose[f"folders {first}", folder] = np.eye(3, 4) if folder == first else None
        for name, i in names[folder].items():
            layout.frame[i], layout.sensor[i] = (f"folders {first}", name), (f"folders {first}", folder)


def _of_file(path: Path, photos: Photos, layout: _Layout) -> dict[int, Camera]:
    try:
        listed = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from error
    listed = listed if isinstance(listed, list) else []
    rigs: list[Any] = [rig.get("cameras") if isinstance(rig, Mapping) else None for rig in listed]
    if not rigs or not all(isinstance(each, list) and all(isinstance(c, Mapping) for c in each) for each in rigs):
        raise InputError(f'{path}: expected a list of rigs, [{{"cameras": [{{"image_prefix": ...}}, ...]}}, ...]')
    sensors: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for number, entries in enumerate(rigs):
        rig = f"rig {number + 1}"
        references = [entry for entry in entries if entry.get("ref_sensor") is True]
        if len(references) != 1:
            raise InputError(f"{path}: {rig}: exactly one of its cameras must have ref_sensor: true")
        for entry in sorted(entries, key=lambda entry: entry is not references[0]):
            prefix = entry.get("image_prefix")
            where = f"{path}: {rig}: {prefix}"
            if not isinstance(prefix, str) or not prefix:
                raise InputError(f"{path}: {rig}: every camera needs an image_prefix")
            if prefix in sensors:
                raise InputError(f"{where}: this image_prefix is there twice")
            sensors[prefix] = rig, entry
            layout.pose[rig, prefix] = np.eye(3, 4) if entry is references[0] else _pose(entry, where)
    cameras: dict[int, Camera] = {}
    taken: dict[tuple[str, str], str] = {}
    for i, photo in enumerate(photos.photos):
        own = [prefix for prefix in sensors if photo.name.startswith(prefix)] if photo.view is None else []
        if not own:
            continue
        prefix = max(own, key=len)  # cam10 is not a photo 0 of cam1
        rig, entry = sensors[prefix]
        moment = photo.name.removeprefix(prefix).rpartition(".")[0]
        layout.frame[i], layout.sensor[i] = (rig, moment), (rig, prefix)
        other = taken.setdefault((prefix, moment), photo.name)
        if other != photo.name:
            raise InputError(f"{path}: {rig}: {other} and {photo.name} are of one camera and moment: leave one out")
        if "camera_model_name" in entry:
            cameras[i] = _camera(entry, photo, f"{path}: {rig}: {prefix}")
    if len(layout.sensor) == sum(photo.view is not None for photo in photos.photos):
        raise InputError(f"{path}: the names of no photos begin with an image_prefix in it")
    _all_used(path, sensors, photos, layout)
    return cameras


def _all_used(path: Path, prefixes: Iterable[str], photos: Photos, layout: _Layout) -> None:
    """InputError for a prefix without photos while photos are without a prefix: it is misspelt, and these would be
    taken for photos of no rig. Where all photos have one, it is that of a camera whose photos are left out."""
    used = {prefix for _, prefix in layout.sensor.values()}
    unused = [prefix for prefix in prefixes if prefix not in used]
    others = [photo.name for i, photo in enumerate(photos.photos) if photo.view is None and i not in layout.sensor]
    if unused and others:
        raise InputError(
            f"{path}: no photo begins with the image_prefix {unused[0]}, and {others[0]} begins with none: correct it, "
            "or leave this camera out of the file"
        )


def _pose(entry: Mapping[str, Any], where: str) -> Array | None:
    given = [entry.get(f"cam_from_rig_{what}") for what in ("rotation", "translation")]
    if given == [None, None]:
        return None
    quaternion = numbers(given[0], (4,), f"{where}: cam_from_rig_rotation")
    if abs(float(np.linalg.norm(quaternion)) - 1.0) > 1e-3:
        raise InputError(f"{where}: cam_from_rig_rotation is no unit quaternion w, x, y, z")
    translation = numbers(given[1], (3,), f"{where}: cam_from_rig_translation")
    return np.concatenate([rotation_from_quaternion(quaternion), translation[:, None]], axis=1)


def _camera(entry: Mapping[str, Any], photo: Photo, where: str) -> Camera:
    model = entry["camera_model_name"]
    if not isinstance(model, str) or model not in NUM_PARAMS:
        raise InputError(f"{where}: camera_model_name is none of {', '.join(NUM_PARAMS)}")
    params = numbers(entry.get("camera_params"), (NUM_PARAMS[model],), f"{where}: camera_params")
    if params[0] <= 0.0:
        raise InputError(f"{where}: camera_params are no camera's: the focal length must be above 0")
    return Camera(model, photo.width, photo.height, tuple(params.tolist()))
