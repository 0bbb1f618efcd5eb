"""Rules that artifacts keep where they enter the pipeline: shapes, types and ranges as pipeline.artifacts documents
them. A value that breaks one would be blamed on a later stage, or on the photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .artifacts import (
    CameraPriors,
    DepthGrid,
    Doubts,
    Features,
    InitialModel,
    InitialModels,
    PairMatches,
    PhotoCalibration,
    PhotoGroups,
    PhotoMask,
    Ranking,
    SceneGraph,
    SparseModel,
    Tokens,
    TwoViewGeometry,
)

Size = tuple[int, int]
"""Width and height of a photo in pixels."""
ROTATION_ERROR = 1e-3
"""Entries of R R^T - I from which on R is no rotation: errors of float32 are below 1e-5, forgotten scales above 0.1."""


def broken_rules(value: Any, of_item: Sequence[Size], photos: int) -> list[str]:
    """What is wrong with a value, a line each; nothing where it is right, or an artifact without rules here.

    of_item: the photo, or the two photos, that the value is about; none for a value about the collection.
    photos: their number in the collection.
    """
    if isinstance(value, Features):
        return _features(value, of_item[0])
    if isinstance(value, Tokens):
        return _array("values", value.values, (None, None, None))
    if isinstance(value, PhotoMask):
        return _array("visible", value.visible, (None, None), "b") or (
            [] if value.visible.size else ["visible is empty"]
        )
    if isinstance(value, DepthGrid):
        return _depth_grid(value)
    if isinstance(value, PairMatches) and len(of_item) == 2:
        return _matches(value, of_item[0], of_item[1])
    if isinstance(value, TwoViewGeometry) and len(of_item) == 2:
        found = _array("inliers", value.inliers, (None,), "b") + _array("b_from_a", value.b_from_a, (3, 4))
        return found + _array("fundamental", value.fundamental, (3, 3)) + _array("focals_px", value.focals_px, (2,))
    if isinstance(value, Ranking | SceneGraph):
        return _pairs(value.pairs, photos, isinstance(value, SceneGraph)) or _array(
            "similarity", value.similarity, (len(value.pairs),)
        )
    if isinstance(value, PhotoGroups):
        wrong = [each for each in value.groups if not _is_group(each, photos)]
        return [f"a group is not of distinct photos below {photos}: {wrong[0]}"] if wrong else []
    if isinstance(value, Doubts):
        found = _pairs(value.pairs, photos, True)
        return found or ([] if len(value.reasons) == len(value.pairs) else ["there is not one reason for each pair"])
    if isinstance(value, PhotoCalibration):
        return _calibration(value)
    if isinstance(value, CameraPriors):
        return _cameras(value, photos)
    if isinstance(value, InitialModels):
        return [f"model {n}: {line}" for n, each in enumerate(value.models) for line in _model(each, photos)]
    return []


def _features(value: Features, size: Size) -> list[str]:
    count = len(value.xy)
    found = _array("xy", value.xy, (count, 2)) + _array("scale", value.scale, (count,))
    found += _array("rgb", value.rgb, (count, 3), "u") + _array("score", value.score, (count,))
    found += _array("descriptors", value.descriptors, (count, None), "fiu")
    if found:
        return found
    if _outside(value.xy, size):
        found.append("xy lies outside the photo: give pixels of the original size")
    several = not value.descriptors.shape[1]  # extractors, whose key points come one after the other
    if not several and np.any(np.diff(value.score) > 0):
        found.append("rows are not sorted by score, best first")
    return found


def _matches(value: PairMatches, size_a: Size, size_b: Size) -> list[str]:
    count = len(value.weight)
    found = _array("weight", value.weight, (count,))
    for name, xy, size in (("xy_a", value.xy_a, size_a), ("xy_b", value.xy_b, size_b)):
        wrong = _array(name, xy, (count, 2))
        if not wrong and _outside(xy, size):
            wrong.append(f"{name} lies outside the photo: give pixels of the original size")
        found += wrong
    for name in ("index_a", "index_b"):
        rows = getattr(value, name)
        if rows is not None:
            wrong = _array(name, rows, (count,), "iu")
            found += wrong or ([f"{name} has negative rows"] if np.any(rows < 0) else [])
    for name in ("depth_a", "depth_b"):
        if (depth := getattr(value, name)) is not None:
            found += _array(name, depth, (count,), finite=False)
    if not found and np.any((value.weight <= 0) | (value.weight > 1)):
        found.append("weight is outside (0, 1]")
    return found


def _depth_grid(value: DepthGrid) -> list[str]:
    found = _array("depth", value.depth, (None, None), finite=False)
    found += _array("confidence", value.confidence, value.depth.shape, "fu", finite=False)
    if not found and not value.depth.size:
        found.append("depth is empty")
    if not (np.isnan(value.focal_px) or 0.0 < value.focal_px < np.inf):
        found.append("focal_px is not positive; NaN if it is unknown")
    return found if min(value.step_px) > 0.0 else [*found, "step_px is not positive"]


def _calibration(value: PhotoCalibration) -> list[str]:
    if not value.log_sigma > 0.0:
        return ["log_sigma is not positive"]
    if np.isnan(value.focal_px):
        return [] if np.isinf(value.log_sigma) else ["log_sigma is finite, but focal_px is not a number"]
    if not 0.0 < value.focal_px < np.inf:
        return ["focal_px is not positive"]
    return [] if np.isfinite(value.log_sigma) else ["log_sigma is infinite, but focal_px is a number"]


def _cameras(value: CameraPriors, photos: int) -> list[str]:
    found = _array("camera_of_photo", value.camera_of_photo, (photos,), "iu")
    if not found and _beyond(value.camera_of_photo, len(value.cameras)):
        found.append("camera_of_photo is not an index into cameras")
    if len(value.focal_source) != len(value.cameras):
        found.append("focal_source is not per camera")
    if not all(np.all(np.isfinite(each.params)) for each in value.cameras):
        found.append("params of a camera are not finite")
    if value.cam_from_world is not None:
        found += _array("cam_from_world", value.cam_from_world, (photos, 3, 4), finite=False)
    if value.guess_log_sigma is not None:
        wrong = _array("guess_log_sigma", value.guess_log_sigma, (len(value.cameras),), finite=False)
        found += wrong or ([] if (value.guess_log_sigma > 0.0).all() else ["guess_log_sigma is not positive"])
    return found


def _model(value: InitialModel, photos: int) -> list[str]:
    count = len(value.photos)
    found = _array("photos", value.photos, (count,), "iu")
    found += _array("cam_from_world", value.cam_from_world, (count, 3, 4))
    found += _array("camera_of_photo", value.camera_of_photo, (count,), "iu")
    if found:
        return found
    if _beyond(value.photos, photos) or np.any(np.diff(value.photos.astype(np.int64)) <= 0):
        found.append("photos are not ascending indices of the collection")
    if _beyond(value.camera_of_photo, len(value.cameras)):
        found.append("camera_of_photo is not an index into cameras")
    turns = np.asarray(value.cam_from_world[:, :, :3], np.float64)
    if np.any(np.abs(turns @ turns.transpose(0, 2, 1) - np.eye(3)) > ROTATION_ERROR):
        found.append("cam_from_world has a matrix that is no rotation")
    if not all(np.all(np.isfinite(each.params)) for each in value.cameras):
        found.append("params of a camera are not finite")
    return found + (_points(value) if isinstance(value, SparseModel) else [])


def _points(value: SparseModel) -> list[str]:
    count, seen = len(value.points), len(value.obs_xy)
    found = _array("xy", value.xy, (None, 2)) + _array("points", value.points, (count, 3))
    found += _array("rgb", value.rgb, (count, 3), "u") + _array("error_px", value.error_px, (count,))
    found += _array("obs_xy", value.obs_xy, (seen,), "iu") + _array("obs_point", value.obs_point, (seen,), "iu")
    found += _array("xy_start", value.xy_start, (len(value.photos) + 1,), "iu")
    if found:
        return found
    if np.any(np.diff(value.xy_start) < 0) or value.xy_start[0] != 0 or value.xy_start[-1] != len(value.xy):
        found.append("xy_start does not divide xy among the photos")
    if _beyond(value.obs_xy, len(value.xy)):
        found.append("obs_xy is not a row of xy")
    if _beyond(value.obs_point, count):
        found.append("obs_point is not a row of points")
    return found


def _pairs(pairs: Any, photos: int, ordered: bool) -> list[str]:
    """What is wrong with pairs of photos, which are sorted if `ordered`."""
    found = _array("pairs", pairs, (None, 2), "iu")
    if found:
        return found
    if np.any((pairs[:, 0] < 0) | (pairs[:, 0] >= pairs[:, 1]) | (pairs[:, 1] >= photos)):
        return ["pairs are not photo indices i < j"]
    unique = np.unique(pairs, axis=0)
    if len(unique) != len(pairs):
        return ["pairs occur more than once"]
    return [] if not ordered or np.array_equal(unique, pairs) else ["pairs are not sorted"]


def _is_group(members: Any, photos: int) -> bool:
    right = not _array("group", members, (None,), "iu") and len(members) and len(np.unique(members)) == len(members)
    return bool(right) and not _beyond(members, photos)


KINDS: Mapping[str, str] = {"f": "floating point", "iu": "integers", "u": "uint8", "b": "bool", "fiu": "numbers"}


def _array(name: str, value: Any, shape: tuple[int | None, ...], kinds: str = "f", finite: bool = True) -> list[str]:
    """Whether it is an array of this shape (None: any length), of this kind of numbers, all of them finite."""
    if not isinstance(value, np.ndarray):
        return [f"{name} is a {type(value).__name__} and no NumPy array"]
    if value.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, value.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        return [f"{name} has shape {value.shape}, not ({wanted}{',' if len(shape) == 1 else ''})"]
    if value.dtype.kind not in kinds:
        return [f"{name} is of {value.dtype}, not {KINDS[kinds]}"]
    if kinds == "u" and value.dtype != np.uint8:
        return [f"{name} is of {value.dtype}, not uint8"]
    return [f"{name} is not finite"] if finite and not np.all(np.isfinite(value)) else []


def _outside(xy: Any, size: Size) -> bool:
    """Whether any of the pixels (n, 2) lies outside of a photo of this size."""
    return bool(np.any((xy < 0) | (xy > size)))


def _beyond(rows: Any, count: int) -> bool:
    return bool(np.any((rows < 0) | (rows >= count)))
