"""Encodings of cameras, cameras from rays, focal lengths from points, and photos as networks read them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from many_view_networks import FOLDER, deviation, fixture, hashed_parameter
from PIL import Image
from torch import Tensor, nn

from unposed.networks.dpt import Fusion
from unposed.networks.errors import ImageSizeError
from unposed.networks.manyview.cameras import (
    decode_camera,
    encode_camera,
    inverse_pose,
    normalize_poses,
    quaternion_of_rotation,
    rotation_of_quaternion,
)
from unposed.networks.manyview.da3 import reference_views
from unposed.networks.manyview.heads import DptScratch, MapPosition
from unposed.networks.manyview.images import fit_da3, fit_vggt, normalised, pi3_patches, view_frames
from unposed.networks.manyview.local_points import focals_from_local_points
from unposed.networks.manyview.pi3 import rotation_of_rows
from unposed.networks.manyview.rays import cameras_from_rays
from unposed.networks.manyview.vit import ViewBlock
from unposed.networks.mast3r.config import DptConfig
from unposed.networks.transformer import apply_rotary_embedding, rotary_embedding

CLOSE = 1e-5


def test_encodings_of_cameras_are_those_of_the_published_program() -> None:
    seen = fixture("da3_pieces")
    pose, focal = decode_camera(seen["pose.enc"].double(), (98, 70), clamped=True)
    assert deviation(pose, seen["pose.c2w"]) < CLOSE
    assert deviation(inverse_pose(pose), seen["pose.w2c"]) < CLOSE
    expected = seen["pose.intrinsics"][..., [0, 1], [0, 1]].double()
    assert ((focal - expected).abs() / expected).max() < CLOSE
    assert deviation(quaternion_of_rotation(seen["quat.R"].double()), seen["quat.xyzw"]) < CLOSE
    focal = seen["encode.intrinsics"][..., [0, 1], [0, 1]].double()
    encoded = encode_camera(seen["encode.c2w"].double(), focal, (98, 70))
    assert deviation(encoded, seen["encode.enc"]) < CLOSE


def test_quaternions_of_half_turns_are_those_of_their_rotations() -> None:
    turns = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0], [0.6, 0.8, 0, 0], [0, 0, 0, 1.0]]).double()
    again = quaternion_of_rotation(rotation_of_quaternion(turns))
    assert (again * turns).sum(-1).abs().min() > 1 - 1e-12


def test_given_poses_are_normalised_as_in_the_published_program() -> None:
    seen = fixture("da3_pieces")
    found = normalize_poses(seen["normpose.w2c_in"][..., :3, :].double())
    assert deviation(found, seen["normpose.w2c_out"][..., :3, :]) < CLOSE


def test_the_reference_view_is_that_of_the_published_program() -> None:
    seen = fixture("da3_pieces")
    tokens = seen["ref.x"][:, :, 0].double()
    for rule in ("first", "middle", "saddle_balanced"):
        assert reference_views(tokens, rule).tolist() == seen[f"ref.{rule}"].tolist()


def test_rotary_embedding_and_positions_of_maps_are_those_of_the_published_program() -> None:
    seen = fixture("da3_pieces")
    for kind in ("", "_global"):
        out = apply_rotary_embedding(seen["rope.q"], rotary_embedding(seen[f"rope.pos{kind}"][0].float(), 16, 100.0))
        assert deviation(out, seen[f"rope.out{kind}"]) < CLOSE
    for name, aspect in (("3x4.C16", 56 / 42), ("7x5.C8", 70 / 98), ("24x32.C8", 56 / 42)):
        expected = seen[f"uv.{name}"].double()
        rows, columns, channels = expected.shape
        blank = torch.zeros(1, channels, rows, columns, dtype=torch.float64)
        found = MapPosition((rows, columns), channels, aspect, blank).added(blank)[0].movedim(0, -1)
        assert deviation(found, 0.1 * expected) < CLOSE


def _hashed(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {
        name: hashed_parameter(f"{prefix}{name}", value.shape, torch.float64)
        for name, value in module.state_dict().items()
    }


def test_a_block_is_that_of_the_published_program() -> None:
    seen = fixture("da3_pieces")
    block = ViewBlock(64, 2, 1e-6, normed=True).double().eval()
    block.load_state_dict(_hashed(block, "block."))
    with torch.inference_mode():
        plain = block(seen["block.x"].double())
        turned = block(seen["block.x"].double(), rotary_embedding(seen["rope.pos"][0].float(), 32, 100.0))
    assert deviation(plain, seen["block.out_nopos"]) < CLOSE
    assert deviation(turned, seen["block.out_pos"]) < CLOSE


@pytest.mark.parametrize(("name", "rectified"), [("da3_pieces", False), ("vggt_tiny", True)])
def test_fusion_keeps_the_negative_in_its_skip_only_where_the_published_one_does(name: str, rectified: bool) -> None:
    seen = fixture(name)
    scratch = DptScratch(DptConfig((8, 8, 8, 8), 8, 8), 1, rectified=rectified, rays=False, sky=False).double()
    fusion = scratch.refinenet1
    assert isinstance(fusion, Fusion)
    fusion.load_state_dict(_hashed(fusion, "fusion."))
    with torch.inference_mode():
        a, b = (seen[f"fusion.{side}"].double() for side in "ab")
        x = fusion.out_conv(fusion.resConfUnit2(a + fusion.resConfUnit1(b)))
        found = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    assert deviation(found, seen["fusion.out_x2"]) < CLOSE


def test_rotations_of_nine_numbers_are_those_of_the_published_program() -> None:
    seen = fixture("pi3_tiny")
    assert deviation(rotation_of_rows(seen["svd.in"].double()), seen["svd.R"]) < CLOSE


@pytest.mark.parametrize(("case", "close"), [("exact", 1e-5), ("noisy", 3e-3), ("outlier", 2e-2)])
def test_cameras_from_rays_are_the_true_ones(case: str, close: float) -> None:
    seen = fixture("da3_rays")
    found = cameras_from_rays(seen[f"{case}.rays"][0], seen[f"{case}.conf"][0])
    assert deviation(found.world_from_cam[:, :, :3], seen["true.R"]) < close
    assert deviation(found.world_from_cam[:, :, 3], seen["true.T"]) < close
    assert deviation(found.focal, seen["true.f"]) < close
    assert deviation(found.principal, torch.ones(3, 2)) < close


def test_cameras_from_rays_are_right_with_the_principal_point_off_the_middle() -> None:
    seen = fixture("da3_rays")
    found = cameras_from_rays(seen["offcentre.rays"][0], seen["offcentre.conf"][0])
    assert deviation(found.world_from_cam[0, :, :3], seen["true.R"][0]) < CLOSE
    assert deviation(found.focal[0], seen["offcentre.true_f"]) < CLOSE
    assert deviation(found.principal[0], seen["offcentre.true_pp"]) < CLOSE


def test_the_length_of_directions_plays_no_part() -> None:
    seen = fixture("da3_rays")
    rays = seen["exact.rays"][0].clone()
    rays[..., :3] *= 0.5 + torch.rand(rays.shape[:3], generator=torch.Generator().manual_seed(1))[..., None]
    found = cameras_from_rays(rays, seen["exact.conf"][0])
    assert deviation(found.world_from_cam[:, :, :3], seen["true.R"]) < CLOSE


def test_focal_length_and_shift_of_points_are_found() -> None:
    height, width, focal, shift = 56, 84, 70.0, 0.4
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    depth = 2.0 + torch.rand(height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = torch.stack([(x - width / 2) / focal * depth, (y - height / 2) / focal * depth, depth - shift], dim=-1)
    points[:5, :5] = torch.nan
    found, moved = focals_from_local_points(points[None], torch.ones(1, height, width))
    assert abs(float(found) - focal) < 1e-3 and abs(float(moved) - shift) < 1e-4


IMAGES = FOLDER.parent / "fixtures/images"


def image_of(name: str) -> np.ndarray:
    if not (IMAGES / name).exists():
        pytest.skip(f"no {name}: $UNPOSED_REFERENCE names the folder with made-up images")
    with Image.open(IMAGES / name) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("longest", [56, 126])
def test_photos_are_resized_as_by_depth_anything(longest: int) -> None:
    seen = fixture("da3_images").arrays
    names = [name for name in seen if name.endswith(f".{longest}.upper_bound_resize")]
    assert len(names) == 10
    # The outputs were made by OpenCV 5; on other processors it rounds one value in some ten thousand differently.
    allowed, share = (1, 1e-4) if cv2.__version__.startswith("5.") else (2, 1.0)
    for name in names:
        found = fit_da3(image_of(name.partition(f".{longest}.")[0]), longest)
        assert found.shape == seen[name].shape
        difference = np.abs(found.astype(int) - seen[name].astype(int))
        assert difference.max() <= allowed and np.mean(difference > 0) <= share, name


def test_sizes_of_images_are_those_of_the_published_programs() -> None:
    path = FOLDER / "fixtures"
    if not path.exists():
        pytest.skip("$UNPOSED_REFERENCE names the folder with outputs of published networks")
    for entry in json.loads((path / "da3_images.json").read_text("utf-8"))["sizes"]:
        width, height = entry["wh"]
        if width * height < 1 << 25:
            found = fit_da3(np.zeros((height, width, 3), np.uint8), 504)
            assert [found.shape[1], found.shape[0]] == entry["upper_bound_resize"]
    for entry in json.loads((path / "pi3_sizes.json").read_text("utf-8")):
        assert [14 * patches for patches in pi3_patches(*entry["wh"], 255_000)] == entry["out"]
    for entry in json.loads((path / "vggt_sizes.json").read_text("utf-8")):
        if "wh" in entry and entry["wh"][0] >= entry["wh"][1]:
            found = fit_vggt(np.zeros((entry["wh"][1], entry["wh"][0], 3), np.uint8), 518)
            assert [found.shape[1], found.shape[0]] == entry["crop"]


@pytest.mark.parametrize("name", ["land_131x97.png", "port_75x120.png"])
def test_photos_are_resized_as_by_vggt(name: str) -> None:
    rows = fixture("vggt_images").arrays[f"{name}.pad.rows"]
    found = fit_vggt(image_of(name), 518)
    top, left = (518 - found.shape[0]) // 2, (518 - found.shape[1]) // 2
    padded = np.full((518, 518, 3), 255, np.uint8)
    padded[top : top + found.shape[0], left : left + found.shape[1]] = found
    scale = 255.0 if rows.max() <= 1.0 else 1.0
    assert np.abs(padded[::37] - scale * rows.astype(float)).max() <= 1.0


def test_a_group_of_several_sizes_is_cropped_about_the_middle() -> None:
    seen = fixture("da3_images").arrays
    names = ("land_131x97.png", "port_75x120.png", "square_90.png")
    originals = [image_of(name) for name in names]
    images, frames = view_frames(
        [(each.shape[1], each.shape[0]) for each in originals], [fit_da3(each, 126) for each in originals]
    )
    for number, (image, frame, photo) in enumerate(zip(images, frames, originals, strict=True)):
        assert np.abs(image.astype(int) - seen[f"batch126.{number}"].astype(int)).max() <= 2
        height, width = image.shape[:2]
        middle = frame.to_photo(np.array([width / 2 - 0.5, height / 2 - 0.5]))
        assert np.allclose(middle, (photo.shape[1] / 2, photo.shape[0] / 2))


def test_images_of_groups_are_cropped_to_multiples_where_that_is_asked_for() -> None:
    sizes = [(1000, height) for height in range(420, 1000, 37)]
    images = [fit_da3(np.zeros((height, width, 3), np.uint8), 504) for width, height in sizes]
    shapes = {
        step: {view_frames([size], [image], step)[1][0].size for size, image in zip(sizes, images, strict=True)}
        for step in (14, 42)
    }
    assert len(shapes[14]) > 12
    assert len(shapes[42]) < 8 and all(height % 42 == 0 for height, _ in shapes[42])
    assert (378, 504) in {view_frames([(4, 3)], [np.zeros((378, 504, 3), np.uint8)], 42)[1][0].size}


def test_images_are_normalised_as_by_depth_anything() -> None:
    seen = fixture("da3_images").arrays
    found = normalised([[seen["land_131x97.png.56.upper_bound_resize"]]])[0, 0]
    assert deviation(found, torch.from_numpy(seen["tensor.land_131x97.png.56"])) < CLOSE


def test_a_photo_without_room_for_a_patch_is_refused_in_one_line() -> None:
    with pytest.raises(ImageSizeError, match=r"90000 x 3 px is too narrow"):
        pi3_patches(90_000, 3, 255_000)


def test_no_fixture_is_left_out(request: pytest.FixtureRequest) -> None:
    folder = FOLDER / "fixtures"
    if not folder.exists():
        pytest.skip("$UNPOSED_REFERENCE names the folder with outputs of published networks")
    here = Path(str(request.path)).parent
    text = "".join(file.read_text("utf-8") for file in here.glob("*.py"))
    assert [file.name for file in folder.glob("*.npz") if file.stem not in text] == []
