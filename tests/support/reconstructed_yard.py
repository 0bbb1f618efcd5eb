"""A finished reconstruction that the test processes of a session share."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from shared_folders import shared_folder

import unposed
from unposed.synthetic.photos import PhotoSet


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


def reconstructed_yard(yard: PhotoSet, factory: pytest.TempPathFactory) -> Reconstructed:
    """The yard without two of its photos, reconstructed by the process that asks first."""

    def fill(folder: Path) -> None:
        kept, left = folder / "kept", folder / "left"
        kept.mkdir()
        left.mkdir()
        for number, file in enumerate(sorted(yard.images.iterdir())):
            shutil.copy(file, left if number in (3, 8) else kept)
        unposed.reconstruct(kept, folder / "out", cache=folder / "cache", device="cpu")

    folder = shared_folder(factory, "reconstructed", fill)
    # Commands that read the result write to the cache: each process has its own.
    cache = Path(shutil.copytree(folder / "cache", factory.mktemp("reconstructed") / "cache"))
    return Reconstructed(folder / "kept", folder / "left", folder / "out", cache, yard.truth)
