"""What is known beforehand: intrinsics and poses by the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unposed
from unposed.cli import main
from unposed.optim.rotations import exp_so3
from unposed.synthetic.photos import PhotoSet


def test_known_intrinsics_and_poses_are_kept(yard: PhotoSet, reconstructed: Any, tmp_path: Path) -> None:
    """All intrinsics, and the poses of three photos of twelve."""
    truth = json.loads(yard.truth.read_text())
    names = sorted(truth["images"])
    for name in set(names) - set(names[::5]):
        truth["images"][name]["R_w2c"] = None
    (tmp_path / "some poses.json").write_text(json.dumps(truth))
    line = ["reconstruct", str(yard.images), "-o", str(tmp_path / "out"), "--quiet"]
    line += ["--cache", str(reconstructed.cache)]  # of ten of the photos: nothing of it knows of cameras
    line += ["--intrinsics", str(yard.truth), "--poses", str(tmp_path / "some poses.json")]
    assert main(line) == 0
    made = unposed.load(tmp_path / "out", yard.images)
    (scene,) = made.sparse.models
    assert len(scene.photos) == 12
    (camera,) = scene.cameras
    k = np.array(truth["images"][names[0]]["K"])
    np.testing.assert_allclose(camera.params[:4], [k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5], atol=1e-5)
    true = np.array([shot.cam_from_world for shot in sorted(yard.scene.shots, key=lambda shot: shot.name)])
    np.testing.assert_allclose(scene.cam_from_world[::5], true[::5], atol=1e-12)
    centres, expected = (-np.einsum("cji,cj->ci", p[:, :, :3], p[:, :, 3]) for p in (scene.cam_from_world, true))
    extent = np.linalg.norm(expected - expected.mean(axis=0), axis=1).max()
    assert np.abs(centres - expected).max() < 0.003 * extent


def test_rough_poses_of_a_phone_choose_pairs_and_set_the_frame(reconstructed: Any, tmp_path: Path) -> None:
    """ARKit's frames, a degree and ten centimetres off, five metres from what is photographed; one photo has none."""
    rng = np.random.default_rng(4)
    names = sorted(file.name for file in reconstructed.kept.iterdir())
    frames = []
    for name in names[1:]:
        pose = np.vstack([reconstructed.true_pose(name), [0.0, 0.0, 0.0, 1.0]])
        pose[:3, :3] = exp_so3(np.radians(1.0) * rng.standard_normal((1, 3)))[0] @ pose[:3, :3]
        world_from_gl = np.linalg.inv(pose) @ np.diag([1.0, -1.0, -1.0, 1.0])
        world_from_gl[:3, 3] += 0.1 * rng.standard_normal(3)
        frames.append({"image": name, "transform": world_from_gl.T.tolist()})
    (tmp_path / "arkit.json").write_text(json.dumps({"frames": frames}))
    made = unposed.reconstruct(
        reconstructed.kept,
        poses=tmp_path / "arkit.json",
        settings={"fine.pose_sigma": [1.0, 0.1], "near.partners": 4},
        cache=reconstructed.cache,
        device="cpu",
        report=False,
    )
    (model,) = made.models
    assert len(model) == len(names)
    true = np.array([reconstructed.true_pose(name) for name in model.photo_names])
    centre, expected = (-np.einsum("nji,nj->ni", p[:, :, :3], p[:, :, 3]) for p in (model.cam_from_world, true))
    assert np.linalg.norm(centre - expected, axis=1).max() < 0.12
    length, true_length = (np.linalg.norm(each[0] - each[-1]) for each in (centre, expected))
    assert length == pytest.approx(true_length, rel=0.03)


def test_files_that_are_not_there(yard: PhotoSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["reconstruct", str(yard.images), "-o", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--quiet"]
    assert main([*line, "--poses", "absent.json"]) == 2
    assert "cameras.poses: absent.json: No such file" in capsys.readouterr().err


def test_a_file_of_something_else_is_bad_input(
    yard: PhotoSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "k.json").write_text("hello")
    line = ["reconstruct", str(yard.images), "-o", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--quiet"]
    assert main([*line, "--intrinsics", str(tmp_path / "k.json")]) == 2
    assert "k.json: is no JSON" in capsys.readouterr().err
    assert not (tmp_path / "out" / "summary.json").exists()
