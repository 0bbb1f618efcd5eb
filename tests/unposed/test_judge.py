"""`unposed judge`: photos whose poses are off are named, others are not; and it says so in words and in JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from finished import true_model, write_finished

import unposed
from unposed.cli import main
from unposed.errors import ConfigError, InputError
from unposed.judging import JudgedModel, JudgeOptions, judged_model
from unposed.optim.poses import camera_centres
from unposed.optim.rotations import exp_so3
from unposed.pipeline.artifacts import Photos, SparseModel
from unposed.pipeline.resources import machine
from unposed.pipeline.threads import one_thread_each
from unposed.synthetic.photos import PhotoSet

Made = tuple[SparseModel, Photos]


@pytest.fixture(scope="module")
def made(photo_set: Callable[[str, int, int], PhotoSet]) -> Made:
    """True poses, with key points as exact as detectors find them."""
    model, photos = true_model(photo_set("easy", 6, 320), points=900)
    noise = np.random.default_rng(0).normal(0, 0.4, model.xy.shape)
    return replace(model, xy=model.xy + noise), photos


def turned(model: SparseModel, row: int, angle_deg: float) -> SparseModel:
    """The model with one photo turned around its centre."""
    pose, centre = model.cam_from_world.copy(), camera_centres(model.cam_from_world)[row]
    pose[row, :, :3] = exp_so3(np.radians(angle_deg) * np.array([[0.6, 0.64, 0.48]]))[0] @ pose[row, :, :3]
    pose[row, :, 3] = -pose[row, :, :3] @ centre
    return replace(model, cam_from_world=pose)


def judged(made: Made, model: SparseModel, options: JudgeOptions | None = None) -> JudgedModel:
    with one_thread_each():  # as in a command: two workers whose libraries take all cores wait for each other
        return judged_model(model, made[1], options or JudgeOptions(), machine("cpu", 1))


def test_photos_that_nobody_has_touched_are_all_well(made: Made) -> None:
    found = judged(made, made[0])
    assert (found.outlook, found.hurting) == ("well", ())
    assert all(each.pose.tested and each.image.tested and not each.reason for each in found.photos)
    assert found.error_px < 1.0


@pytest.mark.parametrize(("row", "angle_deg"), [(0, 0.5), (3, 0.5), (2, 2.0)])
def test_a_photo_that_is_off_is_named_and_no_other(made: Made, row: int, angle_deg: float) -> None:
    found = judged(made, turned(made[0], row, angle_deg))
    (bad,) = found.hurting
    assert bad.name == made[1][row].name
    assert bad.pose.turn_deg == pytest.approx(angle_deg, rel=0.15)
    assert f"pose off by {bad.pose.turn_deg:.2f} degrees" in bad.reason
    assert found.outlook == "without"


def test_images_tell_where_points_say_nothing(made: Made) -> None:
    """With as many points demanded as there are nowhere, only images test."""
    few = replace(JudgeOptions().poses, min_points=10**6)
    found = judged(made, turned(made[0], 3, 2.0), replace(JudgeOptions(), poses=few))
    (bad,) = found.hurting
    assert bad.name == made[1][3].name
    assert not bad.pose.tested
    assert found.photos[0].image.correlation > bad.image.correlation + 0.1
    assert found.photos[0].image.psnr > bad.image.psnr


def test_a_model_of_wrong_poses_is_no_good(made: Made) -> None:
    model = made[0]
    for row in (0, 2, 5):
        model = turned(model, row, 3.0 + row)
    assert judged(made, model).outlook == "badly"


def test_it_says_so_in_words_and_in_json(
    photo_set: Callable[[str, int, int], PhotoSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_finished(photo_set("easy", 6, 320), tmp_path / "out")
    assert main(["judge", str(tmp_path / "out"), "--quiet", "--device", "cpu"]) == 0
    assert "will train well" in capsys.readouterr().out
    assert main(["judge", str(tmp_path / "out"), "--json", "--device", "cpu", "--set", "poses.max_error_px=3"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["outlook"] == "well"
    assert len(facts["photos"]) == 6
    one = next(iter(facts["photos"].values()))
    assert one["pose"]["points"] > 100 and one["image"]["shift_deg"] is not None
    with pytest.raises(ConfigError, match="sharp_pix"):
        unposed.judge(tmp_path / "out", settings=["sharp_pix=1"])
    write_finished(photo_set("easy", 2, 320), tmp_path / "two")
    assert unposed.judge(tmp_path / "two", device="cpu").outlook == "unknown"
    with pytest.raises(InputError, match="no finished reconstruction"):
        unposed.judge(tmp_path)
