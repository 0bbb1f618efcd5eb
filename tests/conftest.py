"""Photos for every room's tests: rendered once per session, small, with the truth at hand."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

# Before numpy and torch are loaded. Tests call numerics as no command does, with all threads of the libraries; beside
# other tests those wait for one another: three quarters of the time of the tests of bundle adjustment, and half of that
# of the first-order mappers, whose loops of small operations torch spreads over all cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Programs that tests start would compile the package anew each time where this is set, as in images of containers.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
from reference_data import find_file, read_safetensors
from shared_folders import shared_folder

from unposed.synthetic.photos import PhotoSet, write_set
from unposed.synthetic.scenes import SCENES, Scene, easy


def pytest_configure() -> None:
    """Where tests run in the background Ctrl-C is ignored, and what ignores it hands that on to its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of a file run in one process, so that what they share is made once: a reconstruction takes as long as a
    hundred usual tests. In the order of their names, for the last files are small."""
    if config.getoption("dist") != "load":
        return None  # somebody wants another
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session")
def photo_set(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int, int], PhotoSet]:
    """photo_set(scene name, photos, width in pixels): rendered at first use. Look, don't touch: tests share it."""

    @cache
    def make(name: str, photos: int, width: int) -> PhotoSet:
        return written(SCENES[name](photos=photos, width=width), f"{name}-{photos}-{width}", tmp_path_factory)

    return make


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> PhotoSet:
    """The ordinary case: 12 photos of 480 x 320 along a third of a circle, 11 degrees apart."""
    return written(easy(photos=12, width=480, widest_step_deg=11), "yard", tmp_path_factory)


@pytest.fixture(scope="session")
def reconstructed(yard: PhotoSet, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The yard without two of its photos, reconstructed, with what was stored. Look, don't touch: tests share it."""
    from reconstructed_yard import reconstructed_yard

    return reconstructed_yard(yard, tmp_path_factory)


def written(scene: Scene, name: str, tmp_path_factory: pytest.TempPathFactory) -> PhotoSet:
    """The scene in a folder that the test processes of a session share."""
    folder = shared_folder(tmp_path_factory, name, lambda folder: write_set(scene, folder))
    return PhotoSet(scene, folder / "images", folder / "gt.json")


@pytest.fixture(scope="session")
def collection() -> Callable[..., Any]:
    """The class Collection of worlds.py: photos without pixels around random points."""
    from worlds import Collection

    return Collection


@pytest.fixture(scope="session")
def reference_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """reference_file("oracle/scene_n8.safetensors"): the path of a file that tests/data/reference/README.md defines."""
    scratch = tmp_path_factory.mktemp("reference")

    def find(name: str) -> Path:
        path = find_file(name, scratch)
        if path is None:
            pytest.skip(f"needs {name}: set UNPOSED_REFERENCE to the folder that holds it")
        return path

    return find


@pytest.fixture(scope="session")
def reference(reference_file: Callable[[str], Path]) -> Callable[[str], Any]:
    """reference("fixtures/focal.json"): content of .json files, the arrays of .safetensors files, paths of others."""

    def read(name: str) -> Any:
        path = reference_file(name)
        if path.suffix == ".safetensors":
            return read_safetensors(path)
        return json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else path

    return read
