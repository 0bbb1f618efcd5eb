"""A photo localized in metres against two others alone: a model of two photos, whose scale predicted depth gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from metric_network import METRES, SIDE, MetricNetwork

import unposed
from unposed.optim.evaluation import rotation_and_centre
from unposed.optim.rotations import rotation_angle_deg
from unposed.plugins.metric import da3
from unposed.synthetic.photos import PhotoSet


def test_two_photos_are_a_map_in_metres(photo_set: Any, tmp_path: Path, monkeypatch: Any) -> None:
    yard: PhotoSet = photo_set("easy", 5, 320)
    network = MetricNetwork(yard, {})
    monkeypatch.setattr(da3, "shared_many_view", lambda *given: network)
    (tmp_path / "da3-metric.safetensors").write_bytes(b"not read here")
    files, out, cache = sorted(yard.images.iterdir()), tmp_path / "map", tmp_path / "cache"
    unposed.reconstruct([files[1], files[2]], out, cache=cache, device="cpu", intrinsics=yard.truth)
    settings = {"depth.weights": str(tmp_path / "da3-metric.safetensors"), "depth.max_side_px": SIDE}
    made = unposed.align(out, "depth", settings=settings, device="cpu")
    scale = made.summary["models"][0]["scale"]
    assert scale["from"] == "depth (metric.da3)" and 0.03 < scale["sigma"] < 0.2
    found = unposed.localize(out, files[3], cache=cache, device="cpu", intrinsics=yard.truth)[files[3].name]
    assert found.pose is not None and not found.ambiguous
    shots = sorted(yard.scene.shots, key=lambda shot: shot.name)
    truth = np.array([shots[k].cam_from_world for k in (1, 2, 3)])
    mine = np.array([*made[0].cam_from_world, found.pose.cam_from_world])
    (turn, centre), (true_turn, true_centre) = (rotation_and_centre(each) for each in (mine, truth))
    relative, true_relative = (each[2] @ each[0].T for each in (turn, true_turn))
    assert rotation_angle_deg((relative @ true_relative.T)[None])[0] < 1.0
    travelled = turn[0] @ (centre[2] - centre[0])
    true_metres = METRES * (true_turn[0] @ (true_centre[2] - true_centre[0]))
    assert np.linalg.norm(travelled - true_metres) < 3.0 * scale["sigma"] * np.linalg.norm(true_metres)
    assert abs(np.log(np.linalg.norm(travelled) / np.linalg.norm(true_metres))) < 0.1
