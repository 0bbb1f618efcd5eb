"""Lint of folders to train splats from: every known fault is planted and found, and our own export has none."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from splat_faults import NAMES, PLANTED, SIDES, edit_json, grow, opencv_json, rewrite, said_turned_json, scene

import unposed
from unposed.cli import main
from unposed.linting.finding import TRAINERS, Finding
from unposed.pipeline.artifacts import Photo, Photos, SparseModels
from unposed.pipeline.errors import ConfigError, InputError
from unposed.plugins.export.splat import SplatExport


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our own export of nine photos; tests work on copies."""
    folder = tmp_path_factory.mktemp("lint")
    rng = np.random.default_rng(1)
    for name in NAMES:
        Image.fromarray(rng.integers(60, 256, (10, 20, 3), np.uint8)).resize(SIDES).save(folder / name)
    photos = Photos(tuple(Photo(name, folder / name, "", *SIDES) for name in NAMES), {})
    SplatExport()(SparseModels((scene(),), {}), photos, folder / "out")
    return folder / "out"


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "scene", symlinks=True))


def test_nothing_is_found_in_our_own_export(folder: Path) -> None:
    assert unposed.lint(folder) == ()


@pytest.mark.parametrize("check", PLANTED)
def test_a_planted_fault_is_found(folder: Path, check: str) -> None:
    PLANTED[check](folder)
    found = {finding.check: finding for finding in unposed.lint(folder)}
    assert check in found
    finding = found[check]
    assert finding.consequence and finding.remedy and set(finding.trainers) <= set(TRAINERS)
    assert check in {each.check for each in unposed.lint(folder, finding.trainers[:1])}
    others = [trainer for trainer in TRAINERS if trainer not in finding.trainers]
    assert not others or finding not in unposed.lint(folder, others)


def test_points_beyond_a_limit_are_found(folder: Path) -> None:
    (found,) = {each.check for each in unposed.lint(folder, settings=["most_points=10"])}
    assert found == "points-many"


def test_a_path_with_360_is_found(folder: Path) -> None:
    renamed = folder.rename(folder.parent / "room360")
    assert [each.check for each in unposed.lint(renamed)] == ["path-360"]


def test_large_images_need_smaller_copies(folder: Path) -> None:
    grow(folder)
    found = [each for each in unposed.lint(folder, ["nerfstudio"]) if each.check == "copies-missing"]
    assert [each.file for each in found] == ["images_2"]


def test_backward_axes_are_named(folder: Path) -> None:
    edit_json(folder, opencv_json)
    (found,) = [each for each in unposed.lint(folder) if each.check == "worlds-differ"]
    assert "OpenCV" in found.consequence


def test_a_world_that_is_said_to_be_turned_is_no_fault(folder: Path) -> None:
    edit_json(folder, said_turned_json)
    assert "worlds-differ" not in {each.check for each in unposed.lint(folder)}


def test_readers_of_transforms_do_not_need_the_images_of_the_model(folder: Path) -> None:
    """As ns-process-data leaves a model of photos that it has renamed."""
    frames = {file.name: f"frame_{file.name}" for file in (folder / "images").iterdir()}
    for name, frame in frames.items():
        (folder / "images" / name).rename(folder / "images" / frame)

    def rename(content: dict) -> None:
        for each in content["frames"]:
            each["file_path"] = f"images/{frames[Path(each['file_path']).name]}"

    edit_json(folder, rename)
    found = {each.check: each.trainers for each in unposed.lint(folder)}
    others = ("inria", "gsplat", "brush", "lichtfeld")
    assert found["image-missing"] == found["worlds-images"] == others


def test_names_that_end_alike_are_found(folder: Path) -> None:
    rewrite(folder, lambda made: made, ("1_5.jpg", "5.jpg", *NAMES[2:]))
    for name in ("images", "images_2", "images_4", "images_8"):
        (folder / name / "0.jpg").rename(folder / name / "1_5.jpg")
    found = [each for each in unposed.lint(folder, ["brush"]) if each.check == "name-suffix"]
    assert len(found) == 1 and "images/1_5.jpg is read in its place" in found[0].consequence


def test_every_check_has_a_planted_fault() -> None:
    """Names of checks stand in the code as literals, so none is forgotten here."""
    room = Path(unposed.__file__).parent / "linting"
    text = "".join(file.read_text() for file in room.glob("*_checks.py"))
    named = set(re.findall(r'Finding\(\s*"([a-z0-9-]+)"', text))
    apart = {"points-many", "path-360"}
    built = {"name-repeated", "name-stem", "json-camera-model", "json-ply-file-path"}
    assert named | built == set(PLANTED) | apart


def test_the_command_says_it_in_lines_and_in_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(folder)]) == 0
    assert capsys.readouterr().out == "nothing found\n"
    shutil.rmtree(folder / "images_4")
    assert main(["lint", str(folder), "--for", "brush,inria"]) == 0
    assert main(["lint", str(folder), "--for", "gsplat"]) == 2
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("images_4: error [copies-missing] its default --data_factor 4 stops; write images_4")
    assert main(["lint", str(folder), "--json"]) == 2
    (found,) = json.loads(capsys.readouterr().out)
    assert found["trainers"] == ["gsplat"] and found["kind"] == "error" and found["file"] == "images_4"


def test_advice_alone_is_no_failure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(folder), "--set", "most_points=10"]) == 0
    assert "advice [points-many]" in capsys.readouterr().out


def test_bad_questions_get_one_line(folder: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean brush"):
        unposed.lint(folder, ["brsh"])
    with pytest.raises(InputError, match="no such folder"):
        unposed.lint(folder / "nowhere")
    with pytest.raises(ConfigError, match=r"lint\.off_centre_px: expected float in \(0, inf\)"):
        unposed.lint(folder, settings=["off_centre_px=-1"])


def test_a_finding_is_plain_data() -> None:
    finding = Finding("a", ("brush",), "b", "c", "d")
    assert finding.line() == "b: error [a] c; d (brush)"


def test_loops_of_links_end(folder: Path) -> None:
    (folder / "again").symlink_to(folder, target_is_directory=True)
    assert unposed.lint(folder) == ()
