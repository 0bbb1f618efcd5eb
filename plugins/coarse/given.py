"""Initial models from a file: poses and intrinsics that an earlier reconstruction has found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from unposed.optim.rotations import nearest_rotation
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import Camera, Doubts, InitialModel, InitialModels, Photos, PredictedModels
from unposed.pipeline.regular_files import read_text
from unposed.pipeline.stage import Grain, StageError

from ..shared.models import reasons_left_out, without_doubts


@dataclass(frozen=True)
class GivenModels:
    """Takes poses and intrinsics as an earlier reconstruction has left them, for the fine stage to go on from.

        {"models": [{"cameras": [{"model", "width", "height", "params"}],
                     "photos": {name: {"camera": 0, "pose": [[...], [...], [...]]}}}]}

    pose is the 3 x 4 matrix world to camera. Photos that are not in the collection are ignored.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    models: Path
    """The file."""
    predicted: bool = False
    """Whether a network has predicted the poses: photos without matches keep theirs."""

    def __call__(self, photos: Photos, view_graph: ViewGraph, doubts: Doubts | None = None) -> InitialModels:
        found = read_initial_models(self.models, photos)
        found = tuple(sorted(found, key=lambda model: -len(model.photos)))
        kind = PredictedModels if self.predicted else InitialModels
        return kind(found, reasons_left_out(without_doubts(view_graph, doubts), found))


def read_initial_models(file: Path, photos: Photos) -> tuple[InitialModel, ...]:
    """The models of a file that have two photos of the collection; StageError if there are none."""
    index = {photo.name: row for row, photo in enumerate(photos.photos)}
    try:
        listed = json.loads(read_text(file))["models"]
        found = tuple(model for each in listed if len((model := _model(each, index)).photos) >= 2)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise StageError(f"{file.name}: cannot be read as initial models: {error}") from error
    if not found:
        raise StageError(f"{file.name}: no model in it has two photos of this collection")
    return found


def _model(entry: Any, index: dict[str, int]) -> InitialModel:
    rows = sorted((index[name], each) for name, each in entry["photos"].items() if name in index)
    poses = np.array([each["pose"] for _, each in rows], np.float64).reshape(-1, 3, 4)
    used, camera = np.unique([each["camera"] for _, each in rows], return_inverse=True)
    cameras = [entry["cameras"][number] for number in used.astype(int).tolist()]
    if not np.isfinite(poses).all():
        raise ValueError("a pose is not finite")
    poses[:, :, :3] = nearest_rotation(poses[:, :, :3])
    return InitialModel(
        cameras=tuple(Camera(c["model"], c["width"], c["height"], tuple(map(float, c["params"]))) for c in cameras),
        photos=np.array([row for row, _ in rows], np.int32),
        camera_of_photo=camera.astype(np.int32).ravel(),
        cam_from_world=poses,
    )
