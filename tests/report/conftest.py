"""One small reconstruction with everything that a report has to cope with, shared by its tests."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image
from reported_run import HOSTILE, Reported

import unposed
from unposed.synthetic.photos import PhotoSet


@pytest.fixture(scope="session")
def reported(yard: PhotoSet, tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """Twelve photos, four of them with hostile names, one of noise, and a file that is no photo."""
    place = tmp_path_factory.mktemp("reported")
    photos = place / "photos"
    for number, file in enumerate(sorted(yard.images.iterdir())):
        name = HOSTILE[number] + "/script>.jpg" if number < len(HOSTILE) else file.name
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, photos / name)
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photos / "noise.png")
    (photos / "<b>torn.jpg").write_bytes(b"\xff\xd8\xff nothing")
    made = unposed.reconstruct(photos, place / "out", preset="fast", cache=place / "cache")
    return Reported(made, photos, place / "cache")
