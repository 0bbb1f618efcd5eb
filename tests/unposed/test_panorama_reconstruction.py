"""Reconstruction of a folder of panoramas, from files to files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pycolmap
import pytest

import unposed
from unposed.optim.evaluation import evaluate_poses
from unposed.synthetic.photos import write_photos, write_truth
from unposed.synthetic.wide_scenes import panoramas


def test_panoramas_are_reconstructed_as_rigs_and_put_together_again(tmp_path: Path) -> None:
    scene = panoramas(photos=3, width=768)
    write_photos(scene, tmp_path / "photos")
    write_truth(scene, tmp_path / "gt.json")
    made = unposed.reconstruct(tmp_path / "photos", tmp_path / "out", cache=tmp_path / "cache", device="cpu")
    names = [shot.name for shot in scene.shots]
    assert made.summary["registered"] == 18 and list(made.summary["panoramas"]) == names
    truth = np.array([shot.cam_from_world for shot in scene.shots])
    found = np.array([made.summary["panoramas"][name]["cam_from_world"] for name in names])
    errors = evaluate_poses(found, truth)
    assert errors.auc[5] is not None and errors.auc[5] > 0.95
    views = pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")
    assert (len(views.rigs), len(views.frames), len(views.images)) == (1, 3, 18)
    whole = pycolmap.Reconstruction(tmp_path / "out" / "panoramas" / "0")
    for name, pose in zip(names, found, strict=True):
        image = whole.find_image_with_name(name)
        assert image.camera.model.name == "EQUIRECTANGULAR"
        np.testing.assert_allclose(image.cam_from_world().matrix(), pose, atol=1e-9)
    whole.update_point_3d_errors()
    assert whole.compute_mean_reprojection_error() < 1.0
    loaded = unposed.load(tmp_path / "out")
    assert len(loaded.photos) == 18 and loaded.sparse.models[0].rigs is not None
    judged = unposed.evaluate(tmp_path / "out" / "panoramas", tmp_path / "gt.json")
    assert judged.errors.auc[5] == pytest.approx(errors.auc[5], abs=1e-6)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["helpings"] == made.summary["helpings"]
    assert sorted(file.name for file in (tmp_path / "photos").iterdir()) == names  # nothing was written there
