"""`unposed eval` below the command line: reading poses, matching names, choosing the component, bad input."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest

from unposed.evaluation import evaluate, match_names
from unposed.optim.rotations import nearest_rotation
from unposed.pipeline.errors import InputError
from unposed.pipeline.pose_files import read_poses

YARDSTICK = Path(__file__).resolve().parents[3] / "shared" / "tools" / "pose_eval.py"

N = 7
RNG = np.random.default_rng(0)
CENTRES = RNG.standard_normal((N, 3)) * 2
ROTATIONS = nearest_rotation(RNG.standard_normal((N, 3, 3)))
NAMES = [f"{i:03d}.jpg" for i in range(N)]


def shaken(amount: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Rotations and centres near the true ones, in a world of another scale."""
    rng = np.random.default_rng(seed)
    rotation = nearest_rotation(ROTATIONS + amount * rng.standard_normal((N, 3, 3)))
    return rotation, 0.3 * (CENTRES + amount * rng.standard_normal((N, 3)))


def ground_truth(rotation: np.ndarray = ROTATIONS, centre: np.ndarray = CENTRES, **extra: Any) -> dict[str, Any]:
    images = {
        name: {
            "width": 800,
            "height": 600,
            "K": [[700 + i, 0, 400], [0, 702 + i, 300], [0, 0, 1]],
            "R_w2c": rotation[i].tolist(),
            "t_w2c": (-rotation[i] @ centre[i]).tolist(),
        }
        for i, name in enumerate(NAMES)
    }
    return {"images": images, **extra}


def transforms(rotation: np.ndarray, centre: np.ndarray, scale: float = 1.0) -> dict[str, Any]:
    frames = []
    for i, name in enumerate(NAMES):
        world_from_gl = np.eye(4)
        world_from_gl[:3, :3] = scale * rotation[i].T @ np.diag([1, -1, -1])
        world_from_gl[:3, 3] = centre[i]
        frames.append({"file_path": f"./images/{name}", "transform_matrix": world_from_gl.tolist()})
    return {"w": 800, "h": 600, "camera_angle_x": 2 * math.atan(400 / 710), "frames": frames}


def colmap_model(folder: Path, rotation: np.ndarray, centre: np.ndarray, rows: list[int], points: int) -> None:
    model = pycolmap.Reconstruction()
    intrinsics = [690, 691, 400, 300, 0, 0, 0, 0]
    camera = pycolmap.Camera(camera_id=1, model="OPENCV", width=800, height=600, params=intrinsics)
    model.add_camera_with_trivial_rig(camera)
    for i in rows:
        image = pycolmap.Image(name=NAMES[i], keypoints=np.ones((points, 2)), camera_id=1, image_id=i + 1)
        pose = pycolmap.Rigid3d(np.c_[rotation[i], -rotation[i] @ centre[i]])
        model.add_image_with_trivial_frame(image, pose)
    for p in range(points):
        track = pycolmap.Track([pycolmap.TrackElement(i + 1, p) for i in rows])
        model.point3D(model.add_point3D(np.full(3, p), track)).error = 0.25 + p
    folder.mkdir(parents=True)
    model.write(folder)


def write(path: Path, data: object) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


@pytest.fixture
def gt(tmp_path: Path) -> Path:
    return write(tmp_path / "gt.json", ground_truth())


def models(tmp_path: Path) -> dict[str, Path]:
    """The same kinds of estimate in every format."""
    rotation, centre = shaken(0.03)
    colmap_model(tmp_path / "out" / "sparse" / "0", *shaken(0.01), rows=[0, 1], points=9)
    colmap_model(tmp_path / "out" / "sparse" / "1", rotation, centre, rows=[1, 2, 4, 5, 6], points=3)
    nerf = tmp_path / "nerf"
    nerf.mkdir()
    write(nerf / "transforms.json", transforms(rotation, centre, scale=4.0))
    estimate = ground_truth(rotation, centre)
    del estimate["images"]["002.jpg"]
    return {
        "sparse/1 of two": tmp_path / "out",
        "one component": tmp_path / "out" / "sparse" / "0",
        "transforms": nerf,
        "json": write(tmp_path / "estimate.json", estimate),
    }


@pytest.mark.skipif(not YARDSTICK.is_file(), reason="the independent evaluation script is not beside the repository")
@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("units", ["m", "mm", "arbitrary"])
def test_agrees_with_the_independent_script(tmp_path: Path, units: str, unsigned: bool) -> None:
    gt = write(tmp_path / "gt.json", ground_truth(units=units))
    for what, model in models(tmp_path).items():
        command = [sys.executable, str(YARDSTICK), "--gt", str(gt), "--model", str(model), "--json"]
        answer = subprocess.run([*command, "--unsigned"] if unsigned else command, capture_output=True, check=True)
        theirs = json.loads(answer.stdout)
        ours = evaluate(model, gt, unsigned).to_json()
        compared = 0
        for key, value in theirs.items():
            if key in ours:
                compared += 1
                close = isinstance(value, dict | float | int)
                assert ours[key] == (pytest.approx(value, abs=1e-6, rel=1e-6) if close else value), (what, key)
        assert compared >= 25, what


def test_figures_of_a_perfect_model(gt: Path, tmp_path: Path) -> None:
    colmap_model(tmp_path / "sparse", ROTATIONS, CENTRES * 1.0, rows=list(range(N)), points=4)
    verdict = evaluate(tmp_path, gt)
    assert verdict.errors.registered == N
    assert verdict.ate_mm == pytest.approx(0, abs=1e-6)
    assert verdict.point_figures is not None
    assert verdict.point_figures.mean_track_length == N
    assert verdict.point_figures.mean_reprojection_px == pytest.approx(1.75)
    # Of 7 photos with true mean focal lengths 701 ... 707 the median is 704.
    assert verdict.errors.focal_error == pytest.approx(1 - 690.5 / 704)
    json.dumps(verdict.to_json(), allow_nan=False)
    text = dict(verdict.table())
    assert text["registered"].startswith("7 of 7")
    assert text["3D points"] == "4, mean track length 7.00, mean reprojection error 1.750 px"


def test_the_component_with_most_known_photos_is_judged(gt: Path, tmp_path: Path) -> None:
    verdict = evaluate(models(tmp_path)["sparse/1 of two"], gt)
    assert (verdict.model.name, verdict.models, verdict.errors.registered) == ("1", 2, 5)
    assert set(verdict.to_json()["photos"]) == {"001.jpg", "002.jpg", "004.jpg", "005.jpg", "006.jpg"}


def test_a_colmap_model_or_transforms_may_be_the_truth(tmp_path: Path) -> None:
    rotation, centre = shaken(0.0)
    colmap_model(tmp_path / "truth", rotation, centre, rows=list(range(N)), points=0)
    verdict = evaluate(write(tmp_path / "t.json", transforms(rotation, centre)), tmp_path / "truth")
    assert verdict.errors.registered == N
    assert verdict.errors.auc[1] == pytest.approx(1.0, abs=1e-5)
    assert verdict.ate_mm is None
    assert verdict.errors.focal_error == pytest.approx(710 / 690.5 - 1)


def test_text_models_are_read_too(gt: Path, tmp_path: Path) -> None:
    colmap_model(tmp_path / "bin", *shaken(0.01), rows=[0, 1, 2, 3], points=2)
    (tmp_path / "txt").mkdir()
    pycolmap.Reconstruction(tmp_path / "bin").write_text(tmp_path / "txt")
    binary, text = (evaluate(tmp_path / kind, gt).to_json() for kind in ("bin", "txt"))
    assert text.pop("model") != binary.pop("model")
    assert text["ate_rmse"] == pytest.approx(binary["ate_rmse"])
    assert text["AUC"] == pytest.approx(binary["AUC"])


def test_photos_without_a_known_pose_do_not_count(tmp_path: Path) -> None:
    truth = ground_truth()
    truth["images"]["003.jpg"] = None
    truth["images"]["004.jpg"]["R_w2c"] = None
    verdict = evaluate(write(tmp_path / "m.json", ground_truth()), write(tmp_path / "gt.json", truth))
    assert verdict.errors.photos == N - 2


@pytest.mark.parametrize(
    ("wanted", "given", "expected"),
    [
        (["a.jpg", "b.jpg"], ["b.jpg", "a.jpg"], {0: 1, 1: 0}),
        (["a.jpg"], ["photos/a.jpg"], {0: 0}),
        (["x/A.JPG"], ["y/a.png"], {0: 0}),
        (["a.jpg"], ["x/a.jpg", "y/a.jpg"], {}),
        (["x/a.jpg", "y/a.jpg"], ["a.jpg"], {}),
        (["a.jpg", "a.png"], ["a.jpg", "a.png"], {0: 0, 1: 1}),
        (["a.jpg"], ["a.png", "a.tif"], {}),
        (["a.jpg", "x/a.jpg"], ["a.jpg", "y/a.jpg"], {0: 0}),
    ],
    ids=["same", "file name", "stem and case", "two given", "two wanted", "same stem", "two stems", "strict first"],
)
def test_names(wanted: list[str], given: list[str], expected: dict[int, int]) -> None:
    assert match_names(wanted, given) == expected


def without(data: dict[str, Any], key: str) -> dict[str, Any]:
    del data["images"]["000.jpg"][key]
    return data


def with_value(data: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    data["images"]["000.jpg"][key] = value
    return data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ([1], 'neither "images"'),
        ({"images": [1]}, 'neither "images"'),
        ({"images": {}}, "no photo with a known pose"),
        ({"images": {"a": 3}}, "a: expected an object"),
        (without(ground_truth(), "t_w2c"), "000.jpg: t_w2c: expected 3 numbers"),
        (with_value(ground_truth(), "R_w2c", [[1, 0], [0, 1]]), "000.jpg: R_w2c: expected 3 x 3 numbers"),
        (with_value(ground_truth(), "t_w2c", [0, math.nan, 0]), "000.jpg: t_w2c: expected 3 numbers"),
        (with_value(ground_truth(), "K", "wide"), "000.jpg: K: expected 3 x 3 numbers"),
        (with_value(ground_truth(), "width", "wide"), "000.jpg: image size: expected 2 numbers"),
        ({"frames": [{}]}, "a frame has no file_path"),
        ({"frames": [{"file_path": "a"}]}, "a: transform_matrix: expected 3 x 4 numbers"),
        ({"frames": [{"file_path": "a", "transform_matrix": np.zeros((4, 4)).tolist()}]}, "a: transform_matrix is"),
        ({"frames": [{"file_path": "a", "transform_matrix": np.eye(4).tolist()}] * 2}, "'a' comes twice"),
    ],
)
def test_malformed_json_is_one_line_that_names_the_file(tmp_path: Path, content: object, message: str) -> None:
    file = write(tmp_path / "bad.json", content)
    with pytest.raises(InputError) as raised:
        evaluate(file, file)
    assert message in str(raised.value)
    assert "bad.json" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_and_empty_folders(gt: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        evaluate(tmp_path / "nowhere", gt)
    with pytest.raises(InputError, match=r"neither a COLMAP model .* nor a transforms\.json"):
        evaluate(tmp_path, gt)


def test_a_model_of_other_photos_is_refused(gt: Path, tmp_path: Path) -> None:
    other = {f"other{name}": pose for name, pose in ground_truth()["images"].items()}
    with pytest.raises(InputError, match="none of its photos is in"):
        evaluate(write(tmp_path / "other.json", {"images": other}), gt)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_damaged_colmap_models(gt: Path, tmp_path: Path, damage: str) -> None:
    colmap_model(tmp_path / "m", *shaken(0.01), rows=[0, 1, 2, 3], points=2)
    file = tmp_path / "m" / "images.bin"
    whole = file.read_bytes()
    file.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"\x07" * 64, "empty": b""}[damage])
    with pytest.raises(InputError, match="is damaged or cut short"):
        evaluate(tmp_path / "m", gt)


def test_transforms_intrinsics_of_a_frame_go_before_common_ones(tmp_path: Path) -> None:
    data = transforms(*shaken(0.0))
    data["frames"][1] |= {"fl_x": 600.0, "fl_y": 620.0, "w": 1000}
    data["frames"][2] |= {"camera_angle_x": 0}
    (poses,) = read_poses(write(tmp_path / "transforms.json", data))
    assert poses.focal[0] == pytest.approx(710 / 800)
    assert poses.focal[1] == pytest.approx(0.61)
    assert math.isnan(poses.focal[2])
