"""`unposed dense` and exports with its points: files, and one clear line where they do not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from finished import write_finished

import unposed
from unposed.cli import main
from unposed.errors import InputError
from unposed.synthetic.photos import PhotoSet
from unposed.synthetic.render import depth


@pytest.fixture(scope="module")
def written(photo_set: Callable[[str, int, int], PhotoSet], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run in `out` and its dense points in `dense`."""
    folder = tmp_path_factory.mktemp("dense")
    write_finished(photo_set("easy", 5, 320), folder / "out")
    line = [str(folder / "out"), "-o", str(folder / "dense"), "--set", "points=3000", "--workers", "2", "--quiet"]
    assert main(["dense", *line]) == 0
    return folder


def test_points_are_what_others_read(written: Path) -> None:
    cloud = pycolmap.Reconstruction()
    cloud.import_PLY(written / "dense" / "points-0.ply")
    assert 1500 < cloud.num_points3D() <= 3000
    colours = np.array([point.color for point in cloud.points3D.values()])
    assert colours.std() > 20


def test_depth_maps_have_one_scale(written: Path, photo_set: Callable[[str, int, int], PhotoSet]) -> None:
    about = json.loads((written / "dense" / "depths.json").read_text("utf-8"))
    shots = {shot.name: shot for shot in photo_set("easy", 5, 320).scene.shots}
    world = photo_set("easy", 5, 320).scene.world
    assert len(about["maps"]) == 5
    for file, entry in about["maps"].items():
        levels = cv2.imread(str(written / "dense" / "depths" / file), cv2.IMREAD_UNCHANGED)
        trust = cv2.imread(str(written / "dense" / "trust" / file), cv2.IMREAD_UNCHANGED)
        assert levels.dtype == np.uint16
        assert levels.shape == trust.shape == (entry["height"], entry["width"])
        true = depth(world, shots[entry["photo"]])
        offset = [(a - b) // 2 for a, b in zip(true.shape, levels.shape, strict=True)]
        true = true[offset[0] : offset[0] + levels.shape[0], offset[1] : offset[1] + levels.shape[1]]
        sure = trust > 200
        ratio = 1.0 / (levels[sure] * about["inverse_depth_per_level"]) / true[sure]
        assert np.median(np.abs(ratio - 1)) < 0.003


def test_seeds_are_exported_as_points_with_tracks(written: Path, tmp_path: Path) -> None:
    unposed.export(written / "out", "colmap", tmp_path / "with", seeds=written / "dense")
    unposed.export(written / "out", "colmap", tmp_path / "without")
    with_seeds, without = (pycolmap.Reconstruction(tmp_path / each / "sparse" / "0") for each in ("with", "without"))
    assert with_seeds.num_points3D() > without.num_points3D() + 1500
    for image in with_seeds.images.values():
        for key_point in image.points2D:
            if key_point.has_point3D():
                where = image.project_point(with_seeds.points3D[key_point.point3D_id].xyz)
                assert np.abs(where - key_point.xy).max() < 0.01
    lengths = [point.track.length() for point in with_seeds.points3D.values()]
    assert max(lengths) > 3


def test_seeds_of_another_model_are_refused(written: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no points-0\.ply in it: give the folder that unposed dense has written"):
        unposed.export(written / "out", "colmap", tmp_path / "out", seeds=tmp_path)
    (tmp_path / "points-0.ply").write_bytes((written / "dense" / "points-0.ply").read_bytes())
    with pytest.raises(InputError, match=r"no points as unposed dense writes them, with points-0\.ply\.vis beside"):
        unposed.export(written / "out", "colmap", tmp_path / "out", seeds=tmp_path)


def test_a_photo_that_is_no_longer_whole_is_named(
    photo_set: Callable[[str, int, int], PhotoSet], tmp_path: Path
) -> None:
    made = photo_set("easy", 5, 320)
    write_finished(made, tmp_path / "out")
    broken = tmp_path / "photos"
    broken.mkdir()
    files = sorted(made.images.iterdir())
    for file in files:
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / files[2].name).write_bytes(files[2].read_bytes()[:3000])
    with pytest.raises(InputError, match=rf"{files[2].name}: .*damaged"):
        unposed.dense(tmp_path / "out", tmp_path / "dense", broken)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(InputError, match="is not empty: give a new folder"):
        unposed.dense(tmp_path / "out", tmp_path / "full")


def test_depth_maps_of_an_export_are_those_of_its_points(written: Path, tmp_path: Path) -> None:
    """Read as Inria's code does: level / 65536 * scale + offset is 1 / depth in the frame of the folder."""
    unposed.export(written / "out", "splat", tmp_path / "scene", seeds=written / "dense")
    assert unposed.lint(tmp_path / "scene") == ()
    params = json.loads((tmp_path / "scene" / "sparse" / "0" / "depth_params.json").read_text("utf-8"))
    assert len({each["scale"] for each in params.values()}) == 1
    model = pycolmap.Reconstruction(tmp_path / "scene" / "sparse" / "0")
    ids, points = zip(*sorted((key, point.xyz) for key, point in model.points3D.items()), strict=True)
    for image in model.images.values():
        levels = cv2.imread(str(tmp_path / "scene" / "depths" / f"{Path(image.name).stem}.png"), cv2.IMREAD_UNCHANGED)
        assert levels.dtype == np.uint16 and levels.shape == (image.camera.height, image.camera.width)
        one = params[Path(image.name).stem]
        inverse = levels / 65536 * one["scale"] + one["offset"]
        seen = np.array([each.point3D_id for each in image.points2D if each.has_point3D()])
        xyz = np.array(points)[np.searchsorted(ids, seen)]
        fx, fy, cx, cy = image.camera.params
        x, y, z = image.cam_from_world().matrix() @ np.c_[xyz, np.ones(len(xyz))].T
        column = np.clip((fx * x / z + cx).astype(int), 0, image.camera.width - 1)  # on the very border by rounding
        line = np.clip((fy * y / z + cy).astype(int), 0, image.camera.height - 1)
        found = inverse[line, column] * z
        assert np.median(np.abs(found - 1)) < 0.004
        assert np.mean(np.abs(found - 1) < 0.05) > 0.9


def test_depth_maps_are_not_written_beside_images_of_their_names(
    written: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unposed.export(written / "out", "splat", tmp_path / "alpha", seeds=written / "dense", bake="alpha")
    assert "no depth maps are written beside images in PNG" in caplog.text
    assert not (tmp_path / "alpha" / "depths").exists()


def test_an_image_without_depth_is_dropped_by_its_scale(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written / "dense", tmp_path / "dense")
    about = json.loads((tmp_path / "dense" / "depths.json").read_text("utf-8"))
    lost = sorted(about["maps"])[2]
    del about["maps"][lost]
    (tmp_path / "dense" / "depths.json").write_text(json.dumps(about), encoding="utf-8")
    unposed.export(written / "out", "inria", tmp_path / "scene", seeds=tmp_path / "dense")
    params = json.loads((tmp_path / "scene" / "sparse" / "0" / "depth_params.json").read_text("utf-8"))
    assert [stem for stem, each in params.items() if each["scale"] == 0.0] == [Path(lost).stem]
    assert unposed.lint(tmp_path / "scene", ("inria",)) == ()
    (tmp_path / "dense" / "depths.json").unlink()
    with pytest.raises(InputError, match=r"no depths\.json as unposed dense writes it"):
        unposed.export(written / "out", "inria", tmp_path / "again", depths=str(tmp_path / "dense"))
