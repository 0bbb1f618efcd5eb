"""LightGlue and LoFTR with weights made at random: files as they are published, shapes, indices and coordinates. That
the published weights match well is not seen here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import kornia.feature
import numpy as np
import pytest
import torch
from kornia.feature.loftr.loftr import default_cfg
from numpy.typing import NDArray
from PIL import Image

from unposed.pipeline.artifacts import Features, Photo
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.images.photos import scan
from unposed.pipeline.stage import Resources, Sides, StageError
from unposed.plugins.matching.lightglue import LightGlue
from unposed.plugins.matching.loftr import Loftr

CPU = Resources("cpu", 1, 1 << 30, 0)
HALF_PX = 0.5


def texture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Noise of eight-pixel grain and finer."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8))
    fine = random.integers(0, 256, (height, width, 3))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), float)
    return np.asarray(0.7 * smooth + 0.3 * fine, np.uint8)


def photos_of(folder: Path, *pixels: NDArray[np.uint8], **options: Any) -> Sides[Photo]:
    folder.mkdir(parents=True)
    for number, each in enumerate(pixels):
        Image.fromarray(each).save(folder / f"{number}.png")
    return Sides(*scan(folder, **options).photos)


def features_of(photo: Photo, count: int, length: int, seed: int) -> Features:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, length))
    return Features(
        xy=(random.uniform(0.5, 1.0, (count, 2)) * (photo.width - 1, photo.height - 1)).astype(np.float32),
        scale=np.ones(count, np.float32),
        descriptors=(rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16),
        rgb=np.zeros((count, 3), np.uint8),
        score=np.ones(count, np.float32),
    )


@pytest.fixture
def photos(tmp_path: Path) -> Sides[Photo]:
    """Two photos of unequal size."""
    return photos_of(tmp_path / "photos", texture(64, 96), texture(80, 72, 1))


def as_published(net: Any, kind: str) -> dict[str, torch.Tensor]:
    """LightGlue's file has the names of an earlier version, no buffers, and in one case a prefix and more than that."""
    state = {}
    for name, value in net.state_dict().items():
        if name.startswith("transformers."):
            _, layer, block, rest = name.split(".", 3)
            name = f"{block}.{layer}.{rest}"
        if name != "confidence_thresholds":
            state[f"matcher.{name}" if kind == "xfeat" else name] = value
    return {**state, "extractor.something": torch.zeros(1)} if kind == "xfeat" else state


@pytest.mark.parametrize("kind", ["aliked", "disk", "xfeat"])
def test_lightglue_is_given_what_kornia_wants(kind: str, photos: Sides[Photo], tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = {**kornia.feature.LightGlue.features[kind], "weights": None, "filter_threshold": 0.0}
    net: Any = kornia.feature.LightGlue(None, **settings).eval()
    torch.save(as_published(net, kind), tmp_path / "glue.pth")
    length = settings["input_dim"]
    features = Sides(features_of(photos.a, 70, length, 0), features_of(photos.b, 50, length, 1))
    stage: Any = LightGlue(trained_for=kind, weights=tmp_path / "glue.pth", min_score=0.0)  # type: ignore[arg-type]
    found = stage(features, photos, CPU)

    def side(points: Features, photo: Photo) -> dict[str, torch.Tensor]:
        return {
            "keypoints": torch.from_numpy(points.xy)[None] - HALF_PX,
            "descriptors": torch.from_numpy(points.descriptors.astype(np.float32))[None],
            "image_size": torch.tensor([[photo.width, photo.height]]),
        }

    with torch.inference_mode():
        wanted = net({"image0": side(features.a, photos.a), "image1": side(features.b, photos.b)})
    pairs = wanted["matches"][0].numpy()
    assert len(pairs) > 5
    assert {(a, b) for a, b in pairs.tolist()} == set(zip(found.index_a.tolist(), found.index_b.tolist(), strict=True))
    assert np.array_equal(found.xy_a, features.a.xy[found.index_a])
    assert np.array_equal(found.xy_b, features.b.xy[found.index_b])
    assert np.allclose(np.sort(found.weight), np.sort(wanted["scores"][0].numpy()), rtol=0.05)
    nothing = features_of(photos.b, 0, length, 1)
    assert len(stage(Sides(features.a, nothing), photos, CPU).weight) == 0
    with pytest.raises(StageError, match=rf"have 5 entries, those of {kind} {length}: set trained_for"):
        stage(Sides(features_of(photos.a, 9, 5, 0), features.b), photos, CPU)


def test_lightglue_turns_the_second_photo_to_where_it_looks_like_the_first(
    photos: Sides[Photo], tmp_path: Path
) -> None:
    """Of four descriptors of each key point, by quarter turns, the third ones are those of the first photo."""
    torch.manual_seed(0)
    settings = {**kornia.feature.LightGlue.features["xfeat"], "weights": None}
    torch.save(as_published(kornia.feature.LightGlue(None, **settings), "xfeat"), tmp_path / "glue.pth")
    stage = LightGlue(trained_for="xfeat", weights=tmp_path / "glue.pth", min_score=0.0)
    shown, rolled = features_of(photos.a, 60, 64, 0), features_of(photos.b, 60, 256, 1)
    columns = rolled.descriptors.copy()
    columns[:, 128:192] = shown.descriptors
    found = stage(Sides(shown, replace(rolled, descriptors=columns)), photos, CPU)
    upside_down = replace(
        rolled, xy=np.float32([photos.b.width, photos.b.height]) - rolled.xy, descriptors=shown.descriptors
    )
    wanted = stage(Sides(shown, upside_down), photos, CPU)
    assert len(wanted.weight) > 5
    assert np.array_equal(found.index_a, wanted.index_a) and np.array_equal(found.index_b, wanted.index_b)
    assert found.index_b is not None and np.array_equal(found.xy_b, rolled.xy[found.index_b])


def test_lightglue_of_other_features_is_refused(photos: Sides[Photo], tmp_path: Path) -> None:
    settings = {**kornia.feature.LightGlue.features["xfeat"], "weights": None}
    torch.save(as_published(kornia.feature.LightGlue(None, **settings), "xfeat"), tmp_path / "glue.pth")
    features = Sides(features_of(photos.a, 9, 128, 0), features_of(photos.b, 9, 128, 1))
    with pytest.raises(ConfigError, match=r"glue\.pth: weights of another network than LightGlue: it lacks"):
        LightGlue(weights=tmp_path / "glue.pth")(features, photos, CPU)


@pytest.fixture(scope="module")
def loftr(tmp_path_factory: pytest.TempPathFactory) -> Loftr:
    """Parameters at random, but with transformers that change nothing and features that outdo the encoded position: it
    matches what looks alike."""
    torch.manual_seed(0)
    net = kornia.feature.LoFTR(None, default_cfg)
    with torch.no_grad():
        for name, value in net.named_parameters():
            if ".norm2." in name:
                value.zero_()
        net.backbone.layer3_outconv.weight.mul_(30)
    file = tmp_path_factory.mktemp("loftr") / "loftr.ckpt"
    torch.save({"state_dict": {f"matcher.{name}": value for name, value in net.state_dict().items()}}, file)
    return Loftr(weights=file, min_score=0.0, max_side_px=160)


def test_loftr_is_kornias_in_the_photos_own_pixels(loftr: Loftr, tmp_path: Path) -> None:
    """Both images are cut to whole cells by the network's door, and enlarged again behind it."""
    pixels = texture(96, 160)
    slightly_larger = Image.fromarray(pixels[:, :128]).resize((131, 101), Image.Resampling.BICUBIC)
    photos = photos_of(tmp_path / "photos", pixels, np.asarray(slightly_larger))
    found = loftr(photos, CPU)
    assert found.index_a is None and found.index_b is None
    assert len(found.weight) > 10 and np.all((found.weight > 0) & (found.weight <= 1))
    assert found.xy_a.dtype == found.xy_b.dtype == np.float32
    factor = np.array([131 / 128, 101 / 96])
    cells = found.xy_a / 8
    assert np.allclose(cells, np.rint(cells), atol=1e-4)
    offset = found.xy_b / factor / 8 - np.rint(found.xy_b / factor / 8)
    assert np.abs(offset).max() <= 0.5 and np.abs(offset).max() > 0.01


def test_loftr_of_a_shifted_image(loftr: Loftr, tmp_path: Path) -> None:
    """The second photo shows what the first does, two cells further left: so say most matches, whatever the photo's
    size. How far within a cell is up to the fine features, which are random."""
    for factor in (1, 2):
        wide = texture(128 * factor, 176 * factor)
        photos = photos_of(tmp_path / str(factor), wide[:, : 160 * factor], wide[:, 16 * factor :])
        found = loftr(photos, CPU)
        shift = (found.xy_a - found.xy_b)[found.weight >= np.median(found.weight)]
        assert np.abs(np.median(shift, axis=0) - (16 * factor, 0)).max() < 4 * factor


def test_loftr_sees_no_masked_part(loftr: Loftr, tmp_path: Path) -> None:
    pixels, mask = texture(96, 160), np.full((96, 160), 255, np.uint8)
    mask[:, :80] = 0
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks/1.png")
    photos = photos_of(tmp_path / "photos", pixels, pixels, masks=tmp_path / "masks")
    everything = loftr(Sides(photos.a, photos.a), CPU)
    shown = loftr(photos, CPU)
    assert 0 < len(shown.weight) < len(everything.weight)
    assert shown.xy_b[:, 0].min() >= 80 > everything.xy_b[:, 0].min()


def test_loftr_does_not_depend_on_what_was_matched_before(loftr: Loftr, tmp_path: Path) -> None:
    photos = photos_of(tmp_path / "photos", texture(96, 160), texture(96, 128, 1))
    fresh = replace(loftr, max_side_px=128)(photos, CPU)
    again = replace(loftr, max_side_px=128)(photos, CPU)
    other_way = replace(loftr, max_side_px=128)(Sides(photos.b, photos.a), CPU)
    assert np.array_equal(fresh.xy_b, again.xy_b) and np.array_equal(fresh.weight, again.weight)
    assert np.allclose(np.sort(fresh.weight), np.sort(other_way.weight), rtol=1e-3)


def test_a_file_that_is_no_loftr(tmp_path: Path) -> None:
    torch.save({"state_dict": {"matcher.a": torch.zeros(1)}}, tmp_path / "l.ckpt")
    photos = photos_of(tmp_path / "photos", texture(96, 160), texture(96, 160, 1))
    with pytest.raises(ConfigError, match="weights of another network than LoFTR: it lacks"):
        Loftr(weights=tmp_path / "l.ckpt")(photos, CPU)
