"""Files that nobody vouches for: whatever they hold, a command ends in one line that a terminal can print."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import unposed
from unposed.cli import main
from unposed.pipeline.errors import InputError
from unposed.pipeline.plain_text import printable, printable_json

Capture = pytest.CaptureFixture[str]
Photos = Callable[..., Path]
ESCAPES = "\x1b]0;title\x07\x1b[31m\u202e\x9b\ud800"


def complaint(capsys: Capture, *argv: str | Path, code: int = 2) -> str:
    """The single line of a command that fails as it should."""
    capsys.readouterr()
    assert main([str(each) for each in argv]) == code
    error = capsys.readouterr().err
    assert error.endswith("\n") and len(error.splitlines()) == 1, error
    assert all(each.isprintable() for each in error[:-1])
    assert not re.search("unexpected|Traceback", error), error
    return error


@pytest.fixture
def made(toys: str, photos: Photos, tmp_path: Path) -> Path:
    """A finished reconstruction of three photos."""
    out = tmp_path / "out"
    unposed.reconstruct(photos("a.png", "b.png", "c.png"), out, preset=toys)
    return out


def poses(**changes: Any) -> dict[str, Any]:
    """A gt.json of one photo, changed."""
    entry = {"R_w2c": np.eye(3).tolist(), "t_w2c": [0, 0, 0], "K": np.eye(3).tolist(), "width": 4, "height": 3}
    return {"images": {"a.png": {**entry, **changes}}, "units": "m"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "nonsense",
        json.dumps({"images": {ESCAPES: 3}}),
        json.dumps(poses(R_w2c=[[1e999] * 3] * 3)),
        json.dumps(poses(R_w2c=np.zeros((3, 3)).tolist())),
        json.dumps(poses(t_w2c="abc")),
        json.dumps(poses(K=[[[1]]])),
        json.dumps(poses(width=[], height={})),
        json.dumps(poses(width="x" * 10_000)),
        json.dumps({**poses(), "units": [], "images": {ESCAPES: poses()["images"]["a.png"]}}),
        json.dumps({**poses(), "units": {}}).replace("a.png", "unknown"),
        json.dumps({"frames": [{"file_path": ESCAPES, "transform_matrix": [[1]]}]}),
        json.dumps({"frames": [{"file_path": "a.png", "transform_matrix": [[0] * 4] * 4}]}),
        '{"images": {"a.png": {"R_w2c": ' + "9" * 5000 + "}}}",
    ],
)
def test_known_poses(made: Path, tmp_path: Path, capsys: Capture, text: str) -> None:
    (tmp_path / "gt.json").write_text(text)
    if '"width": []' in text:  # sizes that are empty are none
        assert main(["eval", str(made), "--gt", str(tmp_path / "gt.json")]) == 0
        return
    complaint(capsys, "eval", made, "--gt", tmp_path / "gt.json")


def test_many_frames_do_not_cost_their_square(made: Path, tmp_path: Path) -> None:
    """Each frame inherits what stands at the top, however much that is."""
    frame = {"file_path": "a.png", "transform_matrix": np.eye(4).tolist()}
    frames = [{**frame, "file_path": f"{n}/a.png"} for n in range(3000)]
    (tmp_path / "t.json").write_text(json.dumps({"frames": frames, **{f"k{n}": n for n in range(50_000)}}))
    code = "import sys, time; from unposed.pipeline.pose_files import read_poses; from pathlib import Path; "
    code += "t = time.process_time(); read_poses(Path(sys.argv[1])); print(time.process_time() - t)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "t.json")], capture_output=True, check=True)
    assert float(done.stdout) < 3.0


def _with_models(summary: dict[str, Any], **entries: object) -> dict[str, Any]:
    return {**summary, "models": [{**each, **entries} for each in summary["models"]]}


def _with_refinement(summary: dict[str, Any], **entries: object) -> dict[str, Any]:
    return _with_models(summary, refinement=entries)


SUMMARIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "paths that are numbers": lambda summary: {**summary, "photos_given": [7]},
    "exports that are none": lambda summary: {**summary, "exports": {"splat": 1}},
    "no object": lambda summary: [],
    "no photos": lambda summary: {**summary, "photos": None},
    "photos as a list": lambda summary: {**summary, "photos": ["a.png"]},
    "a photo that is no object": lambda summary: {**summary, "photos": {"a.png": 3}},
    "a photo elsewhere": lambda summary: {**summary, "photos": {"../../etc/passwd": {}}},
    "a photo at the root": lambda summary: {**summary, "photos": {"/etc/passwd": {}}},
    "a reason that is no text": lambda summary: {**summary, "photos": {"a.png": {"reason": []}}},
    "warnings of nothing": lambda summary: {**summary, "warnings": None},
    "warnings that are true": lambda summary: {**summary, "warnings": True},
    "warnings that are numbers": lambda summary: {**summary, "warnings": [1]},
    "a number for a folder": lambda summary: {**summary, "masks_folder": -1},
    "a folder with escapes": lambda summary: {**summary, "photos_folder": f"/{ESCAPES}"},
    "a count that is none": lambda summary: {**summary, "registered": []},
    "no count": lambda summary: {key: value for key, value in summary.items() if key != "total"},
    "a verdict that is a text": lambda summary: _with_refinement(summary, verdict="x"),
    "a verdict without a probability": lambda summary: _with_refinement(summary, verdict={"trusted": True}),
    "an empty verdict": lambda summary: _with_refinement(summary, verdict={}),
    "a probability that no float holds": lambda summary: _with_refinement(summary, verdict={"probability": 10**400}),
    "pairs that are none": lambda summary: _with_refinement(summary, pairs=[["a.png"]]),
    "a refinement that is a number": lambda summary: _with_models(summary, refinement=3),
    "an alignment that is a text": lambda summary: _with_models(summary, alignment="up"),
    "doubts that are none": lambda summary: {**summary, "doubts": [{"photos": "ab"}]},
    "settings that are a list": lambda summary: {**summary, "settings": []},
    "half of a character": lambda summary: {**summary, "photos_folder": "\ud800"},
    "a folder with a zero": lambda summary: {**summary, "photos_folder": "/a\0b"},
    "models elsewhere": lambda summary: {**summary, "models": [{"model": "../../other"}]},
    "models that are no objects": lambda summary: {**summary, "models": [None]},
    "models that are not there": lambda summary: {**summary, "models": [{"model": "sparse/7"}]},
}


@pytest.mark.parametrize("name", SUMMARIES)
def test_a_summary(made: Path, tmp_path: Path, capsys: Capture, name: str) -> None:
    file = made / "summary.json"
    file.write_text(json.dumps(SUMMARIES[name](json.loads(file.read_text()))))
    complaint(capsys, "export", made, "--to", "ply", "-o", tmp_path / "ply")
    assert not (tmp_path / "ply").exists()


def test_a_summary_says_where_it_is_wrong(made: Path) -> None:
    summary = json.loads((made / "summary.json").read_text())
    (made / "summary.json").write_text(json.dumps(_with_refinement(summary, pairs=[["a.png", "b.png", "many"]])))
    with pytest.raises(InputError, match=r"summary\.json: models\[0\]\.refinement\.pairs\[0\] is not as"):
        unposed.load(made)


@pytest.mark.parametrize("name", ["images.bin", "points3D.bin", "cameras.bin", "frames.bin", "rigs.bin"])
def test_a_model_cut_short(made: Path, tmp_path: Path, capsys: Capture, name: str) -> None:
    file = made / "sparse" / "0" / name
    file.write_bytes(file.read_bytes()[:-9])
    (tmp_path / "gt.json").write_text(json.dumps(poses()))
    complaint(capsys, "export", made, "--to", "ply", "-o", tmp_path / "ply")
    complaint(capsys, "eval", made, "--gt", tmp_path / "gt.json")


@pytest.mark.parametrize("option", ["intrinsics", "poses", "preset", "gt"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_never_ends_is_not_waited_for(
    toys: str, photos: Photos, made: Path, tmp_path: Path, capsys: Capture, option: str, kind: str
) -> None:
    file = Path("/dev/zero")
    if kind == "pipe":
        file = tmp_path / "pipe.yaml"
        os.mkfifo(file)
    elif option == "preset":
        file = tmp_path / "zero.yaml"
        file.symlink_to("/dev/zero")
    command = ["reconstruct", photos("a.png", "b.png"), "-o", tmp_path / "new", f"--{option}", file]
    if option == "gt":
        command = ["eval", made, "--gt", file]
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(complaint(capsys, *command)), daemon=True)
    thread.start()
    thread.join(30)
    assert found and "a pipe, a device or the like" in found[0]


def test_names_and_messages_do_not_reach_the_terminal_raw(tmp_path: Path, capsys: Capture) -> None:
    assert "\\x1b" in complaint(capsys, "eval", tmp_path, "--gt", tmp_path / "no\x1b[31m\u202e")
    (tmp_path / "p.yaml").write_text(json.dumps({"features": {"use": "sift", "\u202e\x1b[31m": 1}}))
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(2):
        Image.fromarray(np.full((48, 64, 3), number, np.uint8)).save(photos / f"{number}.png")
    complaint(capsys, "reconstruct", photos, "-o", tmp_path / "out", "--preset", tmp_path / "p.yaml")
    with pytest.raises(SystemExit):
        main(["reconstruct", "\x1b[31m", "--\x1b[31m"])
    assert "\x1b" not in capsys.readouterr().err


def test_a_huge_value_is_not_printed_in_full(tmp_path: Path, capsys: Capture) -> None:
    error = complaint(capsys, "presets", "show", "x" * 100_000)
    assert len(error) < 3000


def test_escapes_of_text_and_of_json() -> None:
    assert printable("a\x1b[31m\u202eb\n\tö€") == "a\\x1b[31m\\u202eb\n\tö€"
    value = {"name": f"ö{ESCAPES[:-1]}\U000e0001"}
    text = printable_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value and text.isprintable() and "ö" in text


def test_points_of_a_photo_that_is_in_no_model(made: Path) -> None:
    """Photos and models of two results: nothing is read beyond what is there."""
    summary = json.loads((made / "summary.json").read_text())
    del summary["photos"]["b.png"]
    (made / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(InputError, match=r"an image 'b\.png', which is none of the 2 photos"):
        unposed.load(made)
