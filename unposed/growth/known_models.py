"""Poses and cameras by name of the photo, as a warm start takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unposed.optim.alignment.robust_similarity import FittedSimilarity, fit_poses
from unposed.optim.arrays import Array, Index
from unposed.optim.evaluation import rotation_and_centre
from unposed.optim.partition.model_merging import moved_poses
from unposed.optim.similarity import Similarity
from unposed.pipeline.artifacts import Camera, CameraPriors, Photos, SparseModel


@dataclass(frozen=True, eq=False)
class KnownPose:
    """Pose and camera of a photo in a model."""

    camera: Camera
    cam_from_world: Array
    """(3, 4)."""


KnownModel = Mapping[str, KnownPose]
"""By name of the photo."""


def known_model(model: SparseModel, photos: Photos) -> dict[str, KnownPose]:
    """Poses and cameras of a model."""
    return {
        photos[index].name: KnownPose(model.cameras[camera], np.asarray(pose, np.float64))
        for index, camera, pose in zip(
            model.photos.tolist(), model.camera_of_photo.tolist(), model.cam_from_world, strict=True
        )
    }


@dataclass(frozen=True, eq=False)
class KnownKeypoints:
    """The observed key points of a photo, where a model has them."""

    number: Index
    """(k,) among the key points of the photo."""
    xy: Array
    """(k, 2)."""
    point: Index
    """(k,) which point each observes, of those of all models, one model after the other."""


def known_keypoints_of(models: Sequence[SparseModel], photos: Photos) -> dict[str, KnownKeypoints]:
    """Those of all photos of some models, by name."""
    out, points = {}, 0
    for model in models:
        observed, first = np.unique(model.obs_xy, return_index=True)
        point = np.asarray(model.obs_point, np.int64)[first] + points
        bounds = np.searchsorted(observed, model.xy_start)
        for row, index in enumerate(model.photos.tolist()):
            part = slice(int(bounds[row]), int(bounds[row + 1]))
            own = observed[part].astype(np.int64)
            xy = np.asarray(model.xy[own], np.float64)
            out[photos[index].name] = KnownKeypoints(own - int(model.xy_start[row]), xy, point[part])
        points += len(model.points)
    return out


def write_keypoints(keypoints: Mapping[str, KnownKeypoints], points: Array | None, file: Path) -> None:
    """The file that `fine.warm` reads; without the `points` (n, 3) of the models, these are found anew."""
    each = [keypoints[name] for name in sorted(keypoints)]
    arrays: dict[str, Any] = {
        "names": np.array(sorted(keypoints), np.str_),
        "start": np.cumsum([0, *(len(own.number) for own in each)]),
        "keypoint": np.concatenate([np.zeros(0, np.int64), *(own.number for own in each)]),
        "xy": np.concatenate([np.zeros((0, 2)), *(own.xy for own in each)]),
    }
    if points is not None:
        arrays |= {"point": np.concatenate([np.zeros(0, np.int64), *(own.point for own in each)]), "points": points}
    np.savez(file, **arrays)


def moved_known(model: KnownModel, similarity: Similarity) -> dict[str, KnownPose]:
    """The model after a similarity of its world."""
    return {
        name: KnownPose(each.camera, moved_poses(each.cam_from_world[None], similarity)[0])
        for name, each in model.items()
    }


def similarity_between(source: KnownModel, target: KnownModel) -> tuple[FittedSimilarity | None, list[str]]:
    """The similarity from one model to another by the photos that both have, and the names of these."""
    common = sorted(source.keys() & target.keys())
    if not common:
        return None, common
    (turn, centre), (other_turn, other_centre) = (
        rotation_and_centre(np.array([model[name].cam_from_world for name in common])) for model in (source, target)
    )
    return fit_poses(centre, other_centre, other_turn.transpose(0, 2, 1) @ turn), common


def with_group_cameras(
    models: Sequence[KnownModel], first: Sequence[str], cameras: CameraPriors, photos: Photos
) -> list[dict[str, KnownPose]]:
    """The models with one camera for the photos of a group, as the cameras node groups them: the one that `first`, the
    photos which were there before, have in common. Where these have several, every photo keeps its own."""
    group = {photo.name: int(own) for photo, own in zip(photos.photos, cameras.camera_of_photo, strict=True)}
    before = set(first)
    out = []
    for model in models:
        shared: dict[int, set[Camera]] = {}
        for name, each in model.items():
            if name in before:
                shared.setdefault(group[name], set()).add(each.camera)
        one = {own: next(iter(found)) for own, found in shared.items() if len(found) == 1}
        out.append(
            {name: KnownPose(one.get(group[name], each.camera), each.cam_from_world) for name, each in model.items()}
        )
    return out


def models_as_json(models: Sequence[KnownModel]) -> str:
    """The file that `coarse.given` reads."""
    entries: list[dict[str, Any]] = []
    for model in models:
        cameras = list(dict.fromkeys(each.camera for each in model.values()))
        entries.append(
            {
                "cameras": [
                    {"model": c.model, "width": c.width, "height": c.height, "params": list(c.params)} for c in cameras
                ],
                "photos": {
                    name: {"camera": cameras.index(each.camera), "pose": each.cam_from_world.tolist()}
                    for name, each in sorted(model.items())
                },
            }
        )
    return json.dumps({"models": entries})
