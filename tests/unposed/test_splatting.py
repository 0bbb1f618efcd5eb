"""`unposed splat`: files that viewers read, scores, resuming, and one clear line where it cannot."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from finished import write_finished
from PIL import Image

import unposed
from unposed.cli import main
from unposed.errors import ConfigError, InputError
from unposed.gaussian_files import SPLAT_ROW, write_spz
from unposed.model_bundles import bundle_of_model, model_of_bundle
from unposed.settings import options_of
from unposed.splat_poses import TrainedPoses, check_trainable_poses, write_refined
from unposed.surface.gaussians.poses import moved_camera
from unposed.surface.gaussians.projection import rotations
from unposed.surface.gaussians.scene import Gaussians, TrainingOptions, TrainingView
from unposed.surface.stereo.view import Pinhole
from unposed.synthetic.photos import PhotoSet

SMALL = ("training.max_side_px=64", "training.steps=30", "training.seeds=800")


@pytest.fixture(scope="module")
def written(photo_set: Callable[[str, int, int], PhotoSet], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run in `out`, dense points in `dense` and a splat in `splat`."""
    folder = tmp_path_factory.mktemp("splat")
    write_finished(photo_set("easy", 5, 320), folder / "out")
    unposed.dense(folder / "out", folder / "dense", settings={"max_side_px": 160, "points": 3000}, device="cpu")
    line = ["splat", str(folder / "out"), "-o", str(folder / "splat"), "--seeds", str(folder / "dense"), "--quiet"]
    assert main([*line, "--device", "cpu", *(part for each in SMALL for part in ("--set", each))]) == 0
    return folder


def test_files_are_those_of_viewers(written: Path) -> None:
    head, _, body = (written / "splat" / "splat.ply").read_bytes().partition(b"end_header\n")
    names = [line.split()[-1] for line in head.decode("ascii").splitlines() if line.startswith("property float")]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[-8:] == ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    rows = np.frombuffer(body, "<f4").reshape(-1, len(names))
    np.testing.assert_allclose(np.linalg.norm(rows[:, -4:], axis=1), 1.0, atol=1e-5)
    short = np.frombuffer((written / "splat" / "scene.splat").read_bytes(), SPLAT_ROW)
    assert len(short) == len(rows)
    assert sorted(short["mean"][:, 0].tolist()) == sorted(rows[:, 0].tolist())


def test_scores_are_those_of_the_photo_held_out(written: Path) -> None:
    scores = json.loads((written / "splat" / "scores.json").read_text("utf-8"))
    (only,) = scores["held_out"]
    assert scores["psnr"] == pytest.approx(only["psnr"], abs=1e-4)
    assert only["psnr"] > 15
    with Image.open((written / "splat" / "held-out" / only["name"]).with_suffix(".png")) as image:
        assert image.width == 128


def test_a_finished_training_is_not_repeated_and_another_refused(written: Path) -> None:
    before = (written / "splat" / "state.npz").stat().st_mtime_ns
    again = unposed.splat(written / "out", written / "splat", seeds=written / "dense", settings=SMALL, device="cpu")
    assert (written / "splat" / "state.npz").stat().st_mtime_ns == before
    assert len(again.gaussians) > 500
    with pytest.raises(InputError, match="holds another training: give a new folder"):
        unposed.splat(written / "out", written / "splat", seeds=written / "dense", settings=SMALL[:2], device="cpu")
    with pytest.raises(InputError, match="is not empty, and holds no training"):
        unposed.splat(written / "out", written / "dense", device="cpu")


def test_poses_stay_where_photos_held_out_get_no_better(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*SMALL, "training.pose_rate=0.02", "training.pose_gain_db=60"]
    line = ["splat", str(written / "out"), "-o", str(tmp_path / "splat"), "--seeds", str(written / "dense"), "--quiet"]
    assert main([*line, "--device", "cpu", *(part for each in settings for part in ("--set", each))]) == 0
    assert "those of the model stay" in capsys.readouterr().out
    poses = json.loads((tmp_path / "splat" / "scores.json").read_text("utf-8"))["poses"]
    assert not poses["kept"] and len(poses["moved"]) == 5
    assert 0 < max(each["turned_deg"] for each in poses["moved"]) < 3
    assert not (tmp_path / "splat" / "refined").exists()
    assert (tmp_path / "splat" / "splat.ply").read_bytes() == (written / "splat" / "splat.ply").read_bytes()


@pytest.mark.parametrize("pose_rate", [0.0, 0.02])
def test_poses_that_are_known_exactly_stay(written: Path, tmp_path: Path, pose_rate: float) -> None:
    """As those of `reconstruct --poses`, whose standard deviations are zero."""
    shutil.copytree(written / "out", tmp_path / "out")
    file = tmp_path / "out" / "summary.json"
    summary = json.loads(file.read_text("utf-8"))
    for photo in summary["photos"].values():
        photo["sigma_deg"] = 0.0
    file.write_text(json.dumps(summary), "utf-8")
    settings = [*SMALL, "training.steps=5", f"training.pose_rate={pose_rate}"]
    made = unposed.splat(tmp_path / "out", tmp_path / "splat", seeds=written / "dense", settings=settings, device="cpu")
    with np.load(tmp_path / "splat" / "state.npz") as state:
        assert np.abs(state["motion"]).max() < 1e-6  # NaN is not
    assert np.isfinite(made.gaussians.mean).all()
    text = (tmp_path / "splat" / "scores.json").read_text("utf-8")
    assert "NaN" not in text and len(json.loads(text)["held_out"]) == 1
    assert (made.poses is not None) == (pose_rate > 0)
    if made.poses is not None:
        assert max(each.turned_deg for each in made.poses.moved) < 1e-3


def test_poses_that_are_kept_are_a_model_whose_points_follow(written: Path, tmp_path: Path) -> None:
    made = unposed.load(written / "out")
    model = made.sparse.models[0]
    cameras = [moved_camera(Pinhole(64, 48, 50, 50, 32, 24, pose), np.full(6, 0.02)) for pose in model.cam_from_world]
    views = tuple(TrainingView(str(k), each, np.zeros((48, 64, 3), np.uint8)) for k, each in enumerate(cameras))
    write_refined(tmp_path, model, made.photos, TrainedPoses(True, 20.0, 21.0, (), views, ()))
    refined = pycolmap.Reconstruction(tmp_path / "refined" / "sparse" / "0")
    poses = [image.cam_from_world().matrix() for _, image in sorted(refined.images.items())]
    np.testing.assert_allclose(poses, [each.cam_from_world for each in cameras], atol=1e-9)
    left = np.stack([each.cam_from_world for each in cameras])
    in_place = model_of_bundle(model, replace(bundle_of_model(model), cam_from_world=left))
    assert refined.compute_mean_reprojection_error() < 0.5 * in_place.error_px.mean()
    write_refined(tmp_path, model, made.photos, TrainedPoses(False, 20.0, 20.0, (), views, ()))
    assert not (tmp_path / "refined").exists()
    for photos, options, said in (
        (3, TrainingOptions(), "4 photos or more, one of them held out: .* or set training.held_out_from=3"),
        (2, TrainingOptions(held_out_from=3), "3 photos or more, one of them held out: leave training.pose_rate 0$"),
    ):
        with pytest.raises(InputError, match=said):
            check_trainable_poses(replace(model, photos=model.photos[:photos]), options)
    check_trainable_poses(replace(model, photos=model.photos[:3]), TrainingOptions(held_out_from=3))


def test_a_gpu_is_asked_for_where_there_is_none(written: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"splat.gsplat needs an NVIDIA GPU: use --method cpu"):
        unposed.splat(written / "out", tmp_path / "gpu", method="gsplat", seeds=written / "dense", device="cpu")


PREDICTOR = """
from dataclasses import dataclass

import numpy as np

from unposed.pipeline.stage import StageError
from unposed.surface.gaussians.scene import Gaussians

@dataclass(frozen=True)
class Predictor:
    size: float = 0.05
    fault: str = ""

    def __call__(self, model: "SparseModel", photos: "Photos", resources: "Resources") -> Gaussians:
        if self.fault == "sees nothing":
            raise StageError("it sees nothing in photo 1")
        n = len(model.points)
        made = {
            "mean": np.array(model.points, np.float32),
            "log_scale": np.full((n, 3), np.log(self.size), np.float32),
            "quaternion": np.tile(np.array([1, 0, 0, 0], np.float32), (n, 1)),
            "logit": np.zeros(n, np.float32),
            "coefficient": ((model.rgb / 255 - 0.5) / 0.28209479).astype(np.float32),
        }
        if self.fault:
            made["log_scale"] = {"flat": made["log_scale"][:, :1], "infinite": made["log_scale"] / 0}[self.fault]
        return Gaussians(**made)

from unposed.pipeline.artifacts import Photos, SparseModel
from unposed.pipeline.stage import Resources
"""


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_training_begins_with_gaussians_of_a_network(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    info = tmp_path / "heads-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: heads\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[unposed.plugins]\ngaussians.head = gaussian_head:Predictor\n")
    (tmp_path / "gaussian_head.py").write_text(PREDICTOR)
    monkeypatch.syspath_prepend(str(tmp_path))
    line = ["splat", str(written / "out"), "--device", "cpu", "--quiet", "--gaussians", "head"]
    few = ["--set", "training.max_side_px=64", "--set", "training.steps=5"]
    assert main([*line, "-o", str(tmp_path / "made"), *few, "--set", "gaussians.size=0.02"]) == 0
    points = unposed.load(written / "out")[0].points
    with np.load(tmp_path / "made" / "state.npz") as state:
        assert len(state["gaussians.mean"]) == len(points)
        assert np.abs(state["gaussians.mean"] - points).max() < 0.02
        assert 0 < np.abs(state["gaussians.log_scale"] - np.log(0.02)).max() < 0.1
    for given, said in {
        ("--set", "gaussians.fault=flat"): r"gaussians.head gave Gaussians that cannot be trained: log_scale has shape",
        ("--set", "gaussians.fault=infinite"): r"cannot be trained: log_scale is not finite",
        ("--set", "gaussians.fault=sees nothing"): r"gaussians.head: it sees nothing in photo 1",
        ("--set", "gaussians.fill=1"): r"gaussians",
        ("--seeds", str(written / "dense")): r"a training begins with the one or the other",
    }.items():
        capsys.readouterr()
        assert main([*line, "-o", str(tmp_path / "none"), *few, *given]) == 2
        assert said.replace("\\", "") in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_dotted_settings_reach_options_of_options(written: Path, tmp_path: Path) -> None:
    assert options_of(["a.b.c=1", "a.d=x", "e=true"]) == {"a": {"b": {"c": 1}, "d": "x"}, "e": True}
    with pytest.raises(ConfigError, match=r"a\.b: a is set as a whole, too"):
        options_of(["a=1", "a.b=2"])
    with pytest.raises(ConfigError, match=r"training\.steps: expected int in \[1, inf\), got 0"):
        unposed.splat(written / "out", tmp_path / "none", settings=["training.steps=0"])


def read_spz(file: Path) -> dict[str, np.ndarray]:
    """Undo what the published layout of version 3 says, Gaussian by Gaussian where it matters."""
    data = gzip.decompress(file.read_bytes())
    magic, version, count, degree, bits, flags, reserved = struct.unpack_from("<IIIBBBB", data)
    assert (magic, version, degree, flags, reserved) == (0x5053474E, 3, 0, 0, 0)
    assert len(data) == 16 + 20 * count
    at = 16 + np.cumsum([0, *(each * count for each in (9, 1, 3, 3, 4))])
    raw = [np.frombuffer(data[a:b], np.uint8).reshape(count, -1) for a, b in pairwise(at.tolist())]
    fixed = [[int.from_bytes(bytes(row[k : k + 3]), "little", signed=True) for k in (0, 3, 6)] for row in raw[0]]
    turns = []
    for row in raw[4]:
        packed = int.from_bytes(bytes(row), "little")
        largest, xyzw = packed >> 30, [0.0] * 4
        for component in (3, 2, 1, 0):
            if component != largest:
                xyzw[component] = (packed & 511) / 511 * 0.5**0.5 * (-1 if packed >> 9 & 1 else 1)
                packed >>= 10
        xyzw[largest] = max(0.0, 1 - sum(each * each for each in xyzw)) ** 0.5
        turns.append([xyzw[3], *xyzw[:3]])
    return {
        "mean": np.array(fixed) / 2**bits,
        "opacity": raw[1][:, 0] / 255,
        "coefficient": (raw[2] / 255 - 0.5) / 0.15,
        "log_scale": raw[3] / 16 - 10,
        "quaternion": np.array(turns),
    }


@pytest.mark.parametrize("extent", [1.0, 900.0])
def test_spz_files_lose_no_more_than_they_say(tmp_path: Path, extent: float) -> None:
    rng = np.random.default_rng(0)
    made = Gaussians(
        (extent * rng.uniform(-1, 1, (300, 3))).astype(np.float32),
        rng.uniform(-7, 1, (300, 3)).astype(np.float32),
        (3 * rng.normal(size=(300, 4))).astype(np.float32),
        rng.normal(0, 3, 300).astype(np.float32),
        rng.uniform(-1.7, 1.7, (300, 3)).astype(np.float32),
    )
    write_spz(made, tmp_path / "a.spz")
    found, flip = read_spz(tmp_path / "a.spz"), np.array([1.0, -1.0, -1.0])
    assert np.abs(found["mean"] * flip - made.mean).max() <= 2.0 ** np.ceil(np.log2(extent)) * 2**-21
    assert np.abs(found["opacity"] - 1 / (1 + np.exp(-made.logit))).max() <= 0.51 / 255
    assert np.abs(found["coefficient"] - made.coefficient).max() * 0.2821 <= 0.004
    assert np.abs(found["log_scale"] - made.log_scale).max() <= 0.51 / 16
    both = (torch.from_numpy(each.astype(np.float64)) for each in (found["quaternion"], made.quaternion))
    turn, expected = (rotations(each).numpy() for each in both)
    seen = flip[:, None] * turn * flip  # axes of an ellipsoid have no sign
    cosine = (np.einsum("nij,nij->n", seen, expected) - 1) / 2
    assert np.degrees(np.arccos(cosine.clip(-1, 1))).max() < 0.2


def test_all_files_hold_the_same_gaussians(written: Path) -> None:
    short = np.frombuffer((written / "splat" / "scene.splat").read_bytes(), SPLAT_ROW)
    packed = read_spz(written / "splat" / "scene.spz")
    assert len(packed["mean"]) == len(short)
    np.testing.assert_allclose(np.sort(packed["mean"][:, 0]), np.sort(short["mean"][:, 0]), atol=1e-3)
