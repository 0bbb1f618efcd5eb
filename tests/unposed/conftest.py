"""Small photos, and a third-party distribution of toy stages that is there as if it were installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TOYS = Path(__file__).parent / "toy_plugins"


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The preset of toy stages, which work in this process and in those it starts; the cache is one of the test's."""
    monkeypatch.syspath_prepend(str(TOYS))
    monkeypatch.setenv("PYTHONPATH", str(TOYS))
    monkeypatch.setenv("UNPOSED_CACHE", str(tmp_path / "cache"))
    yield str(TOYS / "toys.yaml")


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of small photos, all different; widths are 64 unless told."""

    def make(*names: str, width: int = 64) -> Path:
        folder = tmp_path / "photos"
        for name in names:
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(list(name.encode())).integers(0, 256, (48, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(file)
        return folder

    return make
