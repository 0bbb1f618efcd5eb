"""What gives a model metres, and in which unit; what does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unposed.alignment.control import intrinsics_prior
from unposed.alignment.frames import SCALE
from unposed.alignment.metres import KnownScale, known_scale, scale_contradiction, with_scale
from unposed.alignment.targets import AlignmentOptions, ModelAlignment, from_poses
from unposed.model import Model
from unposed.model_bundles import bundle_of_model
from unposed.optim.arrays import Array
from unposed.optim.rigs import Rigs
from unposed.optim.rotations import exp_so3
from unposed.optim.similarity import Similarity
from unposed.pipeline.artifacts import Camera, CameraPriors, Exif, Photo, Photos, SparseModel
from unposed.pipeline.pose_files import read_poses

GPS = {"fine": {"use": "bundle", "gps_sigma_m": 5.0}}
IN_WORLD = ModelAlignment(Similarity(1.0, np.eye(3), np.zeros(3)), {})


def small_model(registered: int = 6, tagged: int = 0) -> Model:
    """Eight photos, of which the last so many are registered, and the last so many have GPS positions."""
    somewhere = Exif(latitude_deg=52.0, longitude_deg=13.0)
    tags = [somewhere if i >= 8 - tagged else Exif() for i in range(8)]
    photos = tuple(Photo(f"{i}.jpg", Path(), f"{i}", 640, 480, exif=exif) for i, exif in enumerate(tags))
    rng = np.random.default_rng(0)
    poses = np.concatenate([exp_so3(rng.normal(size=(registered, 3))), rng.normal(size=(registered, 3, 1))], axis=2)
    empty = np.zeros(0, np.int64)
    sparse = SparseModel(
        cameras=(Camera("SIMPLE_RADIAL", 640, 480, (500.0, 320.0, 240.0, 0.0)),),
        photos=np.arange(8 - registered, 8, dtype=np.int32),
        camera_of_photo=np.zeros(registered, np.int32),
        cam_from_world=poses,
        xy=np.zeros((0, 2)),
        xy_start=np.zeros(registered + 1, np.int64),
        points=np.zeros((0, 3)),
        rgb=np.zeros((0, 3), np.uint8),
        error_px=np.zeros(0),
        obs_xy=empty,
        obs_point=empty,
    )
    return Model(sparse, Photos(photos, {}))


def priors(
    model: Model, given: tuple[int, ...] = (), sigma: Array | None = None, rigs: Rigs | None = None
) -> CameraPriors:
    """With the poses of these photos, as far as any are given."""
    poses = np.full((8, 3, 4), np.nan)
    poses[list(given)] = np.eye(3, 4)
    return CameraPriors(
        cameras=model.sparse.cameras,
        camera_of_photo=np.zeros(8, np.int32),
        focal_source=("guess",),
        cam_from_world=poses if given else None,
        pose_sigma=sigma,
        rigs=rigs,
    )


def test_given_poses_count_where_the_model_has_two_with_positions() -> None:
    model = small_model(registered=6)
    by_poses = KnownScale("given poses", 1.0)
    assert known_scale(model, {}, {}, priors(model, (2, 3)), 1.0) == by_poses
    assert known_scale(model, {}, {}, priors(model, (0, 1, 2)), 1.0) is None  # two of them are not in the model
    assert known_scale(model, {}, {}, priors(model, (2, 3)), None) is None  # in whatever unit
    assert known_scale(model, {}, {}, priors(model, (2, 3)), 0.01) == KnownScale("given poses", 0.01)
    turned, placed = np.tile([1.0, np.inf], (8, 1)), np.tile([np.inf, 0.1], (8, 1))
    assert known_scale(model, {}, {}, priors(model, (2, 3, 4, 5), turned), 1.0) is None
    assert known_scale(model, {}, {}, priors(model, (2, 3), placed), 1.0) is None  # positions alone: it takes three
    assert known_scale(model, {}, {}, priors(model, (2, 3, 4), placed), 1.0) == by_poses


def test_gps_counts_where_three_photos_of_the_model_have_it() -> None:
    assert known_scale(small_model(tagged=3), {}, GPS, None) == KnownScale("GPS positions")
    assert known_scale(small_model(tagged=2), {}, GPS, None) is None
    assert known_scale(small_model(registered=2, tagged=8), {}, GPS, None) is None
    assert known_scale(small_model(tagged=8), {}, {}, None) is None  # they were not used
    model = small_model(tagged=8)
    assert known_scale(model, {}, GPS, priors(model, (2,)), 1.0) is None  # given poses take their place


def test_rigs_count_where_the_model_has_a_moment_of_two_places() -> None:
    sensors = np.tile(np.eye(3, 4), (2, 1, 1))
    sensors[1, 0, 3] = 0.2
    numbers = np.arange(8)
    rigs = Rigs(numbers // 2, numbers % 2, np.zeros(2, np.int64), sensors, np.zeros(2, bool))
    model = small_model(registered=6)
    assert known_scale(model, {}, {}, priors(model, rigs=rigs)) == KnownScale("given rigs")
    assert known_scale(small_model(registered=1), {}, {}, priors(model, rigs=rigs)) is None
    assert known_scale(model, {}, {}, priors(model, rigs=rigs.scaled(0.0))) is None  # as views of panoramas


def test_the_last_target_that_gave_a_scale_decides() -> None:
    def steps(*listed: dict[str, Any]) -> dict[str, Any]:
        return {"alignment": {"steps": list(listed)}}

    model, gps, unknown = small_model(), {"to": "gps"}, {"to": "poses", "metres_per_unit": None}
    assert known_scale(model, steps(unknown, gps, {"to": "gravity"}), {}, None) == KnownScale("align --to gps")
    assert known_scale(model, steps(gps, unknown), {}, priors(model, (2, 3)), 1.0) is None
    millimetres = {"to": "poses", "metres_per_unit": 0.001}
    assert known_scale(model, steps(millimetres), {}, None) == KnownScale("align --to poses", 0.001)


def test_poses_without_a_unit_take_metres_away() -> None:
    before = {SCALE: {"metres_per_unit": 1.0, "sigma": None, "from": "scale"}}
    assert SCALE not in with_scale(before, replace(IN_WORLD, metres_per_unit=None), "poses")
    assert with_scale(before, IN_WORLD, "gravity") == before
    found = with_scale(before, replace(IN_WORLD, metres_per_unit=0.01, sigma=0.02), "poses")
    assert found[SCALE] == {"metres_per_unit": 0.01, "sigma": 0.02, "from": "poses"}


def test_predicted_depth_is_compared_in_one_unit() -> None:
    facts = {"kept": "given poses", "kept_metres_per_unit": 0.001, "metres_per_unit": 0.00102, "sigma": 0.05}
    assert scale_contradiction(facts) is None
    assert "by which a unit is 0.001 metres" in str(scale_contradiction({**facts, "metres_per_unit": 1.0}))


def poses_file(model: Model, file: Path, photos: int, seed: int = 1, **more: Any) -> Path:
    """The poses of some photos, in a world three times as large and not quite exact."""
    rng, images = np.random.default_rng(seed), {}
    for name, pose in list(zip(model.photo_names, np.asarray(model.cam_from_world), strict=True))[:photos]:
        place = 3.0 * pose[:, 3] + 0.1 * rng.normal(size=3)
        images[name] = {"R_w2c": pose[:, :3].tolist(), "t_w2c": place.tolist()}
    file.write_text(json.dumps({"images": images, **more}), "utf-8")
    return file


@pytest.mark.parametrize(("more", "metres"), [({}, 1.0), ({"units": "cm"}, 0.01), ({"units": "arbitrary"}, None)])
def test_poses_are_in_the_unit_of_their_file(tmp_path: Path, more: dict[str, str], metres: float | None) -> None:
    model = small_model()
    found = from_poses([model], poses_file(model, tmp_path / "poses.json", 6, **more), AlignmentOptions())[0]
    assert isinstance(found, ModelAlignment)
    assert found.metres_per_unit == found.facts["metres_per_unit"] == metres


def test_few_positions_do_not_tell_how_exact_the_scale_is(tmp_path: Path) -> None:
    model = small_model()
    for photos in (2, 3):
        few = from_poses([model], poses_file(model, tmp_path / "poses.json", photos), AlignmentOptions())[0]
        assert isinstance(few, ModelAlignment) and few.sigma is None
    off = []
    for seed in range(1, 61):
        found = from_poses([model], poses_file(model, tmp_path / "poses.json", 6, seed), AlignmentOptions())[0]
        assert isinstance(found, ModelAlignment) and found.sigma is not None
        off.append(np.log(found.similarity.scale / 3.0) / found.sigma)
    assert 0.6 < np.sqrt(np.mean(np.square(off))) < 1.4


def test_poses_of_arkit_are_in_metres(tmp_path: Path) -> None:
    frame = {"file_path": "0.jpg", "transform": np.eye(4).ravel().tolist()}
    (tmp_path / "arkit.json").write_text(json.dumps({"frames": [frame]}), "utf-8")
    assert read_poses(tmp_path / "arkit.json")[0].millimetres == 1000.0
    other = {"file_path": "0.jpg", "transform_matrix": np.eye(4).tolist()}
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": [other]}), "utf-8")
    assert read_poses(tmp_path / "transforms.json")[0].millimetres is None


def test_control_points_know_what_calibration_said() -> None:
    model = small_model()
    bundle = bundle_of_model(model.sparse)
    said = replace(priors(model), guess_log_sigma=np.array([0.04]))
    assert intrinsics_prior(model.sparse, bundle, said).sigma[0, 0] == pytest.approx(0.04 * 500.0)
    assert np.isinf(intrinsics_prior(model.sparse, bundle, priors(model)).sigma[0, 0])
