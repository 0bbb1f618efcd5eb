"""Photos for every room's tests: rendered once per session, small, with the truth at hand."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

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
    """The class Collection of made_up.py: a world without pixels. Test files cannot import their neighbours."""
    spec = importlib.util.spec_from_file_location("unposed_made_up", Path(__file__).with_name("made_up.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made_up: Callable[..., Any] = module.Collection
    return made_up


REFERENCE = Path(os.environ.get("UNPOSED_REFERENCE", Path(__file__).parents[2] / "shared/reference"))
"""What the published MASt3R gave for small inputs; not a part of the repository."""


@pytest.fixture(scope="session")
def reference() -> Callable[[str], Any]:
    """reference("fixtures/focal.json"): what a .json file says, the arrays of a .safetensors file, or else its path."""

    def find(name: str) -> Any:
        path = REFERENCE / name
        if not path.exists():
            pytest.skip(f"needs {name} of the reference's outputs: set UNPOSED_REFERENCE to their folder")
        if path.suffix == ".safetensors":
            return read_safetensors(path)
        return json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else path

    return find


def read_safetensors(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of a file: a table of contents in JSON, and then nothing but bytes."""
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    contents: dict[str, Any] = json.loads(raw[8:start])
    contents.pop("__metadata__", None)
    arrays = {}
    for name, entry in contents.items():
        begin, end = entry["data_offsets"]
        arrays[name] = np.frombuffer(raw[start + begin : start + end], kinds[entry["dtype"]]).reshape(entry["shape"])
    return arrays
