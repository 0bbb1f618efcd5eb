"""Matching by networks that see two images: with a made-up network that knows its scene, every coordinate can be
checked; with the smallest published resize_and_crop, that the pieces fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unposed.networks.mast3r.checkpoint import load_network
from unposed.networks.mast3r.config import Mast3rConfig
from unposed.networks.mast3r.images import fit_image, image_batch
from unposed.networks.mast3r.network import PointMapPrediction
from unposed.pipeline.artifacts import DepthGrid, PairMatches, Photo, Tokens
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.images.photos import scan, single_photos
from unposed.pipeline.images.pixels import read_rgb
from unposed.pipeline.stage import Resources, Sides
from unposed.pipeline.store.codec import encode
from unposed.pipeline.store.content import content_hash
from unposed.plugins.matching import dust3r, mast3r
from unposed.plugins.matching.dense import bounded_weight

Size = tuple[int, int]

CPU = Resources("cpu", 1, 1 << 30, 0)
WIDTH, HEIGHT = 128, 96
SHIFT = np.array([12, 8])
"""What is at a pixel of a is so much further left and up in b."""
FOCAL, NEAR, FAR = 40.0, 2.0, 0.05


@dataclass(frozen=True)
class Knowing:
    """A network that reads the place of an image in its photo off the pixels' colours, and knows what is there: a
    slope, without any parallax."""

    in_one_frame: bool
    """Whether points of both images are in one frame, nearly; else every image's are in that of its own camera."""
    config: ClassVar[Mast3rConfig] = Mast3rConfig(descriptor_width=16, image_px=64)
    device: ClassVar[torch.device] = torch.device("cpu")

    def encode(self, images: Tensor) -> Tensor:
        place = torch.round((images[:, :, 0, 0] * 0.5 + 0.5) * 255)  # red is x, green is y, blue the photo
        return torch.cat([place, torch.ones(len(images), 1)], dim=1)[:, None]

    def decode(
        self, one: Tensor, two: Tensor, size_1: Size, size_2: Size, *, descriptors: bool = True
    ) -> tuple[PointMapPrediction, PointMapPrediction]:
        return self._view(one, size_1), self._view(two, size_2)

    def _view(self, tokens: Tensor, size: Size) -> PointMapPrediction:
        each = [self._maps(token[0].tolist(), size) for token in tokens]
        return PointMapPrediction(*(torch.stack(maps) for maps in zip(*each, strict=True)))

    def _maps(self, token: list[float], size: Size) -> list[Tensor]:
        x0, y0, photo, step = map(int, token)
        y, x = np.mgrid[: size[0], : size[1]]
        world = np.stack([x * step + x0, y * step + y0], axis=-1) + photo * SHIFT
        depth = NEAR + FAR * world[..., 0]
        rays = np.stack([x - size[1] / 2, y - size[0] / 2, np.full(x.shape, FOCAL)], axis=-1) / FOCAL
        points = np.dstack([world, depth + 0.3 * photo]) if self.in_one_frame else rays * depth[..., None]
        certain = np.full(x.shape, 4.0)
        maps = points, certain, TABLE[world[..., 1], world[..., 0]], certain
        return [torch.tensor(each, dtype=torch.float32) for each in maps]


def unit(raw: NDArray[np.float64]) -> NDArray[np.float64]:
    return raw / np.linalg.norm(raw, axis=-1, keepdims=True)


TABLE = unit(np.random.default_rng(0).standard_normal((HEIGHT + 64, WIDTH + 64, 16)))


def coded(photo: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x, y, np.full(x.shape, photo)], axis=-1).astype(np.uint8)


def coarse_tokens(photo: int, encoder: str) -> Tokens:
    """An image of every second pixel."""
    values = np.tile(np.array([0, 0, photo, 2], np.float32), (3, 4, 1))
    return Tokens(values, 16, (0.5, 0.5), (2.0, 2.0), encoder)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"known")
    return file


@pytest.fixture
def knowing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mast3r, "load_shared_network", lambda *_, compiled: Knowing(in_one_frame=False))
    monkeypatch.setattr(dust3r, "load_shared_network", lambda *_, compiled: Knowing(in_one_frame=True))


def photos_of(folder: Path, **options: Any) -> Sides[Photo]:
    (folder / "photos").mkdir()
    for photo in (0, 1):
        Image.fromarray(coded(photo)).save(folder / "photos" / f"{photo}.png")
    return Sides(*scan(folder / "photos", **options).photos)


def match(stage: Any, photos: Sides[Photo]) -> PairMatches:
    tokens = Sides(*(coarse_tokens(photo, content_hash(stage.weights)) for photo in (0, 1)))
    found: PairMatches = stage(tokens, photos, CPU)
    return found


def right(found: PairMatches) -> NDArray[np.bool_]:
    """A few pixels that only one photo shows are always some other's nearest, and the other way round."""
    return np.asarray((found.xy_a - found.xy_b == SHIFT).all(axis=1))


@pytest.mark.parametrize("stage", [mast3r.Mast3rMatcher, dust3r.Dust3rMatcher])
def test_matches_lie_where_they_should(knowing: None, weights: Path, tmp_path: Path, stage: Any) -> None:
    found = match(stage(weights=weights, seed_px=4), photos_of(tmp_path))
    assert len(found.weight) > 100
    assert right(found).mean() > 0.95
    np.testing.assert_allclose(found.xy_a % 2, 0.5)  # centres of every second pixel
    np.testing.assert_allclose(found.weight, 0.8)
    offset = 0.3 if stage is dust3r.Dust3rMatcher else 0.0
    for xy, depth, photo in ((found.xy_a, found.depth_a, 0), (found.xy_b, found.depth_b, 1)):
        truth = NEAR + FAR * (xy[:, 0] - 0.5 + photo * SHIFT[0]) + photo * offset
        np.testing.assert_allclose(depth, truth, rtol=1e-6)


def test_grids_know_depth_and_focal_length(knowing: None, weights: Path, tmp_path: Path) -> None:
    found = match(mast3r.Mast3rMatcher(weights=weights), photos_of(tmp_path))
    assert found.grids is not None
    for grid in found.grids:
        assert grid.depth.shape == (6, 8)
        assert grid.origin_px == (8.5, 8.5)
        assert grid.step_px == (16.0, 16.0)
        assert grid.focal_px == pytest.approx(2 * FOCAL, rel=1e-4)
    x = found.grids[0].origin_px[0] + found.grids[0].step_px[0] * np.arange(8)
    np.testing.assert_allclose(found.grids[0].depth[2], NEAR + FAR * (x - 0.5), rtol=1e-6)


def test_windows_find_what_lies_between_coarse_pixels(knowing: None, weights: Path, tmp_path: Path) -> None:
    found = match(mast3r.Mast3rMatcher(weights=weights, seed_px=4, max_side_px=WIDTH), photos_of(tmp_path))
    assert right(found).mean() > 0.95
    coarse = match(mast3r.Mast3rMatcher(weights=weights, seed_px=4), Sides(*scan(tmp_path / "photos").photos))
    assert len(found.weight) > 2 * len(coarse.weight)
    xy_a = found.xy_a[right(found)]
    assert len(np.unique(xy_a, axis=0)) == len(xy_a)  # although windows overlap
    assert np.ptp(xy_a, axis=0) == pytest.approx((WIDTH - SHIFT[0], HEIGHT - SHIFT[1]), abs=16)
    # Depth comes from the coarse image: that of its nearest pixel, one pixel away at most.
    np.testing.assert_allclose(found.depth_a, NEAR + FAR * (found.xy_a[:, 0] - 0.5), atol=FAR + 1e-6)


def test_no_windows_for_small_photos(knowing: None, weights: Path, tmp_path: Path) -> None:
    photos = photos_of(tmp_path)
    small, coarse = (match(mast3r.Mast3rMatcher(weights=weights, max_side_px=side), photos) for side in (64, None))
    np.testing.assert_array_equal(small.xy_a, coarse.xy_a)


def test_masks_hide_matches_and_depth(knowing: None, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:, : WIDTH // 2] = 0
    Image.fromarray(mask).save(tmp_path / "masks" / "0.png")
    found = match(mast3r.Mast3rMatcher(weights=weights), photos_of(tmp_path, masks=tmp_path / "masks"))
    assert len(found.weight) > 20
    assert (found.xy_a[:, 0] > WIDTH / 2).all()
    assert found.grids is not None
    assert np.isnan(found.grids[0].depth[:, :4]).all()
    assert np.isfinite(found.grids[0].depth[:, 4:]).all()
    assert np.isfinite(found.grids[1].depth).all()


def test_points_far_from_each_other_do_not_match(knowing: None, weights: Path, tmp_path: Path) -> None:
    photos = photos_of(tmp_path)
    none, some, all_ = (
        len(match(dust3r.Dust3rMatcher(weights=weights, max_gap=gap), photos).weight) for gap in (1e-3, 5e-3, 1)
    )
    assert none == 0 < some < all_  # the gap is the same everywhere, the depth is not


def test_tokens_of_other_weights_are_refused(knowing: None, weights: Path, tmp_path: Path) -> None:
    strangers = Sides(coarse_tokens(0, "other"), coarse_tokens(1, "other"))
    with pytest.raises(ConfigError, match="come from other weights than"):
        mast3r.Mast3rMatcher(weights=weights)(strangers, photos_of(tmp_path), CPU)


def test_weights_of_matches_are_bounded() -> None:
    confidence = np.array([0.0, 1e-9, 1.0, 9.0, np.inf, np.nan], np.float32)
    np.testing.assert_allclose(bounded_weight(confidence), [1e-6, 1e-6, 0.5, 0.9, 1.0, 1e-6])


# The smallest network of the published resize_and_crop


def tokens_of(photo: Photo, weights: Path) -> Tokens:
    net = load_network(weights)
    image, frame = fit_image(read_rgb(photo), net.config.image_px)
    values = net.encode(image_batch([image]))[0].numpy().reshape(frame.size[0] // 16, frame.size[1] // 16, -1)
    return Tokens(values, 16, frame.origin_px, frame.step_px, content_hash(weights))


def same(a: PairMatches, b: PairMatches) -> bool:
    names = ("xy_a", "xy_b", "weight", "depth_a", "depth_b")
    return all(np.allclose(getattr(a, name), getattr(b, name), rtol=1e-3) for name in names)


def test_batches_of_mixed_sizes_give_what_single_pairs_give(reference: Callable[[str], Path], tmp_path: Path) -> None:
    file = reference("fixtures/tiny_mast3r.pth")
    random = np.random.default_rng(0)
    names = []
    for i, (width, height) in enumerate([(80, 60), (80, 60), (60, 80), (128, 64)]):
        small = Image.fromarray(random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
        names.append(tmp_path / f"{i}.png")
        small.resize((width, height)).save(names[-1])
    photos = single_photos(*names).photos
    tokens = [tokens_of(photo, file) for photo in photos]
    items = [
        (Sides(tokens[a], tokens[b]), Sides(photos[a], photos[b])) for a, b in ((0, 1), (0, 2), (1, 3), (1, 0), (2, 3))
    ]
    stage = mast3r.Mast3rMatcher(weights=file, seed_px=4)
    together = stage.batch(items, CPU)
    assert all(len(each.weight) > 10 for each in together)
    for item, found in zip(items, together, strict=True):
        assert same(found, stage(*item, CPU))
    # Which photo comes first does not matter.
    forth, back = together[0], together[3]
    ways = np.hstack([forth.xy_a, forth.xy_b]), np.hstack([back.xy_b, back.xy_a])
    np.testing.assert_allclose(*(np.unique(way, axis=0) for way in ways))


def test_a_network_without_descriptors_is_told_apart(reference: Callable[[str], Path], tmp_path: Path) -> None:
    file = reference("fixtures/tiny_dust3r.pth")
    photos = photos_of(tmp_path)
    tokens = Sides(*(tokens_of(photo, file) for photo in photos))
    with pytest.raises(ConfigError, match="without descriptors: match with dust3r"):
        mast3r.Mast3rMatcher(weights=file)(tokens, photos, CPU)
    found = dust3r.Dust3rMatcher(weights=file, seed_px=2, max_gap=10.0)(tokens, photos, CPU)
    assert len(found.weight) > 10


def test_a_pair_of_full_size_stays_small_in_the_store() -> None:
    """As many matches as four runs of 3072 seeds can give, and two grids of 64 x 48."""
    random = np.random.default_rng(0)
    m = 4 * 3072
    plane, depth = random.uniform(0, 512, (2, m, 2)).astype(np.float32), random.random((3, m), np.float32)
    grid = DepthGrid((4.5, 4.5), (8.0, 8.0), depth[0, :3072].reshape(48, 64), depth[1, :3072].reshape(48, 64), 400.0)
    kept = PairMatches(plane[0], plane[1], depth[0], depth_a=depth[1], depth_b=depth[2], grids=(grid, grid))
    assert len(encode(kept)) < 600_000
