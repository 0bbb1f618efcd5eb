"""Predicted point maps to finished scenes through the whole graph, on scenes whose cameras are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import unposed
from unposed.optim.evaluation import PoseErrors, evaluate_poses

PLUGINS = Path(__file__).parent / "emulated_network"
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PRESET = """
about: emulated point maps
cameras: {use: exif, model: SIMPLE_PINHOLE}
graph: {use: exhaustive}
matching: {use: emulated}
verification: {use: poselib, max_error_px: 3.8}
view_graph: {use: verified}
coarse: {use: align}
fine: {use: bundle}
"""


@pytest.fixture
def reconstruct(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Any, Any]]:
    """reconstruct(coarse stage, options of the matcher): the scene found, and the emulated one with the truth."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def run(coarse: str, further: dict[str, Any] | None = None, **options: Any) -> tuple[Any, Any]:
        from emulated_network import oracle

        truth = oracle(
            options.get("file"), options.get("photos", 8), options.get("scene_seed", 0), options.get("hard", False)
        )
        folder = tmp_path / "photos"
        folder.mkdir()
        for index in range(truth.photos):
            Image.new("L", (truth.width, truth.height), index).save(folder / f"{index:03d}.png")
        (tmp_path / "preset.yaml").write_text(PRESET)
        settings = {
            f"matching.{name}": str(value) if isinstance(value, Path) else value for name, value in options.items()
        }
        made = unposed.reconstruct(
            folder,
            preset=tmp_path / "preset.yaml",
            settings=settings | {"coarse.use": coarse} | (further or {}),
            cache=tmp_path / "cache",
        )
        return made, truth

    return run


def judged(made: Any, truth: Any) -> tuple[PoseErrors, float, float]:
    """Pose errors, trajectory error by the root mean square radius of the trajectory, mean error of focal lengths."""
    (scene,) = made.sparse.models
    poses = np.full((truth.photos, 3, 4), np.nan)
    poses[scene.photos] = scene.cam_from_world
    centre = -np.einsum("nji,nj->ni", truth.cam_from_world[:, :, :3], truth.cam_from_world[:, :, 3])
    radius = np.sqrt(((centre - centre.mean(axis=0)) ** 2).sum(axis=1).mean())
    errors = evaluate_poses(truth.cam_from_world, poses)
    focal = np.array([scene.cameras[camera].params[0] for camera in scene.camera_of_photo])
    assert errors.ate_rmse is not None
    return errors, errors.ate_rmse / radius, float(np.abs(focal / truth.focal_px[scene.photos] - 1.0).mean())


@pytest.mark.parametrize(
    ("photos", "rotation_deg", "trajectory", "focal"), [(8, 0.09, 0.003, 0.0035), (20, 0.05, 0.0012, 0.0012)]
)
def test_the_oracle_scenes(
    reconstruct: Callable[..., tuple[Any, Any]],
    reference_file: Callable[[str], Path],
    photos: int,
    rotation_deg: float,
    trajectory: float,
    focal: float,
) -> None:
    file = reference_file(f"oracle/scene_n{photos}.safetensors")
    errors, position, focal_error = judged(*reconstruct("align", file=file))
    assert errors.registered == photos
    assert errors.relative_rotation_median_deg < rotation_deg
    assert position < trajectory
    assert focal_error < focal


def test_a_scene_of_another_seed(reconstruct: Callable[..., tuple[Any, Any]]) -> None:
    made, truth = reconstruct("align", photos=10, scene_seed=3)
    errors, position, focal_error = judged(made, truth)
    assert errors.registered == 10
    assert errors.relative_rotation_median_deg < 0.12
    assert position < 0.004
    assert focal_error < 0.004
    assert made.sparse.warnings == ()


def test_noisy_predictions_and_pairs_that_are_confidently_wrong(reconstruct: Callable[..., tuple[Any, Any]]) -> None:
    made, truth = reconstruct("align", photos=14, scene_seed=4, hard=True)
    errors, _, _ = judged(made, truth)
    assert errors.registered == 14
    assert errors.relative_rotation_median_deg < 0.3
    assert any("inconsistent" in warning for warning in made.sparse.warnings)


@pytest.mark.parametrize("coarse", ["global", "colmap"])
def test_other_mappers_take_dense_matches(reconstruct: Callable[..., tuple[Any, Any]], coarse: str) -> None:
    """The photos' focal lengths differ by percents, which these mappers do not notice: hence the loose bound."""
    errors, _, _ = judged(*reconstruct(coarse, photos=8, scene_seed=5))
    assert errors.registered == 8
    assert errors.rotation_max_deg is not None and errors.rotation_max_deg < 3.0


def test_groups_and_pairs_together(reconstruct: Callable[..., tuple[Any, Any]]) -> None:
    groups = {
        "cameras.grouping": "image",
        "groups.use": "cover",
        "local.use": "emulated",
        "local.photos": 20,
        "local.wrong": 0.3,
    }
    made, truth = reconstruct("groups", photos=20, further=groups)
    errors, position, focal_error = judged(made, truth)
    assert errors.registered == 20
    assert errors.relative_rotation_median_deg < 0.12
    assert position < 0.004 and focal_error < 0.004
    assert any("groups are inconsistent with the others" in warning for warning in made.sparse.warnings)
    assert made.summary["stages"]["local"]["computed"] > 3
