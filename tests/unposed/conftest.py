"""Small photos, and a third-party distribution of toy stages that is there as if it were installed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from shared_folders import shared_folder

import unposed
from unposed.synthetic.photos import PhotoSet

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


@dataclass(frozen=True)
class Reconstructed:
    """A finished reconstruction, and photos of the same place that are not in it."""

    kept: Path
    """Folder of the photos of the model: 10 of 12."""
    left: Path
    """Folder of the others: the fourth and the ninth."""
    out: Path
    cache: Path
    truth: Path

    def true_pose(self, name: str) -> NDArray[np.float64]:
        """(3, 4) cam_from_world."""
        image = json.loads(self.truth.read_text())["images"][name]
        return np.column_stack([image["R_w2c"], np.ravel(image["t_w2c"])])

    def copied_to(self, folder: Path) -> Path:
        """The result in a folder of a test's own, which it may change."""
        shutil.copytree(self.out, folder)
        return folder


@pytest.fixture(scope="session")
def reconstructed(yard: PhotoSet, tmp_path_factory: pytest.TempPathFactory) -> Reconstructed:
    """The yard without two of its photos, reconstructed. Look, don't touch: tests share it."""

    def fill(folder: Path) -> None:
        kept, left = folder / "kept", folder / "left"
        kept.mkdir()
        left.mkdir()
        for number, file in enumerate(sorted(yard.images.iterdir())):
            shutil.copy(file, left if number in (3, 8) else kept)
        unposed.reconstruct(kept, folder / "out", cache=folder / "cache", device="cpu")

    folder = shared_folder(tmp_path_factory, "reconstructed", fill)
    # Commands that read the result write to the cache: each process has its own.
    cache = Path(shutil.copytree(folder / "cache", tmp_path_factory.mktemp("reconstructed") / "cache"))
    return Reconstructed(folder / "kept", folder / "left", folder / "out", cache, yard.truth)
