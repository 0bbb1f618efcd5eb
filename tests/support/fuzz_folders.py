"""Readers of untrusted folders: COLMAP models, finished results, folders to train splats from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pycolmap
from fuzz_input import Target, scratch_folder
from PIL import Image
from splat_faults import SIDES as LARGE, scene

from unposed.linting.lint import lint
from unposed.loading import load
from unposed.pipeline.artifacts import Camera, Photo, Photos, SparseModel, SparseModels
from unposed.pipeline.colmap_model import from_colmap, read_model, write_models
from unposed.pipeline.errors import InputError
from unposed.pipeline.pose_files import read_poses
from unposed.plugins.export.splat import SplatExport

COLMAP_FILES = ("cameras", "frames", "images", "points3D", "rigs")
NAMES = ("0.png", "1.png", "2.png")
SIDES = (48, 24)


@cache
def _model(ending: str) -> Path:
    folder = scratch_folder() / f"sound-{ending}"
    folder.mkdir()
    model = pycolmap.synthesize_dataset(
        pycolmap.SyntheticDatasetOptions(num_rigs=2, num_cameras_per_rig=2, num_frames_per_rig=3, num_points3D=12)
    )
    (model.write_binary if ending == "bin" else model.write_text)(folder)
    return folder


def _colmap(name: str, ending: str) -> Target:
    def read(data: bytes) -> None:
        model = read_model(folder)
        names = sorted({image.name for image in model.images.values()})
        from_colmap(model, Photos(tuple(Photo(each, Path(each), "", 1, 1) for each in names), {}))
        with suppress(InputError):
            read_poses(folder)

    folder = scratch_folder() / f"model-{ending}"
    return _of_folder(lambda: _model(ending), folder, f"{name}.{ending}", read)


def _of_folder(
    sound: Callable[[], Path], folder: Path, file: str, read: Callable[[bytes], object], thinned: int = 1
) -> Target:
    """A reader of a folder, which is a copy of a sound one with this file replaced."""

    def with_file(data: bytes) -> None:
        if not folder.exists():
            shutil.copytree(sound(), folder)
        (folder / file).write_bytes(data)
        try:
            read(data)
        finally:
            shutil.copy(sound() / file, folder / file)

    return Target(with_file, (InputError,), lambda: [(sound() / file).read_bytes()], thinned)


@cache
def _photos() -> Photos:
    folder = scratch_folder() / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in NAMES:
        Image.fromarray(rng.integers(60, 256, (*SIDES[::-1], 3), np.uint8)).save(folder / name)
    return Photos(tuple(Photo(name, folder / name, "", *SIDES) for name in NAMES), {})


def _scene() -> SparseModel:
    """Three cameras of the size of the photos, and twelve points."""
    made, share = scene(3, 12), SIDES[0] / LARGE[0]
    camera = Camera("PINHOLE", *SIDES, tuple(share * each for each in made.cameras[0].params))
    return replace(made, cameras=(camera,), xy=share * made.xy)


@cache
def _result() -> Path:
    out = scratch_folder() / "sound-result"
    write_models([_scene()], _photos(), out / "sparse")
    verdict = {"probability": 0.9, "reasons": []}
    model = {"model": "sparse/0", "registered": 3, "points": 12, "refinement": {"verdict": verdict}}
    model["alignment"] = {"scale": 2.0, "rotation": np.eye(3).tolist(), "translation": [0.0] * 3, "steps": []}
    model["scale"] = {"metres_per_unit": 2.0, "sigma": None, "from": "poses"}
    photos = {name: {"model": 0} for name in NAMES}
    summary = {"photos": photos, "models": [model], "warnings": ["a line"], "masks_folder": None}
    summary |= {"registered": 3, "total": 3}
    summary["photos_folder"] = str(_photos()[0].path.parent)
    (out / "summary.json").write_text(json.dumps(summary))
    return out


def _use_result(data: bytes) -> None:
    made = load(scratch_folder() / "result")
    _ = made.probabilities, repr(made)
    made.unaligned()
    made.export("ply", scratch_folder() / "export")


def trainable_scene(out: Path) -> Path:
    """Our own export of three photos, with masks and depth maps."""
    SplatExport()(SparseModels((_scene(),), {}), _photos(), out)
    (out / "depths").mkdir()
    (out / "masks").mkdir()
    for name in NAMES:
        Image.fromarray(np.full(SIDES[::-1], 9000, np.uint16)).save(out / "depths" / name)
        Image.fromarray(np.full(SIDES[::-1], 255, np.uint8)).save(out / "masks" / name)
    params = {Path(name).stem: {"scale": 1.0, "offset": 0.0} for name in NAMES}
    (out / "sparse" / "0" / "depth_params.json").write_text(json.dumps(params))
    return out


@cache
def _trainable() -> Path:
    return trainable_scene(scratch_folder() / "sound-scene")


def _lint(file: str) -> Target:
    folder = scratch_folder() / "scene"
    return _of_folder(_trainable, folder, file, lambda data: lint(folder), thinned=6)


FOLDER_TARGETS: dict[str, Target] = {
    **{f"colmap-{name}": _colmap(name, "bin") for name in COLMAP_FILES},
    **{f"colmap-text-{name}": _colmap(name, "txt") for name in COLMAP_FILES},
    "summary": _of_folder(_result, scratch_folder() / "result", "summary.json", _use_result),
    "lint-transforms": _lint("transforms.json"),
    "lint-image": _lint("images/0.jpg"),
    "lint-mask": _lint("masks/0.png"),
    "lint-depths": _lint("sparse/0/depth_params.json"),
    "lint-points": _lint("sparse/0/points3D.ply"),
    "lint-images-bin": _lint("sparse/0/images.bin"),
}
