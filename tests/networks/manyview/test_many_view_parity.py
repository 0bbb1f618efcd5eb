"""Networks for many views give what the published programs give, in float64, where wrong constants of norms show."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from many_view_networks import TINY, Fixture, deviation, fixture, hashed_network

from unposed.networks.manyview.cameras import inverse_pose
from unposed.networks.manyview.da3 import Da3Network, GivenCameras
from unposed.networks.manyview.vggt import VggtNetwork

CLOSE = 2e-5
"""The outputs were made in float32: what a wrong epsilon does to them is above, its rounding below."""


def compare_da3(net: Da3Network, seen: Fixture, case: str, **options: Any) -> None:
    images = seen.images(f"{case.split('.')[0]}.")
    size = images.shape[3], images.shape[4]
    features = net.features(images, **options)
    if f"{case}.ref_index" in seen.arrays:
        assert features.reference.tolist() == seen[f"{case}.ref_index"].tolist()
    found = net(images, **options)
    encoding = net.cam_dec(features.camera)
    outputs = {
        "camera_feat": features.camera,
        "pose_enc": encoding,
        "depth": found.depth,
        "depth_conf": found.confidence,
        "extrinsics": found.cam_from_world,
    }
    if f"{case}.ray" in seen.arrays:
        outputs["ray"], outputs["ray_conf"] = net.rays(features, size)
    for level, each in enumerate(features.levels):
        outputs[f"feat{level}"] = each
    compared = [name for name in outputs if f"{case}.{name}" in seen.arrays]
    assert {"depth", "pose_enc", "extrinsics"} <= set(compared)
    for name in compared:
        assert deviation(outputs[name], seen[f"{case}.{name}"]) < CLOSE, name
    focal = seen[f"{case}.intrinsics"][..., [0, 1], [0, 1]]
    assert deviation(found.focal_px, focal) < CLOSE


@pytest.mark.parametrize(
    ("name", "cases"),
    [("da3_tinyA", ("v3_land", "v2_land", "v5_port", "v1_square")), ("da3_tinyG", ("v3_land", "v2_land"))],
)
def test_depth_anything_gives_what_the_published_network_gives(name: str, cases: tuple[str, ...]) -> None:
    seen, net = fixture(name), hashed_network(name)
    for case in cases:
        compare_da3(net, seen, case)


@pytest.mark.parametrize(("case", "rule"), [("first", "first"), ("middle", "middle"), ("saddle_sim_range", 3)])
def test_any_view_can_be_the_reference_as_in_the_published_network(case: str, rule: str | int) -> None:
    compare_da3(hashed_network("da3_tinyA"), fixture("da3_tinyA"), f"v5_port.{case}", reference=rule)


def test_known_cameras_change_the_prediction_as_in_the_published_network() -> None:
    seen, net = fixture("da3_tinyA"), hashed_network("da3_tinyA")
    images = seen.images("v3_land.")
    given = GivenCameras(
        seen["cond.extrinsics_in"][None, :, :3].double(),
        seen["cond.intrinsics_in"][None, :, [0, 1], [0, 1]].double(),
    )
    assert deviation(net.camera_tokens(given, (42, 56)), seen["cond.cam_token"]) < CLOSE
    found = net(images, given=given)
    assert deviation(found.depth, seen["cond.depth"]) < CLOSE
    assert deviation(found.cam_from_world, seen["cond.extrinsics"]) < CLOSE
    assert deviation(net.rays(net.features(images, given=given), (42, 56))[0], seen["cond.ray"]) < CLOSE


@pytest.mark.parametrize("case", ["v2_land", "v1_square"])
def test_depth_of_single_views_is_that_of_the_published_network(case: str) -> None:
    seen, net = fixture("da3_tinyM"), hashed_network("da3_tinyM")
    depth, sky = net(seen.images(f"{case}.")[0])
    assert deviation(sky, seen[f"{case}.sky"]) < CLOSE
    assert deviation(depth, seen[f"{case}.depth"]) < CLOSE


def compare_vggt(net: VggtNetwork, seen: Fixture, case: str) -> None:
    images = seen.images(case)
    size = images.shape[3], images.shape[4]
    found, tokens = net(images), net.tokens(images)
    rounds = net.camera_head(tokens.camera)
    for turn, encoding in enumerate(rounds):
        assert deviation(encoding, seen[f"{case}pose_enc{turn}"]) < CLOSE
    points, certain = net.points(tokens, size)
    for name, value in (
        ("depth", found.depth),
        ("depth_conf", found.confidence),
        ("extrinsics", found.cam_from_world),
        ("world_points", points),
        ("world_points_conf", certain),
    ):
        assert deviation(value, seen[f"{case}{name}"]) < CLOSE, name
    assert deviation(found.focal_px, seen[f"{case}intrinsics"][..., [0, 1], [0, 1]]) < CLOSE


@pytest.mark.parametrize("case", ["v3_land", "v2_port", "v5", "v1_square"])
def test_vggt_gives_what_the_published_network_gives(case: str) -> None:
    compare_vggt(hashed_network("vggt_tiny"), fixture("vggt_tiny"), f"{case}.")


@pytest.mark.parametrize("case", ["v3_land", "v2_port", "v5"])
def test_pi3_gives_what_the_published_network_gives(case: str) -> None:
    seen, net = fixture("pi3_tiny"), hashed_network("pi3_tiny")
    found = net.points(seen.images(f"{case}."))
    assert deviation(found.points, seen[f"{case}.local_points"]) < CLOSE
    assert deviation(found.confidence, seen[f"{case}.conf"]) < CLOSE
    assert deviation(found.world_from_cam, seen[f"{case}.camera_poses"][..., :3, :]) < CLOSE


def test_the_order_of_views_plays_no_part_in_pi3() -> None:
    net, images = hashed_network("pi3_tiny"), torch.rand(1, 4, 3, 28, 42, dtype=torch.float64)
    order = [2, 0, 3, 1]
    first, second = net.points(images), net.points(images[:, order])
    assert deviation(second.points, first.points[:, order]) < 1e-9


def test_groups_in_one_batch_give_what_each_gives_alone() -> None:
    for name in ("da3_tinyA", "vggt_tiny", "pi3_tiny"):
        net, images = hashed_network(name), torch.rand(3, 3, 3, 28, 42, dtype=torch.float64)
        together = net(images)
        for group in range(3):
            alone = net(images[group : group + 1])
            assert deviation(alone.depth, together.depth[group]) < 1e-9
            assert deviation(alone.cam_from_world, together.cam_from_world[group]) < 1e-9


def test_cameras_and_depth_agree_whether_poses_are_inverted_twice() -> None:
    found = hashed_network("da3_tinyA")(torch.rand(1, 2, 3, 28, 28, dtype=torch.float64))
    assert deviation(inverse_pose(inverse_pose(found.cam_from_world)), found.cam_from_world) < 1e-12


def test_the_published_small_network_gives_what_it_gave() -> None:
    seen, net = fixture("da3_small_hashweights"), hashed_network("da3-small", torch.float32)
    for case in ("v3", "v2"):
        images = seen.images(f"{case}.").float()
        found = net(images)
        assert deviation(found.depth, seen[f"{case}.depth"]) < 1e-4
        assert deviation(found.cam_from_world, seen[f"{case}.extrinsics"]) < 1e-4
    for name in ("70x98", "98x56", "518x518", "504x378"):
        rows, columns = (int(side) // 14 for side in name.split("x"))
        position = net.backbone.pretrained.positions(rows, columns)[0, :, :24]
        expected = seen[f"pos_interp.{name}"]
        assert deviation(position[:: 37 if int(name.split("x")[0]) > 100 else 1], expected) < 1e-5


@pytest.mark.slow
def test_the_published_base_network_gives_what_it_gave() -> None:
    seen, net = fixture("da3_base_hashweights"), hashed_network("da3-base", torch.float32)
    found = net(seen.images("v3.").float())
    assert deviation(found.depth, seen["v3.depth"]) < 1e-4
    assert deviation(found.cam_from_world, seen["v3.extrinsics"]) < 1e-4


@pytest.mark.slow
@pytest.mark.skipif("UNPOSED_LARGE_NETWORKS" not in os.environ, reason="five gigabytes: set UNPOSED_LARGE_NETWORKS")
def test_the_published_vggt_and_pi3_give_what_they_gave() -> None:
    seen, net = fixture("vggt_1b_hashweights"), hashed_network("vggt", torch.float32)
    found = net(seen.images().float())
    assert deviation(found.depth, seen["depth"]) < 1e-4
    assert deviation(found.cam_from_world, seen["extrinsics"]) < 1e-4
    del net
    seen, net = fixture("pi3_hashweights"), hashed_network("pi3", torch.float32)
    points = net.points(seen.images().float())
    assert deviation(points.points, seen["local_points"]) < 1e-4
    assert deviation(points.confidence, seen["conf"]) < 1e-4
    assert deviation(points.world_from_cam, seen["camera_poses"][..., :3, :]) < 1e-4


def test_all_tiny_networks_are_compared() -> None:
    assert set(TINY) == {"da3_tinyA", "da3_tinyG", "da3_tinyM", "vggt_tiny", "pi3_tiny"}
