"""The commands that look around: plugins, presets, cache, doctor; and the Python functions behind all of them."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import unposed
import unposed.commands
from unposed.cli import main, parser
from unposed.photo_sources import prune_images, write_images
from unposed.preset_check import MEASURED

Capture = pytest.CaptureFixture[str]


def printed(capsys: Capture, *argv: str | Path, code: int = 0) -> str:
    assert main([str(arg) for arg in argv]) == code
    return capsys.readouterr().out


def complaint(capsys: Capture, *argv: str | Path) -> str:
    assert main([str(arg) for arg in argv]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    return errors


def test_every_command_has_a_function_and_every_function_is_within_reach() -> None:
    verbs = next(action for action in parser()._actions if action.dest == "==SUPPRESS==" or action.choices)
    assert verbs.choices
    for verb in verbs.choices:
        assert inspect.isfunction(getattr(unposed.commands, verb))
    for name in unposed.__all__:
        value = getattr(unposed, name)
        if name not in ("algorithms", "errors"):
            assert inspect.isfunction(value) or inspect.isclass(value), f"{name} is hidden by a module of that name"
        assert value.__doc__
    with pytest.raises(AttributeError, match="has no attribute 'recnstruct'"):
        unposed.recnstruct  # noqa: B018


def test_importing_unposed_is_free() -> None:
    script = "import sys, unposed; print(sorted({'numpy', 'unposed.runs', 'torch'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plugins(toys: str, capsys: Capture) -> None:
    rows = {line.split()[0]: line for line in printed(capsys, "plugins").splitlines()}
    assert "toys 1.0" in rows["matching.toy"]
    assert "unposed" in rows["features.sift"]
    listed = json.loads(printed(capsys, "plugins", "list", "--json"))
    sorry = {"slot": "fine", "name": "sorry", "distribution": "toys 1.0", "target": "toys:Sorry", "problem": None}
    assert sorry in listed


def test_one_plugin(toys: str, capsys: Capture) -> None:
    shown = printed(capsys, "plugins", "show", "matching.toy")
    assert "Every point with the one of the same number." in shown
    assert "share: float in (0, 1], default 1.0" in shown
    assert "Of the points that are matched." in shown
    assert json.loads(printed(capsys, "plugins", "show", "sorry", "--json"))["options"] == []
    assert "several plugins have this name: cameras.toy" in complaint(capsys, "plugins", "show", "toy")
    assert "tyo: no such plugin; did you mean toy?" in complaint(capsys, "plugins", "show", "tyo")
    assert "plugin matching.broken of toys 1.0 cannot be loaded" in complaint(capsys, "plugins", "show", "broken")
    assert "give the name of a plugin" in complaint(capsys, "plugins", "show")
    assert "give a folder to make" in complaint(capsys, "plugins", "new")


def test_presets(toys: str, capsys: Capture) -> None:
    listed = dict(line.split(maxsplit=1) for line in printed(capsys, "presets").splitlines())
    assert listed == json.loads(printed(capsys, "presets", "--json")) == dict(unposed.list_presets())
    assert "classic" in listed
    shown = printed(capsys, "presets", "show", toys)
    assert "fine:\n  use: toy\n" in shown
    assert json.loads(printed(capsys, "presets", "show", toys, "--json"))["matching"] == {"use": "toy"}
    assert "no such preset" in complaint(capsys, "presets", "show", "nothing-of-the-kind")
    assert "give the name of a preset" in complaint(capsys, "presets", "show")


def test_cache(toys: str, photos: Callable[..., Path], tmp_path: Path, capsys: Capture) -> None:
    cache = ["--cache", tmp_path / "cache"]
    assert "no such folder" in complaint(capsys, "cache", "ls", *cache)
    (tmp_path / "cache").mkdir()
    assert "nothing is stored" in printed(capsys, "cache", "ls", *cache)
    unposed.reconstruct(photos("a.png", "b.png"), preset=toys, cache=tmp_path / "cache")
    assert "features.toy  2 results" in printed(capsys, "cache", *cache)
    assert json.loads(printed(capsys, "cache", "verify", "--json", *cache)) == {"sound": 6, "damaged": 0}
    wrong = complaint(capsys, "cache", "prune", "--stage", "feature.toy", *cache)
    assert "nothing of it is stored; did you mean features.toy" in wrong
    assert "2 results removed" in printed(capsys, "cache", "prune", "--stage", "features.toy", *cache)
    assert "0 results removed" in printed(capsys, "cache", "prune", "--unused", "1", *cache)
    assert "say what may go" in complaint(capsys, "cache", "prune", *cache)
    assert "4 results removed" in printed(capsys, "cache", "prune", "--keep", "0", *cache)
    assert "nothing is stored" in printed(capsys, "cache", "ls", *cache)


def test_images_that_were_in_memory_are_listed_and_pruned(tmp_path: Path, capsys: Capture) -> None:
    cache = ["--cache", tmp_path]
    old, young = (write_images({"a.png": np.full((48, 64, 3), grey, np.uint8)}, tmp_path) for grey in (1, 2))
    os.utime(old, (0, 0))
    assert "images  2 results" in printed(capsys, "cache", "ls", *cache)
    assert "1 folder of images" in printed(capsys, "cache", "prune", "--unused", "30", *cache)
    assert young.is_dir() and not old.exists()
    printed(capsys, "cache", "prune", "--keep", "1G", *cache)
    assert write_images({"a.png": np.full((48, 64, 3), 2, np.uint8)}, tmp_path) == young
    assert "1 folder of images" in printed(capsys, "cache", "prune", "--keep", "0", *cache)
    assert not young.exists()
    write_images({"a.png": np.full((48, 64, 3), 2, np.uint8)}, tmp_path)
    freed = json.loads(printed(capsys, "cache", "prune", "--stage", "images", "--json", *cache))
    assert freed["images"] == 1 and freed["bytes"] > 0 and not young.exists()


def test_what_was_used_last_is_kept(tmp_path: Path) -> None:
    folders = [write_images({"a.png": np.full((48, 64, 3), grey, np.uint8)}, tmp_path) for grey in (1, 2, 3)]
    for folder, used in zip(folders, (3e8, 1e8, 2e8), strict=True):
        os.utime(folder, (used, used))
    write_images({"a.png": np.full((48, 64, 3), 2, np.uint8)}, tmp_path)
    size = max(file.stat().st_size for file in tmp_path.rglob("*.png"))
    prune_images(tmp_path, keep_bytes=2 * size)
    assert [folder.is_dir() for folder in folders] == [True, True, False]


def test_a_cache_that_cannot_be(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("")
    assert "choose another with --cache" in complaint(capsys, "cache", "ls", "--cache", tmp_path / "file")


@pytest.mark.slow
def test_doctor(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("UNPOSED_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("UNPOSED_CACHE", str(tmp_path / "own"))
    (tmp_path / "weights" / "da3-base.safetensors").write_bytes(b"no network, but a file")
    facts = json.loads(printed(capsys, "doctor", "--json", "--cache", tmp_path / "cache"))
    assert facts["problems"] == []
    assert facts["cores"] >= 1
    assert facts["cache"]["bytes"] == 0
    assert "features.sift" in facts["plugins"]
    presets = facts["presets"]
    assert set(presets) == {name for name, _ in unposed.list_presets()} and set(presets) > MEASURED
    assert presets["classic"]["runs"] and presets["classic"]["text"] == "runs here"
    assert not presets["loftr"]["runs"] and presets["loftr"]["missing"] == ["loftr-outdoor"]
    assert presets["loftr"]["text"] == (
        "lacks loftr-outdoor: unposed weights get --preset loftr; not measured with published weights"
    )
    assert presets["da3"]["runs"] and presets["da3"]["networks"]
    assert presets["da3"]["text"].endswith("; not measured with published weights")
    assert set(facts["extras"]) == {"view", "video", "splat", "ray"}
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_doctor_names_what_is_broken(toys: str, tmp_path: Path, capsys: Capture) -> None:
    shown = printed(capsys, "doctor", "--cache", tmp_path / "cache", code=2)
    assert "problem" in shown
    assert "classic: runs here" in shown
    assert "can be loaded; unposed plugins lists them" in shown
    assert "pip install 'unposed[splat]'" in shown or "splat 1." in shown
    assert "plugin matching.broken of toys 1.0 cannot be loaded" in shown
