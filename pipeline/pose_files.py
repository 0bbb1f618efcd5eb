"""Read camera poses from gt.json, transforms.json, ARKit, TUM trajectories or a COLMAP model.

gt.json is {"images": {name: {"R_w2c", "t_w2c", "K", "width", "height"}}, "units": "m"}, of which
only the pose is needed; its axes are COLMAP's. transforms.json is what radiance field programs read: camera to world,
OpenGL axes. ARKit has the same axes: frames with `transform`, four columns or 16 numbers column by column, which hold
for the photo as the sensor took it. A TUM trajectory has lines `name x y z qx qy qz qw`, camera to world, COLMAP's
axes; names are often times.
"""

from __future__ import annotations

import json
import math
from collections import ChainMap, Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unposed.optim.arrays import Array

from .colmap_model import read_model
from .errors import InputError
from .regular_files import read_text

TRAJECTORIES = (".txt", ".tum")
POSE_SIGMAS = ("sigma_deg", "sigma_position")
"""Keys of standard deviations of a pose in gt.json, see `Poses.sigma`."""
NAMES = ("file_path", "image", "name")
"""Keys of a frame's photo."""
MILLIMETRES = {"m": 1000.0, "cm": 10.0, "mm": 1.0}


@dataclass(frozen=True)
class PointFigures:
    """Number and quality of the 3D points of a COLMAP model."""

    points: int
    observations: int
    mean_track_length: float | None
    mean_reprojection_px: float | None


@dataclass(frozen=True, eq=False)
class Poses:
    """Photos of a file or model with known poses."""

    source: Path
    names: tuple[str, ...]
    cam_from_world: Array
    """(n, 3, 4)."""
    focal: Array
    """(n,) mean focal length over the longer side of the photo; NaN where the file has none."""
    millimetres: float | None = None
    """Length of one world unit; None where the file has no unit, or one without meaning."""
    point_figures: PointFigures | None = None
    sigma: Array | None = None
    """(n, 2) standard deviations of rotation, in degrees, and of position, in units of the world; NaN where the file
    says nothing. None: of no photo."""
    as_stored: bool = False
    """Whether poses hold for photos as the sensor took them, whatever their EXIF orientation is."""


def read_poses(path: Path) -> list[Poses]:
    """Read the poses in a file or folder: one set for a JSON file, one per model for a folder of COLMAP models.

    A folder may be a model, hold models, or hold a folder `sparse` that does; otherwise its transforms.json is read.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.name in ("images.bin", "images.txt") and _is_model(path.parent):
        if path.suffix == ".txt" and (path.parent / "images.bin").is_file():
            raise InputError(f"{path}: images.bin beside it would be read instead: give that, or move one of them away")
        return [_read_colmap(path.parent)]
    if not path.is_dir():
        return [_read_trajectory(path) if path.suffix.lower() in TRAJECTORIES else _read_json(path)]
    models = _models_in(path) or _models_in(path / "sparse")
    if models:
        return [_read_colmap(model) for model in models]
    if (path / "transforms.json").is_file():
        return [_read_json(path / "transforms.json")]
    raise InputError(f"{path}: neither a COLMAP model (cameras and images, .bin or .txt) nor a transforms.json in it")


def _models_in(folder: Path) -> list[Path]:
    if _is_model(folder):
        return [folder]
    return sorted(sub for sub in folder.iterdir() if _is_model(sub)) if folder.is_dir() else []


def _is_model(folder: Path) -> bool:
    return any(all((folder / f"{part}.{kind}").is_file() for part in ("cameras", "images")) for kind in ("bin", "txt"))


def _read_colmap(folder: Path) -> Poses:
    model = read_model(folder)
    images = [image for _, image in sorted(model.images.items()) if image.has_pose]
    focal = [_focal(image.camera) for image in images]
    observations = model.compute_num_observations()
    point_figures = PointFigures(
        points=model.num_points3D(),
        observations=observations,
        mean_track_length=model.compute_mean_track_length() if observations else None,
        mean_reprojection_px=model.compute_mean_reprojection_error() if observations else None,
    )
    matrices = np.array([image.cam_from_world().matrix() for image in images]).reshape(-1, 3, 4)
    return Poses(folder, tuple(image.name for image in images), matrices, np.array(focal, float), None, point_figures)


def _focal(camera: Any) -> float:
    focal = [camera.params[index] for index in camera.focal_length_idxs()]  # none for panoramas
    return float(np.mean(focal)) / max(camera.width, camera.height) if focal else math.nan


def _read_json(path: Path) -> Poses:
    try:
        data = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {_first_line(error)}") from error
    as_stored = False
    try:
        if isinstance(data, dict) and isinstance(data.get("images"), dict):
            entries = list(_ground_truth_entries(data["images"]))
            millimetres = MILLIMETRES.get(str(data.get("units", "m")))
            sigma = _sigmas(data["images"], [name for name, _, _ in entries])
        elif isinstance(data, dict) and isinstance(data.get("frames"), list):
            entries, sigma = list(_transforms_entries(data)), None
            as_stored = any("transform_matrix" not in frame for frame in data["frames"])
            millimetres = MILLIMETRES["m"] if as_stored else None  # ARKit's unit is the metre
        else:
            raise _Malformed('neither "images" (gt.json) nor "frames" (transforms.json) at the top')
    except _Malformed as problem:
        raise InputError(f"{path}: {problem}") from problem
    names = tuple(name for name, _, _ in entries)
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise InputError(f"{path}: {twice!r} comes twice")
    matrices = np.array([pose for _, pose, _ in entries]).reshape(-1, 3, 4)
    focal = np.array([focal for _, _, focal in entries], float)
    return Poses(path, names, matrices, focal, millimetres, sigma=sigma, as_stored=as_stored)


def _read_trajectory(path: Path) -> Poses:
    try:
        lines = [line.split() for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as text: {_first_line(error)}") from error
    names, matrices = [], []
    for words in lines:
        try:
            values = _numbers([float(word) for word in words[1:]], (7,), words[0])
        except (ValueError, _Malformed):
            values = np.zeros(7)
        if not values[3:].any():
            raise InputError(f"{path}: expected lines `name x y z qx qy qz qw`, got {' '.join(words)[:60]!r}")
        rotation = _rotation_from_xyzw(values[3:]).T
        names.append(words[0])
        matrices.append(np.c_[rotation, -rotation @ values[:3]])
    if not names or len(set(names)) < len(names):
        raise InputError(f"{path}: {'has no pose' if not names else 'a name comes twice'}")
    return Poses(path, tuple(names), np.array(matrices), np.full(len(names), np.nan))


def _rotation_from_xyzw(quaternion: Array) -> Array:
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + 2.0 * w * cross + 2.0 * cross @ cross)


def _nearest_rotation(matrix: Array) -> Array:
    u, _, vt = np.linalg.svd(matrix)
    return np.asarray(u @ vt)


class _Malformed(Exception):
    """An error in a JSON file; the reader adds the name of the file."""


def _ground_truth_entries(images: Mapping[str, Any]) -> Iterable[tuple[str, Array, float]]:
    for name, entry in images.items():
        if entry is None or (isinstance(entry, dict) and entry.get("R_w2c") is None):
            continue  # listed, but its pose is not known
        if not isinstance(entry, dict):
            raise _Malformed(f"{name}: expected an object with R_w2c and t_w2c")
        rotation = _numbers(entry.get("R_w2c"), (3, 3), f"{name}: R_w2c")
        if np.linalg.det(rotation) <= 0.0:
            raise _Malformed(f"{name}: R_w2c is singular or mirrored, and no rotation")
        translation = _numbers(entry.get("t_w2c"), (3,), f"{name}: t_w2c")
        focal = math.nan
        if entry.get("K") is not None:
            k = _numbers(entry["K"], (3, 3), f"{name}: K")
            focal = _over_longer_side((k[0, 0] + k[1, 1]) / 2, entry.get("width"), entry.get("height"), name)
        yield name, np.c_[_nearest_rotation(rotation), translation], focal


def _sigmas(images: Mapping[str, Any], names: Sequence[str]) -> Array | None:
    """(n, 2) as in `Poses.sigma`."""
    out = np.full((len(names), 2), np.nan)
    for row, name in enumerate(names):
        for column, key in enumerate(POSE_SIGMAS):
            if images[name].get(key) is not None:
                out[row, column] = _numbers(images[name][key], (), f"{name}: {key}")
                if out[row, column] < 0.0:
                    raise _Malformed(f"{name}: {key} is below 0")
    return None if np.isnan(out).all() else out


def _transforms_entries(data: dict[str, Any]) -> Iterable[tuple[str, Array, float]]:
    for frame in data["frames"]:
        name = next((frame[key] for key in NAMES if isinstance(frame, dict) and key in frame), None)
        if not isinstance(name, str):
            raise _Malformed("a frame has no file_path")
        intrinsics = ChainMap(frame, data)  # a frame's own intrinsics go first
        world_from_gl = _world_from_gl(frame, name)
        # OpenGL cameras look along -z with y up. A common scale of the axes is some exporters' habit: drop it.
        world_from_cam = world_from_gl[:, :3] * [1.0, -1.0, -1.0]
        if np.linalg.det(world_from_cam) <= 0.0:
            raise _Malformed(f"{name}: transform_matrix is singular or mirrored: are its axes left-handed?")
        rotation = _nearest_rotation(world_from_cam).T
        yield name, np.c_[rotation, -rotation @ world_from_gl[:, 3]], _transforms_focal(intrinsics, name)


def _world_from_gl(frame: Mapping[str, Any], name: str) -> Array:
    """(3, 4) from `transform_matrix`, rows with or without 0 0 0 1, or ARKit's `transform`, columns."""
    if "transform_matrix" in frame or "transform" not in frame:
        matrix = frame.get("transform_matrix")
        return _numbers(matrix[:3] if isinstance(matrix, list) else matrix, (3, 4), f"{name}: transform_matrix")
    columns = frame["transform"]
    flat = isinstance(columns, list) and len(columns) == 16
    found = _numbers(columns, (16,) if flat else (4, 4), f"{name}: transform").reshape(4, 4).T
    if not np.allclose(found[3], [0.0, 0.0, 0.0, 1.0], atol=1e-6):
        raise _Malformed(f"{name}: transform has no columns that end with 0 0 0 1; rows are called transform_matrix")
    return found[:3]


def _transforms_focal(intrinsics: Mapping[str, Any], name: str) -> float:
    width, height = intrinsics.get("w"), intrinsics.get("h")
    x, y, angle = (intrinsics.get(key) for key in ("fl_x", "fl_y", "camera_angle_x"))
    if x is None and angle is not None and width:
        half = float(_numbers(angle, (), f"{name}: camera_angle_x")) / 2
        x = float(_numbers(width, (), f"{name}: w")) / 2 / math.tan(half) if 0 < half < math.pi / 2 else None
    if x is None:
        return math.nan
    both = [float(_numbers(value, (), f"{name}: fl_{axis}")) for axis, value in zip("xy", (x, y), strict=True) if value]
    return _over_longer_side(sum(both) / len(both), width, height, name) if both else math.nan


def _over_longer_side(focal_px: float, width: Any, height: Any, name: str) -> float:
    if not width or not height:
        return math.nan
    return float(focal_px / np.max(_numbers([width, height], (2,), f"{name}: image size")))


def _numbers(value: Any, shape: tuple[int, ...], where: str) -> Array:
    try:
        numbers = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.full((), np.nan)
    if value is None or numbers.shape != shape or not np.isfinite(numbers).all():
        kind = "a number" if shape == () else f"{' x '.join(map(str, shape))} numbers"
        raise _Malformed(f"{where}: expected {kind}")
    return numbers


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
