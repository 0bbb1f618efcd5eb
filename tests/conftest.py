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
# other tests those wait busily for one another: three quarters of the time of the tests of bundle adjustment.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from reference_data import find_file, read_safetensors

from unposed.synthetic.photos import PhotoSet, write_set
from unposed.synthetic.scenes import SCENES, easy


def pytest_configure() -> None:
    """Where tests run in the background Ctrl-C is ignored, and what ignores it hands that on to its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def photo_set(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int, int], PhotoSet]:
    """photo_set(scene name, photos, width in pixels): rendered at first use. Look, don't touch: tests share it."""

    @cache
    def make(name: str, photos: int, width: int) -> PhotoSet:
        return write_set(SCENES[name](photos=photos, width=width), tmp_path_factory.mktemp(name))

    return make


@pytest.fixture(scope="session")
def yard(tmp_path_factory: pytest.TempPathFactory) -> PhotoSet:
    """The ordinary case: 12 photos of 480 x 320 along a third of a circle, 11 degrees apart."""
    return write_set(easy(photos=12, width=480, widest_step_deg=11), tmp_path_factory.mktemp("yard"))


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
