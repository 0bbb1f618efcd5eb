"""Groups of photos as stages: made-up networks give local scenes, and true ones with errors give models."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from many_view_networks import hashed_network
from PIL import Image
from safetensors.torch import save_file
from worlds import mapper_inputs

from unposed.networks.manyview.overlap import view_overlap
from unposed.networks.manyview.prediction import GroupPrediction
from unposed.optim.mapping.absolute_pose import AbsolutePoseOptions
from unposed.optim.rotations import exp_so3, rotation_angle_deg
from unposed.pipeline import ports
from unposed.pipeline.artifacts import DepthGrid, LocalScene, Photo, PredictedModels, SceneGraph, TwoViewGeometry
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.images.photos import single_photos
from unposed.pipeline.presets import read_preset
from unposed.pipeline.stage import Grain, Resources, Sides, StageError
from unposed.pipeline.store.codec import decode, encode
from unposed.pipeline.weights.catalogue import entry
from unposed.plugins.coarse.groups import GroupMapper
from unposed.plugins.doubts.doppelgangers import Doppelgangers
from unposed.plugins.fine.bundle import BundleAdjustment
from unposed.plugins.fine.predicted_poses import PredictedPoseOptions
from unposed.plugins.groups.cover import Cover
from unposed.plugins.local import many_views
from unposed.plugins.local.many_views import DepthAnything3, Pi3, Vggt
from unposed.plugins.shared.models import initial_model, intrinsics_of_priors
from unposed.summary import per_photo

CPU = Resources("cpu", threads=1, ram_bytes=1 << 31, vram_bytes=0)
WORLD: Any = None
"""What made-up plugins know."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "da3-small.safetensors"
    state = hashed_network("da3-small", torch.float32).state_dict()
    save_file({f"model.{name}": value.contiguous() for name, value in state.items()}, path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., tuple[Photo, ...]]:
    """photos((width, height), ...) of smooth noise."""

    def make(*sizes: tuple[int, int]) -> tuple[Photo, ...]:
        files = [tmp_path / f"{number}.png" for number in range(len(sizes))]
        for number, (file, size) in enumerate(zip(files, sizes, strict=True)):
            noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(file)
        return tuple(single_photos(*files).photos)

    return make


def test_a_local_scene_is_in_the_frame_of_its_centre_and_in_pixels_of_the_photos(
    weights: Path, photos: Callable[..., tuple[Photo, ...]]
) -> None:
    group = photos((300, 200), (330, 220), (600, 400))
    scene = DepthAnything3(model="small", weights=weights, size_px=84)(group, CPU)
    np.testing.assert_allclose(scene.cam_from_local[0], np.eye(3, 4), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(scene.cam_from_local[:, :, :3]), 1.0, atol=1e-6)
    assert scene.overlap.shape == (3, 3) and (np.diag(scene.overlap) == 1).all()
    for grid, photo, focal in zip(scene.grids, group, scene.focals_px, strict=True):
        rows, columns = grid.depth.shape
        assert grid.focal_px == focal > 0
        # Samples are the middles of blocks that fill the photo.
        assert grid.origin_px[0] + (columns - 0.5) * grid.step_px[0] == pytest.approx(photo.width, rel=0.02)
        assert grid.origin_px[1] + (rows - 0.5) * grid.step_px[1] == pytest.approx(photo.height, rel=0.02)
        assert grid.confidence.dtype == np.uint8 and grid.confidence.min() >= 1
    again = decode(encode(scene), LocalScene)
    np.testing.assert_array_equal(again.grids[1].depth, scene.grids[1].depth)


def test_eight_photos_take_less_than_a_hundred_kilobytes(weights: Path) -> None:
    grid = DepthGrid((0, 0), (7, 7), np.ones((54, 72), np.float16), np.ones((54, 72), np.uint8), 500.0)
    scene = LocalScene(np.tile(np.eye(3, 4), (8, 1, 1)), np.ones(8), (grid,) * 8, np.ones((8, 8), np.float32))
    assert len(encode(scene)) < 98_000


def test_groups_of_one_shape_are_one_batch_and_give_what_each_gives_alone(
    weights: Path, photos: Callable[..., tuple[Photo, ...]]
) -> None:
    stage = DepthAnything3(model="small", weights=weights, size_px=56)
    files = photos(*[(120, 90)] * 4, (90, 120), (90, 120))
    groups = [files[:2], files[2:4], files[4:6], files[:3]]
    together = stage.batch([(group,) for group in groups], CPU)
    for group, scene in zip(groups, together, strict=True):
        alone = stage(group, CPU)
        np.testing.assert_allclose(scene.cam_from_local, alone.cam_from_local, atol=1e-4)
        np.testing.assert_allclose(scene.focals_px, alone.focals_px, rtol=1e-4)


def test_mixed_orientations_are_cropped_about_the_middle(
    weights: Path, photos: Callable[..., tuple[Photo, ...]]
) -> None:
    scene = DepthAnything3(model="small", weights=weights, size_px=84)(photos((120, 90), (90, 120)), CPU)
    for grid, size in zip(scene.grids, ((120, 90), (90, 120)), strict=True):
        rows, columns = grid.depth.shape
        middle = np.array(grid.origin_px) + np.array(grid.step_px) * ((columns - 1) / 2, (rows - 1) / 2)
        np.testing.assert_allclose(middle, np.array(size) / 2, atol=3.0)


def test_cameras_can_be_read_from_rays(weights: Path, photos: Callable[..., tuple[Photo, ...]]) -> None:
    group = photos((120, 90), (120, 90))
    token, rays = (
        DepthAnything3(model="small", weights=weights, size_px=56, cameras=kind)(group, CPU)
        for kind in ("token", "rays")
    )
    np.testing.assert_array_equal(token.grids[0].depth, rays.grids[0].depth)
    assert not np.allclose(token.cam_from_local[1], rays.cam_from_local[1])


def test_a_file_of_another_network_is_refused_in_one_line(
    weights: Path, photos: Callable[..., tuple[Photo, ...]]
) -> None:
    group = photos((120, 90), (120, 90))
    for stage in (Vggt(weights=weights), Pi3(weights=weights)):
        with pytest.raises(ConfigError, match=r"holds a Da3Network, and a \w+Network is needed"):
            stage(group, CPU)


def test_a_photo_too_narrow_for_a_patch_fails_its_group_alone(
    weights: Path, photos: Callable[..., tuple[Photo, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = DepthAnything3(model="small", weights=weights, size_px=84)
    monkeypatch.setattr("unposed.plugins.local.many_views.fit_da3", lambda photo, size: photo[:10])
    with pytest.raises(StageError, match="is too narrow"):
        stage(photos((120, 90), (120, 90)), CPU)


def test_a_group_without_any_depth_is_refused_and_a_photo_without_it_is_not(
    weights: Path, photos: Callable[..., tuple[Photo, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = DepthAnything3(model="small", weights=weights, size_px=84)
    group, seen_by = photos((120, 90), (120, 90)), many_views.one_group

    def without(views: slice) -> LocalScene:
        def blind(seen: GroupPrediction, number: int) -> GroupPrediction:
            one = seen_by(seen, number)
            depth = one.depth.clone()
            depth[:, views] = torch.nan
            return one._replace(depth=depth)

        monkeypatch.setattr(many_views, "one_group", blind)
        return stage(group, CPU)

    scene = without(slice(1, 2))
    assert np.isfinite(scene.grids[0].depth).any() and np.isnan(scene.grids[1].depth).all()
    with pytest.raises(StageError, match="gives no depth for this group: its photos are sky, or its weights"):
        without(slice(None))


def test_overlap_is_the_share_that_returns() -> None:
    depth = torch.full((1, 2, 40, 60), 2.0)
    pose = torch.eye(3, 4).repeat(1, 2, 1, 1)
    focal = torch.full((1, 2, 2), 50.0)
    pose[0, 1, 0, 3] = -1.2  # 1.2 to the right of a plane at 2: 30 of 60 columns remain
    share = view_overlap(GroupPrediction(depth, depth, pose, focal), 2, 1.5)
    assert share[0, 1] == pytest.approx(0.5, abs=0.03) and share[1, 0] == pytest.approx(0.5, abs=0.03)
    behind = depth.clone()
    behind[0, 1] = 4.0  # the other says that the plane lies elsewhere
    assert view_overlap(GroupPrediction(behind, depth, pose, focal), 2, 1.5)[0, 1] < 0.1


def emulated(world: Any, members: tuple[int, ...], rng: np.random.Generator, *, wrong: bool) -> LocalScene:
    """The truth about a group, with errors of a network, in a frame and at a scale of its own."""
    pose = world.cam_from_world[list(members)].copy()
    turn = exp_so3(np.radians(1.0 / np.sqrt(3)) * rng.standard_normal((len(pose), 3)))
    if wrong:
        turn = exp_so3(rng.standard_normal((len(pose), 3)))
    pose = turn @ pose
    scale = np.exp(rng.normal())
    first = pose[0]
    rotation = pose[:, :, :3] @ first[:, :3].T
    move = pose[:, :, 3] - np.einsum("kij,j->ki", rotation, first[:, 3])
    grids = []
    for number in members:
        width, height = world.size[number].tolist()
        depth = scale * 6.0 * np.exp(0.03 * rng.normal()) * np.ones((12, 16))
        step = width / 16, height / 12
        grids.append(
            DepthGrid((step[0] / 2, step[1] / 2), step, depth.astype(np.float16), np.ones((12, 16), np.uint8), 1500.0)
        )
    return LocalScene(
        np.concatenate([rotation, scale * move[..., None]], axis=2),
        1500.0 * np.exp(0.05 * rng.standard_normal(len(members))),
        tuple(grids),
        np.full((len(members),) * 2, 0.5, np.float32),
    )


@pytest.mark.parametrize("matched", [True, False])
def test_groups_become_a_model_and_wrong_ones_are_named(collection: Callable[..., Any], matched: bool) -> None:
    world = collection(photos=16, points=600, noise_px=0.5)
    inputs = mapper_inputs(world, (lambda a, b: True) if matched else (lambda a, b: (a, b) == (0, 1)))
    pairs = np.array([(a, b) for a in range(16) for b in range(a + 1, min(16, a + 7))], np.int32)
    chosen = Cover()(inputs["photos"], SceneGraph(pairs, (1.0 / (pairs[:, 1] - pairs[:, 0])).astype(np.float32)))
    rng = np.random.default_rng(0)
    groups = [tuple(group.tolist()) for group in chosen.groups]
    local = {group: emulated(world, group, rng, wrong=number == 2) for number, group in enumerate(groups)}
    found = GroupMapper()(**inputs, local=local, resources=CPU)
    (model,) = found.models
    assert len(model.photos) >= 15
    assert found.warnings == (f"1 of {len(groups)} groups are inconsistent with the others and were left out",)
    assert rotation_error_deg(world, found) < (0.3 if matched else 1.0)
    assert model.cameras[0].params[0] == pytest.approx(1500.0, rel=0.05)


def test_a_network_that_says_nothing_true_is_told_as_such(collection: Callable[..., Any]) -> None:
    world = collection(photos=12, points=400)
    inputs = mapper_inputs(world)
    groups = [tuple((start + step) % 12 for step in range(6)) for start in range(0, 12, 2)]
    rng = np.random.default_rng(0)
    local = {group: emulated(world, group, rng, wrong=True) for group in groups}
    with pytest.raises(StageError, match=r"inconsistent with each other.*the preset classic does without"):
        GroupMapper()(**inputs, local=local, resources=CPU)
    local[groups[0]], local[groups[1]] = (emulated(world, group, rng, wrong=False) for group in groups[:2])
    found = GroupMapper()(**inputs, local=local, resources=CPU)
    assert len(found.warnings) == 1 and found.warnings[0].endswith("the preset classic does without")


def test_a_network_that_always_says_the_same_is_told_by_the_pairs(collection: Callable[..., Any]) -> None:
    world = collection(photos=12, points=400)
    inputs = mapper_inputs(world)
    groups = [tuple((start + step) % 12 for step in range(6)) for start in range(0, 12, 2)]
    rng = np.random.default_rng(0)
    local = {}
    for group in groups:
        seen = emulated(world, group, rng, wrong=False)
        same = np.tile(np.eye(3, 4), (len(group), 1, 1))
        same[:, 0, 3] = np.arange(len(group))
        local[group] = LocalScene(same, seen.focals_px, seen.grids, seen.overlap)
    found = GroupMapper()(**inputs, local=local, resources=CPU)
    assert found.warnings[-1].startswith("most verified pairs are inconsistent with the groups")


def test_pairs_that_contradict_the_layout_of_groups_are_doubted(collection: Callable[..., Any]) -> None:
    """Photos match as of one place; groups say that the last five look the other way. Without these, all is right."""
    world = collection(photos=16, points=800, noise_px=0.5)
    inputs = {key: each for key, each in mapper_inputs(world).items() if key != "doubts"}
    groups = [tuple((start + step) % 16 for step in range(8)) for start in range(0, 16, 2)]
    rng = np.random.default_rng(0)
    assert not len(Doppelgangers()(**inputs, resources=CPU).pairs)
    true = {group: emulated(world, group, rng, wrong=False) for group in groups}
    assert not len(Doppelgangers()(**inputs, local=true, resources=CPU).pairs)
    turned = copy(world)
    turned.cam_from_world = world.cam_from_world.copy()
    turned.cam_from_world[11:, :, :3] = world.cam_from_world[11:, :, :3] @ exp_so3(np.array([[0.0, 2.0, 0.0]]))[0]
    other = {group: emulated(turned, group, rng, wrong=False) for group in groups}
    found = Doppelgangers()(**inputs, local=other, resources=CPU)
    together = {(a, b) for group in groups for a in group for b in group if a < 11 <= b}
    assert {tuple(pair) for pair in found.pairs.tolist()} <= together and len(found.pairs) > 0.8 * len(together)
    said = re.compile(r"groups of photos say that the two are turned by (9|1[012])\d degrees otherwise")
    assert [reason for reason in found.reasons if not said.fullmatch(reason)] == []
    nonsense = {group: emulated(world, group, rng, wrong=True) for group in groups}
    assert not len(Doppelgangers()(**inputs, local=nonsense, resources=CPU).pairs)


def test_groups_that_contradict_most_pairs_have_no_say(collection: Callable[..., Any]) -> None:
    world = collection(photos=12, points=600, noise_px=0.5)
    inputs = {key: each for key, each in mapper_inputs(world).items() if key != "doubts"}
    groups = [tuple((start + step) % 12 for step in range(6)) for start in range(0, 12, 2)]
    mirrored = copy(world)
    mirrored.cam_from_world = exp_so3(np.arange(12)[:, None] * [[0.0, 0.9, 0.0]]) @ world.cam_from_world
    rng = np.random.default_rng(0)
    local = {group: emulated(mirrored, group, rng, wrong=False) for group in groups}
    found = Doppelgangers()(**inputs, local=local, resources=CPU)
    assert not len(found.pairs) and "groups have no say in doubts" in found.warnings[0]


@dataclass(frozen=True)
class RegressedPoses:
    """What a plugin looks like that regresses relative poses from two photos: here it knows them, up to 0.2 degrees."""

    grain: ClassVar[Literal[Grain.PAIR]] = Grain.PAIR
    version: ClassVar[int] = 1

    def __call__(self, photos: Sides[Photo]) -> TwoViewGeometry:
        number_a, number_b = int(photos.a.name), int(photos.b.name)
        a, b = WORLD.cam_from_world[[number_a, number_b]]
        rng = np.random.default_rng(number_a * 100 + number_b)
        rotation = exp_so3(np.radians(0.2 / np.sqrt(3)) * rng.standard_normal((1, 3)))[0] @ b[:, :3] @ a[:, :3].T
        move = b[:, 3] - rotation @ a[:, 3]
        pose = np.column_stack([rotation, move / np.linalg.norm(move)])
        focals, nothing = np.full(2, 1500.0), np.zeros((3, 3))
        return TwoViewGeometry("general", np.zeros(0, bool), pose, focals, "guess", nothing, 0.0)


def test_a_network_that_regresses_relative_poses_ties_photos_without_matches(
    collection: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ports.check_plugin(RegressedPoses, "verification")
    world = collection(photos=16, points=600, noise_px=0.5)
    monkeypatch.setitem(globals(), "WORLD", world)
    inputs = mapper_inputs(world, lambda a, b: (a, b) == (0, 1))
    groups = [tuple((start + step) % 16 for step in range(8)) for start in range(0, 16, 2)]
    rng = np.random.default_rng(0)
    local = {group: emulated(world, group, rng, wrong=False) for group in groups}
    sides = [(a, b) for a in range(16) for b in range(a + 1, 16) if (b - a) % 16 in (1, 2, 3, 13, 14, 15)]
    plugin = RegressedPoses()
    named = [Photo(str(number), Path(), str(number), 400, 300) for number in range(16)]
    regressed = {(a, b): plugin(Sides(named[a], named[b])) for a, b in sides}
    wrong = exp_so3(np.array([[0.0, 1.5, 0.0]]))[0]
    regressed[5, 6] = replace(regressed[5, 6], b_from_a=wrong @ regressed[5, 6].b_from_a)
    alone = GroupMapper()(**inputs, local=local, resources=CPU)
    tied = GroupMapper()(**inputs, local=local, regressed=regressed, resources=CPU)
    assert rotation_error_deg(world, tied) < 0.3 < rotation_error_deg(world, alone)
    nothing = {pair: replace(said, kind="none") for pair, said in regressed.items()}
    same = GroupMapper()(**inputs, local=local, regressed=nothing, resources=CPU)
    np.testing.assert_array_equal(same.models[0].cam_from_world, alone.models[0].cam_from_world)


def test_photos_without_matches_stay_where_a_network_sees_them_and_are_named(collection: Callable[..., Any]) -> None:
    world = collection(photos=16, points=600, noise_px=0.5)
    lonely = (5, 6)
    inputs = mapper_inputs(world, lambda a, b: not {a, b} & set(lonely))
    groups = [tuple((start + step) % 16 for step in range(8)) for start in range(0, 16, 2)]
    rng = np.random.default_rng(0)
    local = {group: emulated(world, group, rng, wrong=False) for group in groups}
    coarse = GroupMapper()(**inputs, local=local, resources=CPU)
    found = BundleAdjustment()(**inputs, coarse=coarse, resources=CPU)
    (model,), (report,) = found.models, found.reports
    assert len(model.photos) == 16 and report.predicted == lonely and not set(lonely) & set(found.left_out)
    assert found.warnings[-1].startswith("5.jpg, 6.jpg have too few matches; the network alone says where they were")
    assert not np.isin(lonely, model.obs_photo).any()
    for figures in (report.sigma_deg, report.verdict.photo_probability):
        assert np.flatnonzero(~np.isfinite(figures)).tolist() == list(lonely)
    # Relative to its matched neighbours each is within the errors of the network, which are a degree.
    for photo in lonely:
        for other in (3, 8):
            turns = [
                poses[photo, :, :3] @ poses[other, :, :3].T for poses in (model.cam_from_world, world.cam_from_world)
            ]
            assert rotation_angle_deg(turns[0] @ turns[1].T) < 1.0
    without = BundleAdjustment(predicted_poses=PredictedPoseOptions(enabled=False))(
        **inputs, coarse=coarse, resources=CPU
    )
    assert not set(lonely) & set(without.models[0].photos.tolist()) and set(lonely) <= set(without.left_out)
    shown = per_photo(inputs["photos"], found, (), "")
    assert [name for name, facts in shown.items() if facts.get("predicted")] == ["5.jpg", "6.jpg"]
    assert shown["5.jpg"]["points"] == 0 and shown["5.jpg"]["probability"] is None


def test_a_photo_that_a_network_turns_the_wrong_way_is_registered_by_its_matches_or_left_out(
    collection: Callable[..., Any],
) -> None:
    world = collection(photos=12, points=600, noise_px=0.5)
    inputs = mapper_inputs(world)
    poses = world.cam_from_world.copy()
    poses[4, :, :3] = exp_so3(np.array([[0.0, 0.6, 0.0]]))[0] @ poses[4, :, :3]
    intrinsics = intrinsics_of_priors(inputs["cameras"], 1.0)
    intrinsics = intrinsics.with_focals(np.full(len(intrinsics.models), 1500.0))
    coarse = PredictedModels((initial_model(intrinsics, poses, world.graph.keypoints),), {})
    found = BundleAdjustment()(**inputs, coarse=coarse, resources=CPU)
    turned = found.models[0].cam_from_world[4, :, :3] @ found.models[0].cam_from_world[3, :, :3].T
    true = world.cam_from_world[4, :, :3] @ world.cam_from_world[3, :, :3].T
    assert rotation_angle_deg(turned @ true.T) < 0.2 and found.reports[0].predicted == ()
    unable = BundleAdjustment(absolute_pose=AbsolutePoseOptions(min_inliers=10_000))
    found = unable(**inputs, coarse=coarse, resources=CPU)
    assert found.reports[0].predicted == () and "could not be registered" in found.left_out[4]


def rotation_error_deg(world: Any, found: Any) -> float:
    """Median over the photos of the first model, after the turn that fits best."""
    (model,) = found.models
    relative = model.cam_from_world[:, :, :3].transpose(0, 2, 1) @ world.cam_from_world[model.photos, :, :3]
    left, _, right = np.linalg.svd(relative.sum(axis=0))
    angle = (np.trace(relative @ (left @ right).T, axis1=1, axis2=2) - 1) / 2
    return float(np.median(np.degrees(np.arccos(np.clip(angle, -1, 1)))))


def test_photos_with_nothing_in_common_give_no_model(collection: Callable[..., Any]) -> None:
    world = collection(photos=6, points=200)
    inputs = mapper_inputs(world)
    scene = emulated(world, (0, 1, 2), np.random.default_rng(0), wrong=False)
    apart = LocalScene(scene.cam_from_local, scene.focals_px, scene.grids, np.eye(3, dtype=np.float32))
    assert GroupMapper()(**inputs, local={(0, 1, 2): apart}, resources=CPU).models == ()


@pytest.mark.parametrize("name", ["da3", "vggt", "pi3"])
def test_presets_say_what_is_not_known_of_them(name: str) -> None:
    preset = read_preset(name)
    assert preset["local"] == {"use": name} and "not judged on real photos yet" in preset["about"]


def test_weights_for_any_purpose_are_told_from_the_others() -> None:
    free = {"da3-small", "da3-base", "da3-metric", "da3-mono"}
    for name in (*free, "da3-large", "da3-giant", "vggt", "pi3"):
        assert (entry(name).licence == "Apache-2.0") == (name in free)
        assert entry(name).file.startswith(name) and entry(name).urls[0].startswith("https://huggingface.co/")
