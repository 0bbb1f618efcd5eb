"""Photos of one size by a lens that zooms, by several cameras, and by as many as there are photos."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from worlds import mapper_inputs

from unposed.pipeline.config import build
from unposed.pipeline.stage import Resources
from unposed.plugins.coarse.global_mapping import GlobalMapper
from unposed.plugins.fine.bundle import BundleAdjustment

CPU = Resources("cpu", threads=1, ram_bytes=1 << 30, vram_bytes=0)
Make = Callable[..., Any]


def lens(focal_px: float) -> tuple[float, float, float, float]:
    return (focal_px, 800.0, 600.0, 0.0)


@pytest.mark.parametrize("focals", [(1300.0, 1800.0), (1200.0, 1500.0, 2100.0)])
def test_photos_share_as_many_cameras_as_took_them(collection: Make, focals: tuple[float, ...]) -> None:
    world = collection(photos=12, noise_px=0.5, points=500, lenses=[lens(f) for f in focals], grouped=False)
    world.camera_of_photo, world.first = np.zeros(12, np.int64), np.zeros(1, np.int64)  # as their size says
    given = mapper_inputs(world)
    coarse = GlobalMapper()(**given)
    (fine,) = BundleAdjustment()(**given, resources=CPU, coarse=coarse).models
    assert len(fine.cameras) == len(coarse.models[0].cameras) == len(focals)
    found = [fine.cameras[k].params[0] for k in fine.camera_of_photo]
    np.testing.assert_allclose(found, np.resize(focals, 12), rtol=0.02)
    assert any("several cameras" in warning and f"{len(focals)} fit" in warning for warning in coarse.warnings)
    poses = np.full((12, 3, 4), np.nan)
    poses[fine.photos] = fine.cam_from_world
    assert np.nanmax(world.errors(poses).rotation_error_deg) < 1.0


def test_as_many_cameras_as_photos_stay_so(collection: Make) -> None:
    focals = np.geomspace(1000.0, 2600.0, 10)[[3, 8, 1, 6, 0, 9, 4, 2, 7, 5]]
    world = collection(photos=10, noise_px=0.5, points=500, lenses=[lens(f) for f in focals], grouped=False)
    world.camera_of_photo, world.first = np.zeros(10, np.int64), np.zeros(1, np.int64)
    (model,) = GlobalMapper()(**mapper_inputs(world)).models
    assert len(model.cameras) == 10
    np.testing.assert_allclose([model.cameras[k].params[0] for k in model.camera_of_photo], focals, rtol=0.05)


def test_groups_can_be_switched_off(collection: Make) -> None:
    world = collection(photos=8, noise_px=0.5, lenses=[lens(1300.0), lens(1800.0)], grouped=False)
    world.camera_of_photo, world.first = np.zeros(8, np.int64), np.zeros(1, np.int64)
    mapper = build(GlobalMapper, {"camera_groups": {"max_groups": 1}}, "coarse")
    (model,) = mapper(**mapper_inputs(world)).models
    assert len(model.cameras) == 8
