"""Folders and files of strangers that lint and stages read: they end in findings, or in one line."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz_folders import trainable_scene
from PIL import EpsImagePlugin

from unposed.linting import scene_folder
from unposed.linting.finding import Finding
from unposed.linting.lint import lint
from unposed.pipeline.artifacts import Photo, Photos
from unposed.pipeline.errors import InputError
from unposed.pipeline.stage import StageError
from unposed.plugins.coarse.given import read_initial_models
from unposed.plugins.doubts.known import read_doubts
from unposed.plugins.export.splat_depths import read_about
from unposed.plugins.retrieval.asmk import read_codebook

HUGE = 10**400
"""A whole number that no float holds."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return trainable_scene(tmp_path / "scene")


def checks(found: tuple[Finding, ...]) -> set[str]:
    return {each.check for each in found}


TRANSFORMS: dict[str, Callable[[dict[str, Any]], object]] = {
    "lists of names that are none": lambda content: {**content, "train_filenames": 0.5, "val_filenames": {"a": []}},
    "names that are lists": lambda content: {**content, "train_filenames": [[], None]},
    "a model that is a table": lambda content: {
        **content,
        "frames": [{**each, "camera_model": {}} for each in content["frames"]],
    },
    "huge sides": lambda content: {**content, "w": HUGE},
    "a huge transform": lambda content: {**content, "applied_transform": [[HUGE] * 4] * 3},
    "points of no name": lambda content: {**content, "ply_file_path": [None]},
    "frames of frames": lambda content: {**content, "frames": [[content["frames"]]]},
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_lint_of_any_transforms_json_ends_in_findings(folder: Path, name: str) -> None:
    file = folder / "transforms.json"
    file.write_text(json.dumps(TRANSFORMS[name](json.loads(file.read_text()))))
    lint(folder)


@pytest.mark.parametrize("content", [f'{{"0": {{"scale": {HUGE}}}}}', "[" * 5000, "[1]", '{"0": 1}'])
def test_lint_of_any_depth_scales_ends_in_findings(folder: Path, content: str) -> None:
    (folder / "sparse/0/depth_params.json").write_text(content)
    assert "depth-params" in checks(lint(folder))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with named pipes")
def test_lint_does_not_wait_for_pipes(folder: Path) -> None:
    for name in ("images/0.jpg", "masks/0.png", "sparse/0/depth_params.json", "sparse/0/test.txt", "transforms.json"):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
    found: list[tuple[Finding, ...]] = []
    thread = threading.Thread(target=lambda: found.append(lint(folder)), daemon=True)
    thread.start()
    thread.join(30)
    assert found and {"image-unreadable", "depth-params", "json-unreadable"} <= checks(found[0])


def test_lint_hands_no_image_to_another_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow alone would let Ghostscript draw it."""
    drawn: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **_: drawn.append(arguments))
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 24\n%%EndComments\nshowpage\n%%EOF\n"
    for name in ("images/0.jpg", "masks/0.png"):
        (folder / name).write_bytes(script)
    assert "image-unreadable" in checks(lint(folder)) and not drawn


def test_lint_decodes_no_image_that_does_not_fit_into_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scene_folder.read_scene_folder(folder)
    assert scene.pixels("images/0.jpg") is not None
    monkeypatch.setattr(scene_folder, "free_bytes", lambda: 1000)
    assert scene.pixels("images/0.jpg") is None


def test_numbers_that_no_float_holds_are_one_line(tmp_path: Path) -> None:
    file, photos = (
        tmp_path / "depths.json",
        Photos((Photo("a", Path("a"), "", 4, 3), Photo("b", Path("b"), "", 4, 3)), {}),
    )
    pose = {"camera": 0, "pose": [[HUGE] * 4] * 3}
    camera = {"model": "PINHOLE", "width": 4, "height": 3, "params": [1, 1, 2, 2]}
    file.write_text(json.dumps({"models": [{"cameras": [camera], "photos": {"a": pose, "b": pose}}]}))
    with pytest.raises(StageError, match="cannot be read as initial models"):
        read_initial_models(file, photos)
    file.write_text(json.dumps({"photos": [], "doubts": [], "rival_margin": HUGE}))
    with pytest.raises(StageError, match="cannot be read as known doubts"):
        read_doubts(file)
    file.write_text(json.dumps({"inverse_depth_per_level": HUGE, "maps": {}}))
    with pytest.raises(InputError, match=r"no depths\.json as unposed dense writes it"):
        read_about(tmp_path)


def test_a_codebook_that_lies_about_its_size_is_a_value_error(tmp_path: Path) -> None:
    np.save(tmp_path / "words.npy", np.zeros((4, 3), np.float32))
    data = (tmp_path / "words.npy").read_bytes()
    (tmp_path / "words.npy").write_bytes(data.replace(b"(4, 3), }     ", b"(4, 3000000), }"[:14]))
    with pytest.raises(ValueError, match="no array") as caught:
        read_codebook(tmp_path / "words.npy")
    assert len(str(caught.value).splitlines()) == 1
