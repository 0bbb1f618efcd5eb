"""The warm fine stage: files of key points that it cannot read, and models of which no points are left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import mapper_inputs

from unposed.growth.known_models import KnownKeypoints, write_keypoints
from unposed.pipeline.artifacts import Camera, InitialModel, InitialModels
from unposed.pipeline.stage import Resources, StageError
from unposed.plugins.fine.warm import WarmAdjustment, known_keypoints

Make = Callable[..., Any]
CPU = Resources("cpu", threads=1, ram_bytes=1 << 30, vram_bytes=0)
ARRAYS: dict[str, Any] = {"names": ["0.jpg", "1.jpg"], "start": [0, 2, 3], "keypoint": [0, 1, 2], "xy": np.ones((3, 2))}


def cut_short(file: Path) -> None:
    np.savez(file, **ARRAYS)
    file.write_bytes(file.read_bytes()[:-40])


def one_array(file: Path) -> None:
    with file.open("wb") as stream:
        np.save(stream, np.ones((3, 2)))


def changed(**arrays: Any) -> Callable[[Path], None]:
    return lambda file: np.savez(file, **{**ARRAYS, **arrays})


@pytest.mark.parametrize(
    "write",
    [
        cut_short,
        one_array,
        changed(keypoint=[0, -1, 2]),
        changed(names=["0.jpg", "1.jpg", "2.jpg"], start=[0, 3, 2, 3]),
        changed(start=[0, 3]),
        changed(names="0.jpg", start=[0, 3]),
    ],
)
def test_a_file_that_has_no_key_points_is_named(collection: Make, tmp_path: Path, write: Any) -> None:
    given = mapper_inputs(collection(photos=3))
    write(file := tmp_path / "keypoints.npz")
    with pytest.raises(StageError, match=r"keypoints\.npz: cannot be read as key points"):
        known_keypoints(file, given["photos"], given["view_graph"].keypoints)


def test_a_model_without_points_is_reported_and_not_adjusted(collection: Make, tmp_path: Path) -> None:
    """Photos that lie too near each other for the angle that points must be seen under."""
    world = collection(photos=4, sweep_deg=30.0, noise_px=0.5)
    given, keypoints = mapper_inputs(world), world.graph.keypoints
    rows = {photo.name: keypoints.rows_of(index) for index, photo in enumerate(given["photos"].photos)}
    known = {name: KnownKeypoints(np.arange(own.stop - own.start), keypoints.xy[own]) for name, own in rows.items()}
    write_keypoints(known, file := tmp_path / "keypoints.npz")
    camera = Camera("SIMPLE_RADIAL", 1600, 1200, (1500.0, 800.0, 600.0, 0.0))
    model = InitialModel((camera,), np.arange(4, dtype=np.int32), np.zeros(4, np.int32), world.cam_from_world)
    coarse = InitialModels((model,), {})
    usual = WarmAdjustment(keypoints=file)(**given, resources=CPU, coarse=coarse)
    assert len(usual.models[0].points) > 100
    found = WarmAdjustment(keypoints=file, min_angle_deg=60.0)(**given, resources=CPU, coarse=coarse)
    assert found.models == ()
    assert any("give no points" in warning for warning in found.warnings)
