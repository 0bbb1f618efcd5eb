"""Photos for every room's tests: rendered once per session, small, with the truth at hand."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

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
