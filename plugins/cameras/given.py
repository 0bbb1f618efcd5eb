"""Known intrinsics and poses from files.

A JSON file gives them by photo:

    {"pixel_convention": "centre of top-left pixel is (0,0)",
     "images": {"a/1.jpg": {"width": W, "height": H, "K": 3x3, "dist": [k1, k2, p1, p2], "R_w2c": 3x3, "t_w2c": [3]}}}

An entry may say how exact its intrinsics are, as standard deviations:

    "sigma": {"f": pixels, "c": pixels, "dist": [of k1, of k2, of p1, of p2]}

What it names starts from the value in the file and is held to it by a Gaussian prior; the rest, and all of an entry
without, stays constant, and so does a principal point of fewer photos than cameras.prior.min_photos_for_principal.

Poses with sigma_deg or sigma_position, standard deviations of the rotation in degrees and of the position in units of
the world, are rough: they may move as far; those without are exact. Poses may also come from transforms.json, ARKit, a
TUM trajectory or a COLMAP model, see unposed/pipeline/pose_files.py.

Without pixel_convention the centre of the top-left pixel is (0.5, 0.5), as everywhere here. COLMAP's cameras.txt gives
intrinsics by size: each camera is used for all photos of its size.

Photos are found by their names, or without folders and endings where only one photo and one entry has that name.

A malformed file raises InputError, which ends the run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unposed.optim.arrays import Array
from unposed.optim.cameras import CAMERA_MODELS, K1
from unposed.optim.rigs import Rigs
from unposed.pipeline.artifacts import Camera, Photo, Photos
from unposed.pipeline.errors import InputError
from unposed.pipeline.pose_files import POSE_SIGMAS, TRAJECTORIES, read_poses
from unposed.pipeline.regular_files import read_text

NUM_PARAMS = {name: len(model.params) for name, model in CAMERA_MODELS.items()}


def given_cameras(path: Path, photos: Photos) -> dict[int, Camera]:
    """Cameras of the photos in the file, by index of the photo."""
    text = _text(path)
    if path.suffix.lower() == ".txt":
        by_size = _colmap_cameras(text, path)
        found = {i: by_size.get((photo.width, photo.height)) for i, photo in enumerate(photos.photos)}
        cameras = {i: camera for i, camera in found.items() if camera is not None}
    else:
        images, shift = _images(text, path)
        found_by = _entries(images, photos)
        cameras = {i: _camera(each, photos[i], shift, path) for i, each in found_by.items() if "K" in each}
    if not cameras and len(photos):
        raise InputError(
            f"{path}: knows the camera of none of the photos: neither their names nor their sizes are in it"
        )
    return cameras


def given_sigmas(path: Path | None, photos: Photos) -> dict[int, tuple[float, ...]]:
    """Standard deviations of the eight intrinsics (optim.cameras) by index of the photo, zero where they are constant;
    only of photos for which the file has some."""
    if path is None or path.suffix.lower() == ".txt":
        return {}
    entries = _entries(_images(_text(path), path)[0], photos)
    return {i: _sigma(e["sigma"], f"{path}: {photos[i].name}: sigma") for i, e in entries.items() if "sigma" in e}


def _sigma(entry: Any, where: str) -> tuple[float, ...]:
    if not isinstance(entry, dict) or not entry or set(entry) - {"f", "c", "dist"}:
        raise InputError(f'{where}: expected {{"f": pixels, "c": pixels, "dist": [k1, k2, p1, p2]}} or some of these')
    focal, centre = (float(numbers(entry.get(key, 0.0), (), f"{where}: {key}")) for key in ("f", "c"))
    distortion = numbers(entry.get("dist", [0.0] * 4), (4,), f"{where}: dist")
    out = (focal, focal, centre, centre, *map(float, distortion))
    if min(out) < 0.0:
        raise InputError(f"{where}: a standard deviation is negative")
    return out


@dataclass(frozen=True, eq=False)
class GivenPoses:
    """Poses of photos from a file."""

    cam_from_world: Array
    """(photos, 3, 4), NaN for photos that are not in the file."""
    sigma: Array | None
    """(photos, 2) standard deviations as in CameraPriors.pose_sigma; None where all poses are exact."""


def given_poses(path: Path, photos: Photos, rigs: Rigs | None = None) -> GivenPoses:
    """The poses of a file. Photos of rigs may not be in it."""
    found = _poses_of_images(path, photos) if _is_by_photo(path) else _poses_of_others(path, photos)
    known = np.isfinite(found.cam_from_world).all(axis=(1, 2))
    for i in np.flatnonzero(known).tolist():
        if rigs is not None and rigs.sensor_of_photo[i] >= 0:
            raise InputError(f"{path}: {photos[i].name} belongs to a rig, whose poses cannot be given: leave it out")
    if not known.any() and len(photos):
        raise InputError(f"{path}: knows the pose of none of the photos: their names are not in it")
    return found


def _is_by_photo(path: Path) -> bool:
    """Whether a file is JSON that lists poses by photo, or means to be."""
    if path.suffix.lower() in (*TRAJECTORIES, ".bin"):
        return False
    text = _text(path)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return True
    return not (isinstance(data, dict) and "frames" in data and "images" not in data)


def _poses_of_images(path: Path, photos: Photos) -> GivenPoses:
    entries = _entries(_images(_text(path), path)[0], photos)
    out, sigma = np.full((len(photos), 3, 4), np.nan), np.zeros((len(photos), 2))
    for i, entry in entries.items():
        photo = photos[i]
        if entry.get("R_w2c") is None or entry.get("t_w2c") is None:
            continue
        rotation = numbers(entry["R_w2c"], (3, 3), f"{path}: {photo.name}: R_w2c")
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0.0:
            raise InputError(f"{path}: {photo.name}: R_w2c is no rotation")
        u, _, vt = np.linalg.svd(rotation)
        out[i, :, :3] = u @ vt
        out[i, :, 3] = numbers(entry["t_w2c"], (3,), f"{path}: {photo.name}: t_w2c")
        given = [entry.get(key) for key in POSE_SIGMAS]
        if any(value is not None for value in given):
            # Who says how exact one half of a pose is, and nothing of the other, knows nothing of that.
            sigma[i] = [np.inf if each is None else numbers(each, (), f"{path}: {photo.name}: sigma") for each in given]
            if not (sigma[i] > 0.0).all():
                raise InputError(f"{path}: {photo.name}: a standard deviation must be above 0")
    return GivenPoses(out, sigma if sigma.any() else None)


def _poses_of_others(path: Path, photos: Photos) -> GivenPoses:
    """Of frames, trajectories and models."""
    try:
        listed = read_poses(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    out = np.full((len(photos), 3, 4), np.nan)
    for i, row in _rows_by_photo(listed[0].names, photos).items():
        if listed[0].as_stored and photos[i].orientation != 1:
            raise InputError(
                f"{path}: {photos[i].name} is turned by its EXIF data, and poses of ARKit hold for photos that are not"
            )
        out[i] = listed[0].cam_from_world[row]
    return GivenPoses(out, None)


def _entries(images: Mapping[str, Any], photos: Photos) -> dict[int, Mapping[str, Any]]:
    """The entries of a JSON file by index of the photo, in order."""
    each = list(images.values())
    return {i: each[row] for i, row in _rows_by_photo(list(images), photos).items()}


def _rows_by_photo(names: Sequence[str], photos: Photos) -> dict[int, int]:
    """Which of the names is whose, by index of the photo: the same, or alike without folders and the ending where no
    other name and no other photo is."""
    exact = {name: row for row, name in enumerate(names)}
    holders = Counter(key for name in names for key in _names_of(name))
    rows = {key: row for row, name in enumerate(names) for key in _names_of(name) if holders[key] == 1}
    claims = Counter(key for photo in photos.photos for key in _names_of(photo.name))
    out: dict[int, int] = {}
    for i, photo in enumerate(photos.photos):
        alike = (rows[key] for key in _names_of(photo.name) if key in rows and claims[key] == 1)
        row = exact.get(photo.name, next(alike, None))
        if row is not None:
            out[i] = row
    return out


def _names_of(name: str) -> tuple[str, ...]:
    """A name as it is, without folders, and without the ending of an image."""
    last = name.rpartition("/")[2]
    stem, dot, ending = last.rpartition(".")
    return tuple(dict.fromkeys((name, last, stem if dot and ending.isalpha() else last)))


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _images(text: str, path: Path) -> tuple[Mapping[str, Any], float]:
    """The entries by photo, and the shift to add to principal points."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON: {error}") from error
    images = data.get("images") if isinstance(data, dict) else None
    if not isinstance(images, dict) or not all(isinstance(entry, dict) for entry in images.values()):
        raise InputError(f'{path}: expected {{"images": {{name: {{...}}}}}}')
    convention = "".join(str(data.get("pixel_convention", "(0.5,0.5)")).split())
    shifts = {"(0,0)": 0.5, "(0.5,0.5)": 0.0}
    for corner, shift in shifts.items():
        if corner in convention:
            return images, shift
    raise InputError(f"{path}: pixel_convention names neither (0,0) nor (0.5,0.5) for the centre of the first pixel")


def _camera(entry: Mapping[str, Any], photo: Photo, shift: float, path: Path) -> Camera:
    where = f"{path}: {photo.name}"
    width, height = entry.get("width", photo.width), entry.get("height", photo.height)
    if (width, height) != (photo.width, photo.height):
        raise InputError(f"{where}: is {photo.width} x {photo.height}, and the file says {width} x {height}")
    k = numbers(entry["K"], (3, 3), f"{where}: K")
    if k[0, 0] <= 0.0 or k[1, 1] <= 0.0 or k[0, 1] != 0.0 or list(k[2]) != [0.0, 0.0, 1.0]:
        raise InputError(f"{where}: K must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
    given = entry.get("dist") or []
    distortion = numbers(given, (len(given) if isinstance(given, list) else 4,), f"{where}: dist")
    if len(distortion) > 4 and distortion[4:].any():
        raise InputError(f"{where}: dist has more terms than k1, k2, p1, p2")
    pinhole = (float(k[0, 0]), float(k[1, 1]), float(k[0, 2]) + shift, float(k[1, 2]) + shift)
    sigma = _sigma(entry["sigma"], f"{where}: sigma") if "sigma" in entry else ()
    if not distortion.any() and not any(sigma[K1:]):
        return Camera("PINHOLE", photo.width, photo.height, pinhole)
    terms = tuple(float(v) for v in np.pad(distortion[:4], (0, 4 - len(distortion[:4]))))
    return Camera("OPENCV", photo.width, photo.height, (*pinhole, *terms))


def _colmap_cameras(text: str, path: Path) -> dict[tuple[int, int], Camera]:
    out: dict[tuple[int, int], Camera] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        try:
            _, model, width, height, *params = line.split()
            camera = Camera(model, int(width), int(height), tuple(map(float, params)))
        except (ValueError, OverflowError):
            raise InputError(f"{path}: expected CAMERA_ID MODEL WIDTH HEIGHT PARAMS..., got {line[:60]!r}") from None
        if len(camera.params) != NUM_PARAMS.get(model):
            known = ", ".join(f"{name} ({count})" for name, count in NUM_PARAMS.items())
            raise InputError(f"{path}: {model} with {len(camera.params)} parameters is none of {known}")
        if not np.isfinite(camera.params).all() or camera.params[0] <= 0.0:
            raise InputError(f"{path}: the parameters of camera {line.split()[0]} are no camera's")
        size = (camera.width, camera.height)
        if out.get(size, camera) != camera:
            raise InputError(f"{path}: two cameras of {width} x {height}: a JSON file can say whose is which")
        out[size] = camera
    return out


def numbers(value: Any, shape: tuple[int, ...], where: str) -> Array:
    """A value of a file as finite numbers of that shape; InputError says where they are not."""
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.full((), np.nan)
    if numbers.shape != shape or not np.isfinite(numbers).all():
        raise InputError(f"{where}: expected {' x '.join(map(str, shape)) + ' numbers' if shape else 'a number'}")
    return numbers
