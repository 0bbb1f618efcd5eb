"""Rules that unposed.testing checks artifacts against: shapes, types and ranges as pipeline.artifacts documents
them."""

from __future__ import annotations

from typing import Any

import numpy as np

from unposed.pipeline.artifacts import (
    CameraPriors,
    Doubts,
    Features,
    PairMatches,
    Ranking,
    SceneGraph,
    TwoViewGeometry,
)

from ._testing_scene import MadeUpScene


def artifact_violations(value: Any, item: tuple[int, ...], scene: MadeUpScene) -> list[str]:
    """One line for each rule that the value violates; none for artifacts without rules here (tokens, models)."""
    if isinstance(value, Features):
        return _features(value, scene.photos[item[0]])
    if isinstance(value, PairMatches):
        return _matches(value, *(scene.values[Features][i] for i in item))
    if isinstance(value, TwoViewGeometry):
        return _two_view_geometry(value, _match_count(value, item, scene))
    if isinstance(value, Ranking | SceneGraph):
        found = _pairs(value.pairs, len(scene.photos), isinstance(value, SceneGraph))
        return found + _row_count("similarity", value.similarity, (len(value.pairs),))
    if isinstance(value, Doubts):
        found = _pairs(value.pairs, len(scene.photos), True)
        return found + ([] if len(value.reasons) == len(value.pairs) else ["there is not one reason for each pair"])
    if isinstance(value, CameraPriors):
        found = _row_count("camera_of_photo", value.camera_of_photo, (len(scene.photos),))
        if np.any((value.camera_of_photo < 0) | (value.camera_of_photo >= len(value.cameras))):
            found.append("camera_of_photo is not an index into cameras")
        return found + ([] if len(value.focal_source) == len(value.cameras) else ["focal_source is not per camera"])
    return []


def _features(value: Features, photo: Any) -> list[str]:
    count = len(value.xy)
    found = _row_count("xy", value.xy, (count, 2)) + _row_count("scale", value.scale, (count,))
    found += _row_count("rgb", value.rgb, (count, 3)) + _row_count("score", value.score, (count,))
    if value.descriptors.ndim != 2 or len(value.descriptors) != count:
        found.append(f"descriptors have shape {value.descriptors.shape}, not ({count}, d)")
    if found:
        return found
    if np.any((value.xy < 0) | (value.xy > (photo.width, photo.height))):
        found.append("xy lies outside the photo: give pixels of the original size")
    if np.any(np.diff(value.score) > 0):
        found.append("rows are not sorted by score, best first")
    return found + ([] if value.rgb.dtype == np.uint8 else ["rgb is not uint8"])


def _matches(value: PairMatches, a: Features, b: Features) -> list[str]:
    count, found = len(value.weight), _row_count("weight", value.weight, (len(value.weight),))
    for name in ("xy_a", "xy_b"):
        found += _row_count(name, getattr(value, name), (count, 2))
    for name in ("index_a", "index_b", "depth_a", "depth_b"):
        if (rows := getattr(value, name)) is not None and rows.shape != (count,):
            found.append(f"{name} has shape {rows.shape}, not {(count,)}")
    if np.any((value.weight <= 0) | (value.weight > 1)):
        found.append("weight is outside (0, 1]")
    for name, index, xy, side in (("a", value.index_a, value.xy_a, a), ("b", value.index_b, value.xy_b, b)):
        if index is None or found:
            continue
        if np.any((index < 0) | (index >= len(side.xy))):
            found.append(f"index_{name} is not a row of the photo's features")
        elif not np.array_equal(side.xy[index], xy):
            found.append(f"xy_{name} is not the key point of index_{name}")
    return found


def _two_view_geometry(value: TwoViewGeometry, matches: int) -> list[str]:
    found = _row_count("inliers", value.inliers, (matches,)) + _row_count("fundamental", value.fundamental, (3, 3))
    found += _row_count("b_from_a", value.b_from_a, (3, 4))
    return found + ([] if value.inliers.dtype == np.bool_ else ["inliers are not bool"])


def _match_count(value: TwoViewGeometry, item: tuple[int, ...], scene: MadeUpScene) -> int:
    """The matches of the pair; those of a group are its own."""
    return len(scene.values[PairMatches][item].weight) if len(item) == 2 else len(value.inliers)


def _pairs(pairs: Any, photos: int, ordered: bool) -> list[str]:
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        return [f"pairs have shape {pairs.shape}, not (n, 2)"]
    if np.any((pairs[:, 0] < 0) | (pairs[:, 0] >= pairs[:, 1]) | (pairs[:, 1] >= photos)):
        return ["pairs are not photo indices i < j"]
    unique = np.unique(pairs, axis=0)
    if len(unique) != len(pairs):
        return ["pairs occur more than once"]
    return [] if not ordered or np.array_equal(unique, pairs) else ["pairs are not sorted"]


def _row_count(name: str, array: Any, shape: tuple[int, ...]) -> list[str]:
    if array.shape != shape:
        return [f"{name} has shape {array.shape}, not {shape}"]
    return [] if np.all(np.isfinite(array)) else [f"{name} is not finite"]
