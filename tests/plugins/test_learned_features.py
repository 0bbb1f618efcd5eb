"""Learned key points. Most of it with weights made at random, which tell whether everything is at its place; what
published weights find in real images is seen where they are at hand."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import kornia.feature
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import unposed
from unposed.networks.aliked import detect
from unposed.networks.quarter_turns import turned_positions
from unposed.optim.pair.matching import mutual_nearest, unit_rows
from unposed.pipeline.artifacts import Features, Photo
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.images.photos import scan
from unposed.pipeline.images.pixels import read_rgb
from unposed.pipeline.stage import Resources
from unposed.plugins.features.aliked import Aliked
from unposed.plugins.features.disk import Disk
from unposed.plugins.features.xfeat import XFeat

CPU = Resources("cpu", 1, 1 << 30, 0)
PUBLISHED = Path(os.environ.get("UNPOSED_WEIGHTS", Path(__file__).parents[3] / "shared/weights"))


def at_random(net: nn.Module, seed: int = 0) -> nn.Module:
    """Parameters as they are made, statistics of the batch norms as no training would have left them."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, low in (("weight", 0.5), ("bias", -0.2), ("running_mean", -0.2), ("running_var", 0.5)):
                if getattr(module, name) is not None:
                    getattr(module, name).data.uniform_(low, low + 1.0, generator=generator)
    return net.eval()


@dataclass(frozen=True)
class Kind:
    """An extractor, the network below it, and how its file is laid out."""

    stage: type[Any]
    make: Callable[[], nn.Module]
    layout: Callable[[nn.Module], Any]
    reference: Callable[[nn.Module, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    """(xy, descriptors) of an image, as kornia has them."""
    length: int


def _aliked(net: Any, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    found = net(image)[0]
    return found.keypoints, found.descriptors


def _disk(net: Any, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    found = net(image, pad_if_not_divisible=True)[0]
    return found.keypoints, found.descriptors


def _xfeat(net: Any, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    found = net.detectAndCompute(image, top_k=4096, detection_threshold=0.0)[0]
    return found["keypoints"], found["descriptors"]


KINDS = {
    "aliked": Kind(Aliked, lambda: kornia.feature.ALIKED("aliked-n16rot"), nn.Module.state_dict, _aliked, 128),
    "disk": Kind(Disk, kornia.feature.DISK, lambda net: {"extractor": net.state_dict()}, _disk, 128),
    "xfeat": Kind(XFeat, kornia.feature.XFeat, lambda net: net.net.state_dict(), _xfeat, 64),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each extractor in turn."""
    return KINDS[request.param]


@pytest.fixture
def net(kind: Kind) -> nn.Module:
    """Its network, with parameters made at random."""
    torch.manual_seed(0)
    return at_random(kind.make())


@pytest.fixture
def stage(kind: Kind, net: nn.Module, tmp_path: Path) -> Any:
    """The extractor with a file of these parameters. It takes whatever is a maximum for a key point."""
    torch.save(kind.layout(net), tmp_path / "weights.pth")
    return kind.stage(weights=tmp_path / "weights.pth", min_score=0.0)


def texture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Noise at several scales."""
    random, total = np.random.default_rng(seed), np.zeros((height, width, 3))
    for cells in (5, 20, 60):
        coarse = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), float)
    return np.asarray(total / 3, np.uint8)


def photo_of(folder: Path, pixels: NDArray[np.uint8], name: str = "a.png", **options: Any) -> Photo:
    folder.mkdir(exist_ok=True, parents=True)
    Image.fromarray(pixels).save(folder / name)
    Image.new("L", (32, 32)).save(folder / "zz.png")
    found = scan(folder, **options)
    return next(photo for photo in found.photos if photo.name == name)


def tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def test_what_kornia_finds_in_the_photos_own_pixels(kind: Kind, net: nn.Module, stage: Any, tmp_path: Path) -> None:
    """Pixel (0, 0) of kornia's coordinates has its centre at (0.5, 0.5), and a reduced photo is enlarged again."""
    for factor in (1, 3):
        photo = photo_of(tmp_path / str(factor), texture(96 * factor, 128 * factor))
        seen = read_rgb(photo, 128)
        xy, descriptors = (part.detach().numpy() for part in kind.reference(net, tensor(seen)))
        found: Features = replace(stage, max_side_px=128)(photo, CPU)
        assert len(found.xy) == len(xy) > 10
        distance = np.linalg.norm(found.xy[:, None] / factor - (xy[None] + 0.5), axis=2)
        assert distance.min(axis=1).max() < 1e-3
        assert np.abs(descriptors[distance.argmin(axis=1)] - found.descriptors.astype(np.float32)).max() < 2e-3
        assert found.descriptors.dtype == np.float16 and found.descriptors.shape[1] == kind.length
        assert np.all(np.diff(found.score) <= 0) and np.allclose(found.scale, 2.5 * factor)
        at = np.floor(found.xy / factor).astype(int)
        assert np.mean(found.rgb == seen[at[:, 1], at[:, 0]]) > 0.99  # but for points on the edge of a pixel


def test_a_shifted_image_has_its_points_shifted(stage: Any, tmp_path: Path) -> None:
    """By the step of the coarsest level, so that all levels see the same."""
    wide = texture(160, 288)
    near, far = (stage(photo_of(tmp_path / str(x), wide[:, x : x + 256]), CPU).xy for x in (0, 32))
    inner = near[(near[:, 0] > 32 + 48) & (near[:, 0] < 256 - 48)] - (32, 0)
    nearest = np.linalg.norm(inner[:, None] - far[None], axis=2).min(axis=1)
    assert len(inner) > 20
    assert np.median(nearest) < 0.02


def test_the_best_of_what_the_mask_shows(stage: Any, tmp_path: Path) -> None:
    pixels, mask = texture(96, 128), np.zeros((96, 128), np.uint8)
    mask[:, 40:90] = 255
    everything = stage(photo_of(tmp_path / "plain", pixels), CPU)
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks/a.png")
    photo = photo_of(tmp_path / "plain", pixels, masks=tmp_path / "masks")
    shown = stage(photo, CPU)
    inside = (everything.xy[:, 0] >= 40) & (everything.xy[:, 0] < 90)
    assert 16 < inside.sum() < len(inside)
    assert np.array_equal(shown.xy, everything.xy[inside])
    few = replace(stage, max_keypoints=16)(photo, CPU)
    assert np.array_equal(few.xy, shown.xy[:16])


@pytest.mark.parametrize("turns", range(4))
def test_positions_turn_as_pixels_do(turns: int) -> None:
    image = torch.arange(15).reshape(3, 5)
    turned = torch.rot90(image, turns)
    y, x = torch.meshgrid(torch.arange(3), torch.arange(5), indexing="ij")
    at = turned_positions(torch.stack([x.ravel(), y.ravel()], dim=1), (5, 3), turns)
    assert torch.equal(turned[at[:, 1], at[:, 0]], image.ravel())


@pytest.mark.skipif(not (PUBLISHED / "xfeat.pt").is_file(), reason="needs published weights: set UNPOSED_WEIGHTS")
def test_rolled_xfeat_recognises_a_photo_that_lies_on_its_side(yard: Any, tmp_path: Path) -> None:
    pixels = read_rgb(scan(yard.images).photos[0], 640)
    upright = photo_of(tmp_path / "upright", pixels)
    on_its_side = photo_of(tmp_path / "side", np.rot90(pixels))
    stage = XFeat(weights=PUBLISHED / "xfeat.pt", rolled=True)
    one, other = stage(upright, CPU), stage(on_its_side, CPU)
    assert one.descriptors.shape[1] == 256 and stage(upright, CPU, wanted=False).descriptors.shape == (0, 256)
    matches = [
        len(mutual_nearest(unit_rows(one.descriptors[:, :64]), unit_rows(other.descriptors[:, k : k + 64])).index_a)
        for k in range(0, 256, 64)
    ]
    assert max(matches) == matches[3] > 5 * sorted(matches)[2]


def test_a_batch_is_its_photos(stage: Any, tmp_path: Path) -> None:
    sizes = [(96, 128), (64, 96), (96, 128)]
    photos = [photo_of(tmp_path / "all", texture(*size, seed), f"{seed}.png") for seed, size in enumerate(sizes)]
    together = stage.batch([(photo, True) for photo in photos], CPU)
    for photo, each in zip(photos, together, strict=True):
        alone = stage(photo, CPU)
        assert np.array_equal(alone.xy[:5], each.xy[:5]) or np.allclose(alone.xy[:5], each.xy[:5], atol=1e-3)
        assert len(alone.xy) == len(each.xy)


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (320, 16), (20, 400)])
def test_odd_photos(stage: Any, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.fromarray(texture(*size)).save(tmp_path / "odd.png")
    found = stage(Photo("odd.png", tmp_path / "odd.png", "", size[1], size[0]), CPU)
    assert len(found.xy) == len(found.score) == len(found.descriptors) == len(found.rgb)
    assert np.isfinite(found.xy).all() and np.all(found.xy >= 0) and np.all(found.xy <= (size[1], size[0]))


def test_files_that_are_no_such_weights(kind: Kind, net: nn.Module, tmp_path: Path) -> None:
    photo, file = photo_of(tmp_path / "photos", texture(48, 64)), tmp_path / "w.pth"
    state = dict(kind.layout(net))
    parameters = state.get("extractor", state)
    name = next(name for name, value in parameters.items() if value.ndim == 4)

    def complaint(content: Any) -> str:
        torch.save(content, file)
        with pytest.raises(ConfigError) as caught:
            kind.stage(weights=file)(photo, CPU)
        assert "\n" not in str(caught.value) and str(file) in str(caught.value)
        return str(caught.value)

    lacking = {key: value for key, value in parameters.items() if key != name}
    assert f"it lacks {name}" in complaint(lacking)
    assert "it has another.part" in complaint({**parameters, "another.part": torch.zeros(1)})
    assert f"{name} is [1, 2] and not [" in complaint({**parameters, name: torch.zeros(1, 2)})
    assert "holds no weights by name" in complaint([1, 2])
    assert "cannot be read as weights" in complaint({"evil": print})
    torch.save(state, file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="cannot be read as weights, it may be incomplete"):
        kind.stage(weights=file)(photo, CPU)


@torch.no_grad()
@pytest.mark.parametrize("size", [(97, 131), (64, 96), (33, 200)])
@pytest.mark.parametrize("model", ["aliked-n16rot", "aliked-n32"])
def test_our_aliked_is_kornias(model: str, size: tuple[int, int]) -> None:
    """Key points to 1e-3 px, scores and descriptors to 1e-4; where float32 sums in another order leave that much."""
    torch.manual_seed(1)
    net: Any = at_random(kornia.feature.ALIKED(model, max_num_keypoints=300))
    net.score_head[-1].weight *= 20  # scores that differ, so that rounding does not decide which are the best
    images = torch.cat([tensor(texture(*size, seed)) for seed in (0, 1)])
    ours = detect(net, images, 300, 0.2)
    with torch.inference_mode():
        theirs = net(images)
    for mine, other in zip(ours, theirs, strict=True):
        assert len(mine.xy) == other.n > 50
        assert_same(mine, other)


def assert_same(mine: Any, other: Any, share: float = 1.0) -> None:
    """The same key points, in whatever order; a share of them where the least score decides who is in."""
    distance = torch.cdist(mine.xy.double(), other.keypoints.double())
    row = distance.argmin(dim=1)
    same = distance.min(dim=1).values < 1e-3
    assert same.float().mean() >= share
    assert (mine.score - other.keypoint_scores[row])[same].abs().max() < 1e-4
    assert (mine.descriptors - other.descriptors[row])[same].abs().max() < 1e-4


@pytest.fixture(scope="module")
def published() -> Path:
    """Parameters as published: what networks find in images cannot be told from random ones."""
    if not (PUBLISHED / "aliked-n16rot.pth").exists():
        pytest.skip("needs aliked-n16rot.pth: set UNPOSED_WEIGHTS to the folder that has it")
    return PUBLISHED / "aliked-n16rot.pth"


def test_published_aliked_is_kornias(published: Path, yard: Any) -> None:
    net: Any = kornia.feature.ALIKED("aliked-n16rot", max_num_keypoints=1000).eval()
    net.load_state_dict(torch.load(published, weights_only=True), strict=False)
    image = tensor(np.asarray(Image.open(sorted(yard.images.glob("*"))[0])))
    with torch.inference_mode():
        assert_same(detect(net, image, 1000, 0.2)[0], net(image)[0], share=0.995)


def test_published_aliked_matches_the_next_photo(published: Path, yard: Any) -> None:
    photos = scan(yard.images).photos[:2]
    a, b = (Aliked(weights=published)(photo, CPU) for photo in photos)
    found = mutual_nearest(unit_rows(a.descriptors), unit_rows(b.descriptors), max_ratio=1.0, min_similarity=0.8)
    assert len(found.index_a) > 100


@pytest.mark.parametrize(("preset", "node"), [("aliked", "features"), ("sift-aliked", "aliked")])
def test_a_reconstruction_with_published_weights(
    published: Path, yard: Any, tmp_path: Path, preset: str, node: str
) -> None:
    made = unposed.reconstruct(
        yard.images,
        tmp_path / "out",
        preset=preset,
        settings={f"{node}.weights": str(published), f"{node}.max_keypoints": 1500},
        cache=tmp_path / "cache",
    )
    assert made.summary["registered"] == 12
    assert unposed.evaluate(tmp_path / "out", yard.truth).errors.auc[5] > 0.8
    used = made.summary["weights"][f"{node}.weights"]
    assert used == {"file": str(published), "sha256": hashlib.sha256(published.read_bytes()).hexdigest()}
