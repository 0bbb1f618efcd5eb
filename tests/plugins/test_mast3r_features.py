"""features.mast3r and its retrieval head: as published, and as stages."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from unposed.networks.errors import WeightsError
from unposed.networks.mast3r.checkpoint import load_network
from unposed.networks.mast3r.images import image_batch
from unposed.networks.mast3r.retrieval_head import RetrievalHead, build_retrieval_head, load_retrieval_head
from unposed.pipeline.artifacts import Features, Photo, Tokens
from unposed.pipeline.images.photos import single_photos
from unposed.pipeline.stage import Resources, StageError
from unposed.pipeline.store.codec import decode, encode
from unposed.pipeline.store.content import content_hash
from unposed.plugins.features.mast3r import Mast3rRetrievalFeatures, Mast3rTokens
from unposed.plugins.retrieval.unpickle import read_arrays

Arrays = dict[str, NDArray[Any]]
CPU = Resources(device="cpu", threads=1, ram_bytes=1 << 31, vram_bytes=0)
SETTINGS: dict[str, dict[str, Any]] = {
    "prewhiten": {"nfeat": 7},
    "projector": {"nfeat": -0.5, "residual": True, "hdims": "40_32"},
}


@pytest.fixture(scope="module")
def tiny(reference: Callable[[str], Path]) -> Path:
    return reference("fixtures/tiny_mast3r.pth")


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., list[Photo]]:
    """photos((width, height), ...) of smooth noise."""

    def make(*sizes: tuple[int, int]) -> list[Photo]:
        files = [tmp_path / f"{number}.png" for number in range(len(sizes))]
        for number, (file, size) in enumerate(zip(files, sizes, strict=True)):
            noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(file)
        return list(single_photos(*files).photos)

    return make


@pytest.mark.parametrize("case", SETTINGS)
@pytest.mark.parametrize("name", ["a", "wide"])
def test_retrieval_features_are_the_published_ones(
    reference: Callable[[str], Any], tiny: Path, case: str, name: str
) -> None:
    published = reference("fixtures/retrieval_features.safetensors")
    start = f"{case}.weights."
    state = {key[len(start) :]: torch.tensor(value) for key, value in published.items() if key.startswith(start)}
    head = build_retrieval_head(state, SETTINGS[case], Path(case))
    image = reference("fixtures/net_images.safetensors")[name]
    tokens = load_network(tiny).encode(image_batch([image.copy()]))[0]

    vectors, attention = head.all_features(tokens)
    best = head(tokens)
    for key, found in (
        ("feat", vectors),
        ("attn", attention),
        ("top_feat", best.vectors),
        ("top_attn", best.attention),
    ):
        reached = float(np.abs(found.numpy() - published[f"{case}.{name}.{key}"][0]).max())
        print(f"{case}.{name}.{key}: {reached:.1e}")
        assert reached < 2e-5
    np.testing.assert_array_equal(best.token.numpy(), published[f"{case}.{name}.top_idx"][0])


def test_retrieval_files_as_published(reference: Callable[[str], Any]) -> None:
    head = load_retrieval_head(reference("fixtures/tiny_retrieval_trainingfree.pth"))
    assert (head.width, head.features, head.residual, head.layers, head.after) == (32, 7, False, (), None)
    codebook = read_arrays(reference("fixtures/tiny_retrieval_codebook.pkl"))
    assert codebook["state"]["centroids"].shape == (codebook["params"]["size"], head.width)


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ({"prewhiten.m": torch.zeros(1, 4)}, {}, r"it lacks prewhiten\.p"),
        ({}, {}, "no weights by name"),
        ({"conv.weight": torch.zeros(1)}, {}, r"no retrieval head: it has conv\.weight"),
        ({"prewhiten.m": torch.zeros(1, 4)}, {"featweights": "conv"}, "weighs features by 'conv'"),
    ],
)
def test_files_that_are_no_retrieval_head(
    tmp_path: Path, model: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    torch.save({"args": argparse.Namespace(**settings), "model": model}, tmp_path / "head.pth")
    with pytest.raises(WeightsError, match=message):
        load_retrieval_head(tmp_path / "head.pth")


def test_tokens_of_photos(tiny: Path, photos: Callable[..., list[Photo]]) -> None:
    """Of any size and shape, together or alone, they are what the network makes of the image."""
    items = photos((128, 96), (96, 128), (300, 200), (90, 90), (300, 80), (128, 96))
    stage = Mast3rTokens(weights=tiny, keep="float32")
    found = stage.batch([(photo,) for photo in items], CPU)
    assert [each.values.shape[:2] for each in found] == [(3, 4), (4, 3), (2, 4), (3, 4), (1, 4), (3, 4)]
    assert all(each.encoder == content_hash(tiny) and each.patch_px == 16 for each in found)
    for photo, each in zip(items, found, strict=True):
        np.testing.assert_allclose(stage(photo, CPU).values, each.values, atol=2e-5)
    assert found[0].step_px == (2.0, 2.0) and found[0].origin_px == (1.0, 1.0)
    assert not np.allclose(found[0].values, found[5].values)


def test_tokens_are_stored_in_half_the_room(tiny: Path, photos: Callable[..., list[Photo]]) -> None:
    (photo,) = photos((128, 96))
    exact, kept = (Mast3rTokens(weights=tiny, keep=keep)(photo, CPU) for keep in ("float32", "float16"))
    assert kept.values.dtype == np.float16 and exact.values.dtype == np.float32
    np.testing.assert_allclose(kept.values, exact.values, rtol=1e-3, atol=1e-4)
    again = decode(encode(kept), Tokens)
    assert again.values.dtype == np.float16 and np.array_equal(again.values, kept.values)
    assert (again.origin_px, again.encoder) == (kept.origin_px, kept.encoder)


def test_other_sizes_than_trained_on(tiny: Path, photos: Callable[..., list[Photo]]) -> None:
    (photo,) = photos((200, 200))
    assert Mast3rTokens(weights=tiny, size_px=128)(photo, CPU).values.shape == (6, 8, 32)
    assert Mast3rTokens(weights=tiny, size_px=224)(photo, CPU).values.shape == (14, 14, 32)
    with pytest.raises(ValueError, match="multiple of 64, got 500"):
        Mast3rTokens(size_px=500)


def test_retrieval_features_of_a_photo(
    reference: Callable[[str], Path], tiny: Path, photos: Callable[..., list[Photo]]
) -> None:
    (photo,) = photos((128, 96))
    tokens = Mast3rTokens(weights=tiny)(photo, CPU)
    stage = Mast3rRetrievalFeatures(weights=reference("fixtures/tiny_retrieval_trainingfree.pth"))
    features: Features = stage(tokens, photo, CPU)
    assert features.descriptors.shape == (7, 32) and features.descriptors.dtype == np.float32
    assert (np.diff(features.score) <= 0).all()
    grid = np.stack(np.meshgrid(np.arange(4) * 32 + 16, np.arange(3) * 32 + 16), axis=-1).reshape(-1, 2)
    assert {tuple(xy) for xy in features.xy.tolist()} <= {tuple(xy) for xy in grid.tolist()}
    assert len(replace(stage, max_keypoints=3)(tokens, photo, CPU).xy) == 3

    pixels = np.asarray(Image.open(photo.path))
    column, row = features.xy.astype(int).T
    np.testing.assert_array_equal(features.rgb, pixels[row, column])

    wider = replace(tokens, values=np.zeros((3, 4, 48), np.float32))
    with pytest.raises(StageError, match="tokens of 32 numbers, these have 48"):
        stage(wider, photo, CPU)


def test_a_head_without_whitening() -> None:
    identity = {"projector.0.weight": torch.eye(4), "projector.0.bias": torch.zeros(4)}
    head: RetrievalHead = build_retrieval_head(identity, {"nfeat": 2}, Path("head"))
    tokens = torch.tensor([[0.0, 1, 0, 0], [3, 0, 0, 0], [0, 0, 2, 0]])
    assert head(tokens).token.tolist() == [1, 2]
