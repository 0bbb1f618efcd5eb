"""Poses of localized photos as files: JSON, TUM trajectories and COLMAP models in text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from unposed.pipeline.artifacts import Photos, SparseModel
from unposed.pipeline.colmap_model import to_colmap

from .result import Localization, LocalizedPose


def write_localizations(found: Sequence[Localization], folder: Path) -> None:
    """Write poses.json, and for each model k poses-k.txt and sparse/k.

    Photos that fit two places are in poses.json alone: programs that read the other files could not tell.
    """
    facts = {"photos": {each.photo.name: each.facts() for each in found}}
    text = json.dumps(facts, indent=1, ensure_ascii=False)
    (folder / "poses.json").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    sure = [each for each in found if each.pose is not None and not each.ambiguous]
    for model in sorted({each.pose.model for each in sure if each.pose is not None}):
        own = [each for each in sure if each.pose is not None and each.pose.model == model]
        (folder / f"poses-{model}.txt").write_text(tum_trajectory(own), encoding="utf-8")
        target = folder / "sparse" / str(model)
        target.mkdir(parents=True)
        photos = Photos(tuple(each.photo for each in own), {})
        to_colmap(_cameras_only([each.pose for each in own if each.pose is not None]), photos).write_text(target)


def tum_trajectory(found: Sequence[Localization]) -> str:
    """Lines `number x y z qx qy qz qw` of camera to world; the number counts the photos, which have no time."""
    lines = ["# number x y z qx qy qz qw, camera to world; the number counts the photos in the order of their names"]
    for number, each in enumerate(found):
        if each.pose is not None:
            turn = Rotation.from_matrix(each.pose.cam_from_world[:, :3].T).as_quat()
            lines.append(" ".join([str(number), *(f"{value:.9g}" for value in (*each.pose.centre, *turn))]))
    return "\n".join(lines) + "\n"


def _cameras_only(poses: Sequence[LocalizedPose]) -> SparseModel:
    """The poses as a model without points, with a camera for each."""
    nothing = np.zeros(0, np.int64)
    count = len(poses)
    return SparseModel(
        cameras=tuple(pose.camera for pose in poses),
        photos=np.arange(count, dtype=np.int32),
        camera_of_photo=np.arange(count, dtype=np.int32),
        cam_from_world=np.array([pose.cam_from_world for pose in poses]).reshape(-1, 3, 4),
        xy=np.zeros((0, 2)),
        xy_start=np.zeros(count + 1, np.int64),
        points=np.zeros((0, 3)),
        rgb=np.zeros((0, 3), np.uint8),
        error_px=np.zeros(0),
        obs_xy=nothing,
        obs_point=nothing,
    )
