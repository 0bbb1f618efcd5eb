"""Subsets of a set of photos with known poses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "subsets.py"


@pytest.fixture
def photo_set(tmp_path: Path) -> Path:
    """Seven photos, the first five of which have known poses."""
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    for number in range(7):
        (folder / "images" / f"{number}.jpg").write_bytes(bytes([number]))
    known = {"units": "m", "images": {f"{number}.jpg": {"K": number} for number in range(5)}}
    (folder / "gt.json").write_text(json.dumps(known))
    return folder


def subsets(photo_set: Path, out: Path, *picks: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(photo_set), str(out), *picks], capture_output=True, text=True, check=False
    )


def photos_of(subset: Path) -> list[int]:
    return [file.read_bytes()[0] for file in sorted((subset / "images").iterdir())]


def test_each_pick_is_a_set_with_its_photos_and_what_is_known_of_them(photo_set: Path, tmp_path: Path) -> None:
    done = subsets(photo_set, tmp_path / "out", "every-3-1", "window-3-3", "random-3-0", "random-9-0")
    folders = [Path(line) for line in done.stdout.splitlines()]
    assert [folder.name for folder in folders] == [
        "set-every-3-1",
        "set-window-3-3",
        "set-random-3-0",
        "set-random-9-0",
    ]
    every, window, drawn, whole = map(photos_of, folders)
    assert every == [1, 4]
    assert window == [3, 4, 5]
    assert len(set(drawn)) == 3
    assert whole == list(range(7))
    assert json.loads((folders[1] / "gt.json").read_text()) == {
        "units": "m",
        "images": {"3.jpg": {"K": 3}, "4.jpg": {"K": 4}},
    }


@pytest.mark.parametrize("pick", ["every-2", "some-2-3", "every-a-0"])
def test_what_is_no_pick_is_said_to_be_none(photo_set: Path, tmp_path: Path, pick: str) -> None:
    assert f"{pick} is no pick" in subsets(photo_set, tmp_path / "out", pick).stderr
