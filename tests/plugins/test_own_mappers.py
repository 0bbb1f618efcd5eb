"""Our own mappers, and the doubts before them, behind the contract, on made-up collections."""

import importlib
import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from worlds import mapper_inputs as inputs

from unposed.optim.cameras import K1
from unposed.optim.doppelgangers import relative_rotations
from unposed.optim.partition import divided_mapping
from unposed.optim.rotations import exp_so3, rotation_angle_deg
from unposed.pipeline.artifacts import (
    Camera,
    Exif,
    InitialModel,
    SparseModel,
    SparseModels,
)
from unposed.pipeline.config import build, schema
from unposed.pipeline.errors import Interrupted
from unposed.pipeline.executor import Local, Watch, map_by
from unposed.pipeline.stage import Resources
from unposed.plugins.coarse.global_mapping import GlobalMapper
from unposed.plugins.doubts import doppelgangers
from unposed.plugins.fine.bundle import BundleAdjustment
from unposed.plugins.fine.ceres import CeresBundleAdjustment
from unposed.plugins.fine.triangulate import Triangulation

Make = Callable[..., Any]
CPU = Resources("cpu", threads=1, ram_bytes=1 << 30, vram_bytes=0)
Inputs = dict[str, Any]


def worst_deg(world: Any, scene: InitialModel | SparseModel) -> float:
    poses = np.full((len(world.graph.keypoints), 3, 4), np.nan)
    poses[scene.photos] = scene.cam_from_world
    return float(np.nanmax(world.errors(poses).rotation_error_deg))


@pytest.mark.parametrize("stage", [BundleAdjustment, CeresBundleAdjustment])
def test_both_stages_place_everything(collection: Make, stage: type[BundleAdjustment]) -> None:
    world = collection(noise_px=0.5, wrong=0.03, points=600)
    given = inputs(world)
    coarse = GlobalMapper()(**given)
    fine = stage()(**given, resources=CPU, coarse=coarse)
    for sparse in (coarse, fine):
        (scene,) = sparse.models
        np.testing.assert_array_equal(scene.photos, np.arange(10))
        assert sparse.left_out == {}
        assert worst_deg(world, scene) < 0.6
        assert scene.cameras[0].params[0] == pytest.approx(1500.0, rel=0.02)
    assert fine.warnings == coarse.warnings == ()


def test_initial_poses_can_be_looked_at_as_they_are(collection: Make) -> None:
    world = collection(noise_px=0.5, points=600)
    given = inputs(world)
    coarse = GlobalMapper()(**given)
    found = Triangulation(tracks_per_photo=100)(**given, coarse=coarse)
    (model,), (initial,) = found.models, coarse.models
    np.testing.assert_array_equal(model.cam_from_world, initial.cam_from_world)
    assert model.cameras == initial.cameras
    assert len(model.points) > 100
    assert np.median(model.error_px) < 2.0


def test_two_islands_and_a_lonely_photo(collection: Make) -> None:
    """Photos 0-3 and 4-8 are joined by no pair, and 9 by none at all."""
    world = collection(noise_px=0.3, points=600)
    given = inputs(world, keep=lambda a, b: b < 9 and (a < 4) == (b < 4))
    coarse = GlobalMapper()(**given)
    fine = BundleAdjustment()(**given, resources=CPU, coarse=coarse)
    for sparse in (coarse, fine):
        assert [scene.photos.tolist() for scene in sparse.models] == [[4, 5, 6, 7, 8], [0, 1, 2, 3]]
        assert sparse.left_out == {9: "it has verified matches with no other photo"}
    assert len(GlobalMapper(min_photos=5)(**given).models) == 1


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("coarse.global_mapping.select_intrinsics", 0),
        ("coarse.global_mapping.select_intrinsics", 1),
        ("coarse.global_mapping.map_component", 0),
        ("fine.bundle.refine", 0),
        ("fine.bundle.refine", 1),
    ],
)
def test_a_bug_in_one_island_costs_the_other_nothing(
    collection: Make, monkeypatch: pytest.MonkeyPatch, place: str, number: int
) -> None:
    """Such as a matrix that is singular in the end: the other island has its model, and a warning says why."""
    world = collection(noise_px=0.3, points=600)
    given = inputs(world, keep=lambda a, b: (a < 4) == (b < 4))
    whole = BundleAdjustment()(**given, resources=CPU, coarse=GlobalMapper()(**given))
    path = f"unposed.plugins.{place}"
    module, _, name = path.rpartition(".")
    function, calls = getattr(importlib.import_module(module), name), itertools.count()

    def broken(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            raise np.linalg.LinAlgError("Singular matrix")
        return function(*arguments, **options)

    monkeypatch.setattr(path, broken)
    coarse = GlobalMapper()(**given)
    fine = BundleAdjustment()(**given, resources=CPU, coarse=coarse)
    (model,) = fine.models
    (same,) = [each for each in whole.models if each.photos.tolist() == model.photos.tolist()]
    np.testing.assert_array_equal(model.cam_from_world, same.cam_from_world)
    (warning,) = fine.warnings
    assert "that belong together are in no model" in warning and "LinAlgError: Singular matrix" in warning
    assert set(fine.left_out) == set(range(10)) - set(model.photos.tolist())


@pytest.mark.parametrize("error", [MemoryError("full"), OSError("gone"), Interrupted("stop")])
def test_what_is_of_this_moment_is_no_result(
    collection: Make, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A result without the island would be stored as if it had none."""
    given = inputs(collection(noise_px=0.3, points=600), keep=lambda a, b: (a < 4) == (b < 4))

    def broken(*arguments: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr("unposed.plugins.coarse.global_mapping.map_component", broken)
    with pytest.raises(type(error)):
        GlobalMapper()(**given)


def test_a_bug_in_every_island_is_a_crash(collection: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(collection(noise_px=0.3, points=600), keep=lambda a, b: (a < 4) == (b < 4))
    coarse = GlobalMapper()(**given)

    def broken(*arguments: Any, **options: Any) -> Any:
        raise IndexError("out of bounds")

    monkeypatch.setattr("unposed.plugins.fine.bundle.refine", broken)
    with pytest.raises(IndexError):
        BundleAdjustment()(**given, resources=CPU, coarse=coarse)


def test_islands_of_equal_size_have_their_own_cameras(collection: Make) -> None:
    """Even and odd photos have nothing in common but their size; what holds for one group is not asked of the other."""
    world = collection(
        noise_px=0.3, points=600, photos=14, lenses=((1500.0, 800.0, 600.0, 0.0), (2400.0, 800.0, 600.0, 0.0))
    )
    given = inputs(world, keep=lambda a, b: a % 2 == b % 2)
    fine = BundleAdjustment()(**given, resources=CPU, coarse=GlobalMapper()(**given))
    focals = sorted(scene.cameras[0].params[0] for scene in fine.models)
    assert focals == pytest.approx([1500.0, 2400.0], rel=0.02)
    assert fine.warnings == ()


def test_a_photo_that_the_coarse_stage_left_out_joins(collection: Make) -> None:
    world = collection(noise_px=0.3, points=600)
    without = GlobalMapper()(**inputs(world, keep=lambda a, b: 4 not in (a, b)))
    assert list(without.left_out) == [4]
    fine = BundleAdjustment()(**inputs(world), resources=CPU, coarse=without)
    assert fine.left_out == {}
    assert worst_deg(world, fine.models[0]) < 0.6


def test_nothing_in_common_gives_no_scene(collection: Make) -> None:
    given = inputs(collection(photos=3), keep=lambda a, b: False)
    coarse = GlobalMapper()(**given)
    assert coarse.models == ()
    assert set(coarse.left_out) == {0, 1, 2}
    fine = BundleAdjustment()(**given, resources=CPU, coarse=coarse)
    assert fine.models == ()
    assert fine.left_out == coarse.left_out


def test_senseless_matches_give_no_scene(collection: Make) -> None:
    sparse = GlobalMapper()(**inputs(collection(photos=4, wrong=1.0)))
    assert sparse.models == ()
    assert all("are inconsistent with the others" in reason for reason in sparse.left_out.values())


def test_two_photos_make_a_scene(collection: Make) -> None:
    world = collection(photos=2, sweep_deg=15.0, points=600, noise_px=0.3)
    given = inputs(world)
    fine = BundleAdjustment()(**given, resources=CPU, coarse=GlobalMapper()(**given))
    assert [scene.photos.tolist() for scene in fine.models] == [[0, 1]]


def test_larger_photos_allow_larger_errors(collection: Make) -> None:
    """The same photos at thrice the size, noise included: the same poses."""
    size, lens = (4800, 3600), (4500.0, 2400.0, 1800.0, 0.0)
    small, large = collection(noise_px=0.5), collection(noise_px=1.5, sizes=(size,), lenses=(lens,))
    found = [
        BundleAdjustment()(**given, resources=CPU, coarse=GlobalMapper()(**given))
        for given in map(inputs, (small, large))
    ]
    a, b = (sparse.models[0] for sparse in found)
    assert len(b.points) == pytest.approx(len(a.points), rel=0.02)
    assert b.cameras[0].params[0] == pytest.approx(3.0 * a.cameras[0].params[0], rel=0.01)


def test_given_cameras_are_not_touched(collection: Make) -> None:
    world = collection(noise_px=0.3)
    guessed = inputs(world)
    params = (1490.0, 803.0, 598.0, 0.001)
    camera = Camera("SIMPLE_RADIAL", 1600, 1200, params)
    given = guessed | {"cameras": replace(guessed["cameras"], cameras=(camera,), focal_source=("given",))}
    fine: SparseModels = BundleAdjustment()(**given, resources=CPU, coarse=GlobalMapper()(**given))
    assert fine.models[0].cameras[0].params == pytest.approx(params, rel=1e-6, abs=1e-6)


def test_given_poses_are_kept_and_set_the_frame(collection: Make) -> None:
    """Three of ten are known; the coarse scene lies anywhere."""
    world = collection(noise_px=0.3, points=600)
    known = np.where(np.isin(np.arange(10), [1, 5, 8])[:, None, None], world.cam_from_world, np.nan)
    given = inputs(world)
    given["cameras"] = replace(given["cameras"], cam_from_world=known)
    for stage in (BundleAdjustment(), CeresBundleAdjustment()):
        sparse: SparseModels = stage(**given, resources=CPU, coarse=GlobalMapper()(**given))
        (scene,) = sparse.models
        assert sparse.warnings == ()
        np.testing.assert_allclose(scene.cam_from_world[[1, 5, 8]], known[[1, 5, 8]], rtol=0, atol=1e-12)
        centres, truth = (
            -np.einsum("cji,cj->ci", poses[:, :, :3], poses[:, :, 3])
            for poses in (scene.cam_from_world, world.cam_from_world)
        )
        assert np.abs(centres - truth).max() < 0.05


def test_rough_poses_set_the_frame_and_move_as_far_as_they_are_wrong(collection: Make) -> None:
    """Of ten poses two are exact, three are not known, and five are off by some degrees and 3 % of the distance."""
    world = collection(noise_px=0.3, points=600)
    rng = np.random.default_rng(2)
    known = world.cam_from_world.copy()
    known[:, :, :3] = exp_so3(np.radians(2.0) * rng.standard_normal((10, 3))) @ known[:, :, :3]
    known[:, :, 3] += 0.1 * rng.standard_normal((10, 3))
    known[[0, 5]] = world.cam_from_world[[0, 5]]
    known[[2, 4, 7]] = np.nan
    sigma = np.where(np.isin(np.arange(10), [0, 5])[:, None], 0.0, [3.0, 0.25])
    given = inputs(world)
    for poses, sigmas, option in ((known, sigma, None), (known[:], None, (3.0, 0.25))):
        given["cameras"] = replace(given["cameras"], cam_from_world=poses, pose_sigma=sigmas)
        fine = BundleAdjustment(pose_sigma=option)
        sparse: SparseModels = fine(**given, resources=CPU, coarse=GlobalMapper()(**given))
        (scene,) = sparse.models
        assert sparse.warnings == ()
        assert len(scene.photos) == 10
        turned = rotation_angle_deg(scene.cam_from_world[:, :, :3] @ world.cam_from_world[:, :, :3].transpose(0, 2, 1))
        centre, truth = (
            -np.einsum("cji,cj->ci", each[:, :, :3], each[:, :, 3])
            for each in (scene.cam_from_world, world.cam_from_world)
        )
        error = np.linalg.norm(centre - truth, axis=1)
        if option is None:  # two exact poses hold the frame
            np.testing.assert_allclose(scene.cam_from_world[[0, 5]], known[[0, 5]], rtol=0, atol=1e-12)
            assert turned.max() < 0.3
            assert error.max() < 0.05
        else:  # seven rough ones do so as well as their mean
            assert turned.max() < 3.0
            assert error.max() < 0.35


def test_one_given_pose_sets_no_frame(collection: Make) -> None:
    world = collection(noise_px=0.3, points=600)
    known = np.where((np.arange(10) == 4)[:, None, None], world.cam_from_world, np.nan)
    given = inputs(world)
    given["cameras"] = replace(given["cameras"], cam_from_world=known)
    sparse: SparseModels = BundleAdjustment()(**given, resources=CPU, coarse=GlobalMapper()(**given))
    assert "stays in a frame of its own" in sparse.warnings[0]
    assert len(sparse.models[0].photos) == 10


def test_a_wrong_given_pose_is_named(collection: Make) -> None:
    """Five of ten are known, and one of these is turned by thirty degrees: it cannot be placed, and the rest is."""
    world = collection(noise_px=0.3, points=600)
    known = np.where((np.arange(10) % 2 == 0)[:, None, None], world.cam_from_world, np.nan)
    turn = np.radians(30.0)
    known[4] = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]) @ known[4]
    given = inputs(world)
    given["cameras"] = replace(given["cameras"], cam_from_world=known)
    sparse: SparseModels = BundleAdjustment()(**given, resources=CPU, coarse=GlobalMapper()(**given))
    assert sparse.warnings == ("the given pose of 4.jpg is inconsistent with the matches of the photos",)
    assert sparse.left_out == {4: "its given pose is inconsistent with its matches"}
    (scene,) = sparse.models
    assert worst_deg(world, scene) < 0.6
    np.testing.assert_allclose(scene.cam_from_world[[0, 2, 5]], known[[0, 2, 6]], rtol=0, atol=1e-12)


def test_a_camera_that_turned_on_the_spot_gives_no_points(collection: Make) -> None:
    """Coarse poses may be right; but nothing is triangulated, and that is said."""
    world = collection(noise_px=0.3, points=600)
    given = inputs(world)
    coarse = GlobalMapper()(**given)
    (scene,) = coarse.models
    together = scene.cam_from_world.copy()
    together[:, :, 3] = 0.0
    spot = replace(coarse, models=(replace(scene, cam_from_world=together),))
    sparse: SparseModels = BundleAdjustment()(**given, resources=CPU, coarse=spot)
    assert sparse.models == sparse.reports == ()
    assert sparse.warnings[0].startswith("10 photos match each other but give no points")
    assert set(sparse.left_out) == set(range(10))


def test_given_poses_of_which_none_is_right(collection: Make) -> None:
    """Told, whatever comes of it, and nothing that is not a number."""
    world = collection(noise_px=0.3, points=600)
    given = inputs(world)
    shuffled = world.cam_from_world[np.random.default_rng(1).permutation(10)]
    given["cameras"] = replace(given["cameras"], cam_from_world=shuffled)
    sparse: SparseModels = BundleAdjustment()(**given, resources=CPU, coarse=GlobalMapper()(**given))
    assert any("inconsistent" in note for note in sparse.warnings)
    for scene in sparse.models:
        assert np.isfinite(scene.cam_from_world).all()
        assert np.isfinite(scene.points).all()


def test_the_account_adds_up(collection: Make) -> None:
    """A tenth of the matches is wrong."""
    world = collection(noise_px=0.5, wrong=0.1, points=600)
    given = inputs(world)
    fine = BundleAdjustment()(**given, resources=CPU, coarse=GlobalMapper()(**given))
    (scene,), (account,) = fine.models, fine.reports
    assert len(account.costs) == 2
    for costs in account.costs:
        assert len(costs) > 1
        assert list(costs) == sorted(costs, reverse=True)
    np.testing.assert_array_equal(account.pairs, world.graph.pairs)
    np.testing.assert_array_equal(account.matches, world.graph.match_count)
    assert 0.85 < account.inliers.sum() / account.matches.sum() < 0.96
    assert account.removed["matches off their epipolar lines"] == (account.matches - account.inliers).sum()
    # The distance from the line is the noise of two key points, in one direction each.
    assert np.median(account.error_px) == pytest.approx(0.5, rel=0.25)
    assert account.free_gauge == 7
    assert account.condition is not None
    assert 1.0 < account.condition < 1e9
    assert account.sigma_deg is not None
    errors = world.errors(scene.cam_from_world).rotation_error_deg
    assert 0.2 < np.sqrt(np.mean(errors**2)) / np.sqrt(np.mean(account.sigma_deg**2)) < 5.0


def test_positions_in_exif_make_metres(collection: Make) -> None:
    """Somewhere in Norway, four metres between the photos, places within a few decimetres, one of them a lie."""
    world = collection(noise_px=0.3, points=600, sweep_deg=150.0)
    given = inputs(world)
    # In the made-up world y points down.
    centres = -np.einsum("cji,cj->ci", world.cam_from_world[:, :, :3], world.cam_from_world[:, :, 3])
    metres = 4.0 * centres[:, [0, 2, 1]] * [1.0, 1.0, -1.0]
    told = metres + np.random.default_rng(0).normal(0.0, 0.1, metres.shape)
    told[4] += [300.0, 0.0, 50.0]
    north, east = 111_412.0, 55_800.0  # metres of a degree at 60 degrees north
    exifs = [
        Exif(latitude_deg=60.0 + y / north, longitude_deg=10.0 + x / east, altitude_m=200.0 + z) for x, y, z in told
    ]
    exifs[7] = Exif()
    photos = [replace(photo, exif=exif) for photo, exif in zip(given["photos"].photos, exifs, strict=True)]
    given["photos"] = replace(given["photos"], photos=tuple(photos))
    sparse: SparseModels = BundleAdjustment(gps_sigma_m=0.1)(**given, resources=CPU, coarse=GlobalMapper()(**given))
    (scene,) = sparse.models
    found = -np.einsum("cji,cj->ci", scene.cam_from_world[:, :, :3], scene.cam_from_world[:, :, 3])
    off = (found - found.mean(axis=0)) - (metres - metres.mean(axis=0))
    assert len(found) == 10
    assert np.abs(off).max() < 0.4  # of fifty


def test_a_scene_that_nothing_supports_is_none(collection: Make) -> None:
    world = collection(photos=4)
    given = inputs(world)
    coarse = GlobalMapper()(**given)
    (scene,) = coarse.models
    mixed = replace(scene, cam_from_world=scene.cam_from_world[::-1, ::-1] * [[[1.0], [-1.0], [1.0]]])
    fine = BundleAdjustment()(**given, resources=CPU, coarse=replace(coarse, models=(mixed,)))
    assert fine.models == ()
    assert set(fine.left_out) == {0, 1, 2, 3}


@pytest.mark.parametrize("focal_px", [800.0, 1300.0])
def test_a_focal_length_far_from_the_guess_makes_no_look_alikes(collection: Make, focal_px: float) -> None:
    """Once around; pairs suggest no focal length, and the guess is 1920: rotations are far too small, and those across
    the seam contradict all others."""
    lens = (focal_px, 800.0, 600.0, 0.0)
    ring = collection(photos=14, points=700, sweep_deg=360.0, noise_px=0.5, lenses=(lens,))
    given = inputs(ring, lambda a, b: (b - a) % 14 in (1, 2, 3, 11, 12, 13))
    assert len(given["view_graph"]) == 42
    assert len(doppelgangers.Doppelgangers()(**given, resources=CPU).pairs) == 0
    assert len(doppelgangers.Doppelgangers(trial_focals=())(**given, resources=CPU).pairs) >= 6


def test_distortion_is_tried_where_no_chain_closes(collection: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring whose pairs turn too far, unless the lens is taken for a wide one."""
    ring = collection(photos=14, points=700, sweep_deg=360.0, noise_px=0.5, lenses=((1000.0, 800.0, 600.0, 0.0),))
    given = inputs(ring, lambda a, b: (b - a) % 14 in (1, 2, 3, 11, 12, 13))
    known = replace(given["cameras"].cameras[0], params=(1000.0, 800.0, 600.0, 0.0))
    given["cameras"] = replace(given["cameras"], cameras=(known,), focal_source=("exif",))
    under, wide_k1 = relative_rotations.estimate_relative_poses, doppelgangers.Doppelgangers().trial_distortions[-1]

    def too_far(graph: Any, models: Any, values: Any, *others: Any, **options: Any) -> Any:
        found = under(graph, models, values, *others, **options)
        wide = values[0, K1] == wide_k1
        turned, b_from_a = Rotation.from_matrix(found.b_from_a[:, :, :3]).as_rotvec(), found.b_from_a.copy()
        b_from_a[:, :, :3] = Rotation.from_rotvec(1.6 * turned).as_matrix()
        return found if wide else replace(found, b_from_a=b_from_a)

    monkeypatch.setattr(relative_rotations, "estimate_relative_poses", too_far)
    assert len(doppelgangers.Doppelgangers()(**given, resources=CPU).pairs) == 0
    assert len(doppelgangers.Doppelgangers(trial_distortions=())(**given, resources=CPU).pairs) >= 6


def test_nothing_to_doubt(collection: Make) -> None:
    found = doppelgangers.Doppelgangers()(**inputs(collection(photos=4), lambda a, b: False), resources=CPU)
    assert len(found.pairs) == 0
    assert found.reasons == ()


@pytest.mark.parametrize(
    ("stage", "options", "names"),
    [
        (
            GlobalMapper,
            {"intrinsics_search": {"core_photos": 4}, "relative_pose": {"max_matches": 20}, "tracks_per_photo": 20},
            ("intrinsics_search.clear_cost", "global_positioning.huber", "max_track_edge_deg"),
        ),
        (
            BundleAdjustment,
            {"absolute_pose": {"min_inliers": 20}, "subset_tracks": 20},
            ("predictions.max_long_tracks", "scale_subset.max_error", "dense_dependable_points"),
        ),
        (Triangulation, {"max_error": 1.0}, ("min_angle_deg", "tracks_per_photo")),
    ],
)
def test_nested_options_are_listed_and_change_the_result(
    collection: Make, stage: Any, options: dict[str, Any], names: tuple[str, ...]
) -> None:
    rows = {row.name: row for row in schema(stage)}
    assert all(rows[name].doc for name in names)
    given = inputs(collection(noise_px=0.7, wrong=0.05, points=600))
    if stage is not GlobalMapper:
        given["coarse"] = GlobalMapper()(**given)
    if stage is BundleAdjustment:
        given["resources"] = CPU
    default, changed = stage()(**given), build(stage, options, "node")(**given)
    poses = "cam_from_world" if stage is not Triangulation else "points"
    assert getattr(default.models[0], poses).tobytes() != getattr(changed.models[0], poses).tobytes()


@pytest.mark.parametrize(("name", "value"), [("prior_noise", 5.0), ("dependable_points", 10**4)])
def test_options_of_bundle_adjustment_change_the_poses(collection: Make, name: str, value: Any) -> None:
    given = inputs(collection(noise_px=0.7, points=600))
    given |= {"coarse": GlobalMapper()(**given), "resources": CPU}
    default, changed = BundleAdjustment()(**given), BundleAdjustment(**{name: value})(**given)
    assert default.models[0].cam_from_world.tobytes() != changed.models[0].cam_from_world.tobytes()


DIVIDED = {"division": {"max_photos": 12, "cut": {"overlap_photos": 4}}}


def test_a_large_collection_is_mapped_part_by_part(collection: Make) -> None:
    """The same bytes for any number of threads, with the steps of the clusters reported."""
    world = collection(photos=30, sweep_deg=180.0, noise_px=0.4, wrong=0.02, points=700)
    given = inputs(world, keep=lambda a, b: b - a <= 4)
    steps: list[tuple[int, int, str]] = []
    models = []
    for threads in (1, 3):
        lent = replace(CPU, threads=threads, reporter=lambda *step: steps.append(step))
        lent = replace(lent, mapper=partial(map_by, Local(), lent, Watch()))
        coarse = build(GlobalMapper, DIVIDED, "coarse")(**given, resources=lent)
        models.append(coarse.models[0])
        assert coarse.warnings == () and coarse.left_out == {}
    assert models[0].cam_from_world.tobytes() == models[1].cam_from_world.tobytes()
    assert models[0].cameras == models[1].cameras
    clusters = steps[0][1]
    assert clusters >= 3 and {"mapping clusters"} == {message for _, _, message in steps}
    assert sorted(done for done, _, _ in steps[:clusters]) == list(range(1, clusters + 1))
    assert worst_deg(world, models[0]) < 1.0
    fine = BundleAdjustment()(**given, resources=CPU, coarse=coarse)
    assert worst_deg(world, fine.models[0]) < 0.4


def test_small_collections_stay_undivided(collection: Make) -> None:
    given = inputs(collection(photos=10, noise_px=0.5, points=600))
    usual, limited = (build(GlobalMapper, {"division": {"max_photos": n}}, "coarse")(**given) for n in (1000, 10))
    assert usual.models[0].cam_from_world.tobytes() == limited.models[0].cam_from_world.tobytes()


def test_clusters_that_are_not_joined_are_named(collection: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos of a cluster that cannot be mapped in the whole are left to a model of their own, or to registration."""
    world = collection(photos=30, sweep_deg=180.0, noise_px=0.4, points=700)
    given = inputs(world, keep=lambda a, b: b - a <= 4)
    under = divided_mapping.map_component

    def without_photo_0(graph: Any, *args: Any, **options: Any) -> Any:
        first = world.graph.keypoints.xy[0]
        return None if np.allclose(graph.keypoints.xy[0], first, atol=1e-3) else under(graph, *args, **options)

    monkeypatch.setattr(divided_mapping, "map_component", without_photo_0)
    whole = build(GlobalMapper, DIVIDED, "coarse")(**given)
    assert whole.warnings == () and len(whole.models[0].photos) == 30  # so few photos are mapped undivided then
    never_whole = {"division": {**DIVIDED["division"], "undivided_photos": 0}}
    coarse = build(GlobalMapper, never_whole, "coarse")(**given)
    (warning,) = coarse.warnings
    assert re.fullmatch(r"1 of \d clusters of photos were not joined .* inconsistent with them: \d+ photos", warning)
    assert 0 not in coarse.models[0].photos


def test_a_cancelled_division_stops(collection: Make) -> None:
    world = collection(photos=30, sweep_deg=180.0, points=700)
    given = inputs(world, keep=lambda a, b: b - a <= 4)
    reports = []

    def cancelled(done: int, total: int, message: str) -> None:
        reports.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(GlobalMapper, DIVIDED, "coarse")(**given, resources=replace(CPU, reporter=cancelled))
    assert reports == [1]
