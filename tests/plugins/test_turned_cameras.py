"""Portrait and landscape photos of one camera: they share it, and show where its principal point lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import mapper_inputs

from unposed.optim.camera_turns import CameraTurns
from unposed.optim.quarter_turns import turned_params
from unposed.pipeline.artifacts import CameraPriors, Exif, InitialModels, Photo, Photos
from unposed.pipeline.images.photos import scan
from unposed.pipeline.images.pixels import read_grey
from unposed.pipeline.stage import Resources
from unposed.plugins.cameras.exif import ExifCameras
from unposed.plugins.coarse.global_mapping import GlobalMapper
from unposed.plugins.fine.bundle import BundleAdjustment
from unposed.plugins.shared.sensor_frames import SensorFrames, sensor_frames

CPU = Resources("cpu", threads=1, ram_bytes=1 << 30, vram_bytes=0)
PHONE = Exif(make="Maker", model="Phone 1", focal_mm=4.0, focal_35mm=28.0)
WIDE, TRUE = (1600, 1200), (1500.0, 824.0, 588.0, 0.01)
Make = Callable[..., Any]


def priors(*items: tuple[int, int, int, Exif], grouping: Any = "auto") -> CameraPriors:
    photos = [Photo(f"{i}", Path(f"{i}"), f"{i}", w, h, turned, exif) for i, (w, h, turned, exif) in enumerate(items)]
    return ExifCameras(grouping=grouping)(Photos(tuple(photos), {}))


def test_exif_says_how_a_camera_was_turned() -> None:
    """Landscape, upright phone to either side, upside down, and a portrait of another phone."""
    other = replace(PHONE, model="Phone 2")
    cameras = priors(
        (4000, 3000, 1, PHONE), (4000, 3000, 1, PHONE), (3000, 4000, 6, PHONE), (3000, 4000, 8, PHONE),
        (4000, 3000, 3, PHONE), (3000, 4000, 6, other),
    )  # fmt: skip
    turns = cameras.turns
    assert turns is not None and cameras.camera_of_photo.tolist() == [0, 0, 1, 2, 3, 4]
    assert turns.camera.tolist() == [0, 0, 0, 0, 4]
    # Six: a quarter clockwise brings it upright, so that one the other way brings it back to the sensor.
    assert turns.quarters.tolist() == [0, 1, 3, 2, 0]
    assert not turns.uncertain.any()


def test_sizes_alone_say_that_it_was_turned_but_not_to_which_side() -> None:
    turns = priors((640, 480, 1, Exif()), (480, 640, 1, Exif()), (480, 640, 1, Exif())).turns
    assert turns is not None
    assert (turns.camera.tolist(), turns.quarters.tolist()) == ([1, 1], [1, 0])
    assert turns.uncertain.tolist() == [True, False]


@pytest.mark.parametrize(
    "items",
    [
        [(640, 480, 1, Exif()), (500, 640, 1, Exif())],
        [(640, 480, 1, PHONE), (480, 640, 1, Exif())],
        [(640, 480, 1, PHONE), (480, 640, 5, PHONE)],  # mirrored
        [(640, 480, 1, PHONE)] * 3,
    ],
)
def test_other_cameras_are_not_one_that_was_turned(items: list[tuple[int, int, int, Exif]]) -> None:
    assert priors(*items).turns is None
    assert priors(*items, grouping="image").turns is None


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("quarters", range(4))
def test_photos_are_read_as_they_lie_in_the_frame(tmp_path: Path, orientation: int, quarters: int) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (40, 60), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    photos = scan(tmp_path, least=1)
    upright = read_grey(photos[0])
    frames = SensorFrames(ExifCameras()(photos), np.array([quarters]))
    turned = frames.photos(photos)[0]
    assert (turned.height, turned.width) == np.rot90(upright, quarters).shape
    np.testing.assert_array_equal(read_grey(turned), np.rot90(upright, quarters))


def turned_world(collection: Make, up: int, uncertain: bool, other_focal: float = 1.0) -> tuple[Any, dict[str, Any]]:
    """Every other photo a portrait, which `up` quarters brought upright; the principal point is two percent off."""
    portrait = turned_params("SIMPLE_RADIAL", TRUE, WIDE, up)
    lenses = [TRUE, (portrait[0] * other_focal, *portrait[1:])]
    world = collection(photos=10, noise_px=0.3, points=400, lenses=lenses, sizes=[WIDE, WIDE[::-1]])
    given = mapper_inputs(world)
    portraits = int(world.camera_of_photo[1])
    quarters, first = np.zeros(2, np.int64), np.full(2, 1 - portraits)
    quarters[portraits] = 1 if uncertain else -up % 4
    turns = CameraTurns(first, quarters, np.arange(2) == portraits if uncertain else np.zeros(2, np.bool_))
    return world, given | {"cameras": replace(given["cameras"], turns=turns)}


def worst_deg(world: Any, model: Any) -> float:
    poses = np.full((10, 3, 4), np.nan)
    poses[model.photos] = model.cam_from_world
    return float(np.nanmax(world.errors(poses).rotation_error_deg))


@pytest.mark.parametrize(("up", "uncertain"), [(1, False), (1, True), (3, True)])
def test_portraits_and_landscapes_show_the_principal_point(collection: Make, up: int, uncertain: bool) -> None:
    world, given = turned_world(collection, up, uncertain)
    coarse = GlobalMapper()(**given)
    (fine,) = BundleAdjustment()(**given, resources=CPU, coarse=coarse).models
    np.testing.assert_array_equal(fine.photos, np.arange(10))
    landscape, portrait = (fine.cameras[fine.camera_of_photo[i]] for i in (0, 1))
    assert (portrait.width, portrait.height) == (landscape.height, landscape.width) == WIDE[::-1]
    assert landscape.params[0] == pytest.approx(TRUE[0], rel=0.01)
    np.testing.assert_allclose(landscape.params[1:3], TRUE[1:3], atol=4.0)
    np.testing.assert_allclose(portrait.params, turned_params("SIMPLE_RADIAL", landscape.params, WIDE, up), rtol=1e-9)
    assert worst_deg(world, fine) < 0.2
    apart = given | {"cameras": replace(given["cameras"], turns=None)}
    (alone,) = BundleAdjustment()(**apart, resources=CPU, coarse=GlobalMapper()(**apart)).models
    assert worst_deg(world, alone) > 2.0 * worst_deg(world, fine)


def test_a_side_that_cannot_be_refined_costs_nothing_else(collection: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    _, given = turned_world(collection, 1, True)
    coarse, tried, whole = GlobalMapper()(**given), [], BundleAdjustment._refined

    def fails_once(self: BundleAdjustment, *inputs: Any) -> Any:
        tried.append(inputs)
        if len(tried) == 1:
            raise ArithmeticError("no solution")
        return whole(self, *inputs)

    monkeypatch.setattr(BundleAdjustment, "_refined", fails_once)
    (fine,) = BundleAdjustment()(**given, resources=CPU, coarse=coarse).models
    np.testing.assert_array_equal(fine.photos, np.arange(10))
    assert len(tried) == 3


def test_without_models_no_side_is_tried(collection: Make) -> None:
    _, given = turned_world(collection, 1, True)
    nothing = InitialModels((), {})
    assert BundleAdjustment()(**given, resources=CPU, coarse=nothing).models == ()


def test_another_camera_is_found_to_be_one(collection: Make) -> None:
    _, given = turned_world(collection, 1, False, other_focal=1.6)
    coarse = GlobalMapper()(**given)
    (fine,) = BundleAdjustment()(**given, resources=CPU, coarse=coarse).models
    focals = [fine.cameras[fine.camera_of_photo[i]].params[0] for i in (0, 1)]
    np.testing.assert_allclose(focals, (1500.0, 2400.0), rtol=0.02)


def test_models_come_back_as_they_were(collection: Make) -> None:
    _, given = turned_world(collection, 3, False)
    (frames,) = sensor_frames(given["cameras"])
    (model,) = GlobalMapper()(**given).models
    there = frames.into(model)
    assert len(there.cameras) == 1 and len(model.cameras) == 2
    again = frames.back(there)
    assert again.cameras == model.cameras or np.allclose(again.cameras[0].params, model.cameras[0].params)
    np.testing.assert_allclose(again.cam_from_world, model.cam_from_world, atol=1e-12)
    np.testing.assert_array_equal(again.camera_of_photo, model.camera_of_photo)
