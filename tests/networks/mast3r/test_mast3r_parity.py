"""The networks against the outputs of the published ones: tiny models, and the real architecture with made-up weights.

Tolerances are for float32 here against float32 there: errors of points and confidences relative, of tokens and unit
descriptors absolute. `pytest -rP` prints what was reached.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_networks import hashed
from torch import Tensor

from unposed.networks.dpt import BAND, in_bands
from unposed.networks.mast3r.checkpoint import build_network, load_network
from unposed.networks.mast3r.images import image_batch
from unposed.networks.mast3r.network import Mast3rNetwork, PointMapPrediction

Arrays = dict[str, NDArray[Any]]
TOLERANCE = 1e-4


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images(reference: Callable[[str], Arrays]) -> dict[str, Tensor]:
    published = reference("fixtures/net_images.safetensors")
    return {name: image_batch([image.copy()]) for name, image in published.items()}


@pytest.fixture(scope="module")
def outputs(reference: Callable[[str], Arrays]) -> Arrays:
    return reference("fixtures/tiny_mast3r_outputs.safetensors")


@pytest.fixture(scope="module")
def tiny(reference: Callable[[str], Path]) -> Mast3rNetwork:
    return load_network(reference("fixtures/tiny_mast3r.pth"))


def size_of(image: Tensor) -> tuple[int, int]:
    return image.shape[2], image.shape[3]


def through(view: PointMapPrediction, change: Callable[[Tensor], Tensor]) -> PointMapPrediction:
    assert view.desc is not None and view.desc_conf is not None
    return PointMapPrediction(change(view.pts3d), change(view.conf), change(view.desc), change(view.desc_conf))


def error(name: str, found: Tensor, wanted: NDArray[Any]) -> float:
    ours, theirs = found.double().numpy(), wanted.astype(np.float64)
    assert ours.shape == theirs.shape
    if name == "pts3d":
        return float((np.linalg.norm(ours - theirs, axis=-1) / np.linalg.norm(theirs, axis=-1)).max())
    if name in ("conf", "desc_conf"):
        return float((np.abs(ours - theirs) / np.abs(theirs)).max())
    return float(np.abs(ours - theirs).max())


def assert_views(views: Sequence[PointMapPrediction], published: Arrays, case: str) -> None:
    for number, view in enumerate(views, start=1):
        for name, values in view._asdict().items():
            if values is not None:
                reached = error(name, values, published[f"{case}view{number}.{name}"])
                print(f"{case}view{number}.{name}: {reached:.1e}")
                assert reached < TOLERANCE, name


@pytest.mark.parametrize(
    ("case", "first", "second"), [("land", "a", "b"), ("sizes", "a", "wide"), ("mixed", "tall", "a")]
)
def test_tokens_and_views_are_the_published_ones(
    tiny: Mast3rNetwork, images: dict[str, Tensor], outputs: Arrays, case: str, first: str, second: str
) -> None:
    one, two = tiny.encode(images[first]), tiny.encode(images[second])
    assert error("tokens", one, outputs[f"{case}.enc1"]) < TOLERANCE / 10
    assert error("tokens", two, outputs[f"{case}.enc2"]) < TOLERANCE / 10
    assert_views(tiny.decode(one, two, size_of(images[first]), size_of(images[second])), outputs, f"{case}.")


def test_every_decoder_block_is_the_published_one(
    tiny: Mast3rNetwork, images: dict[str, Tensor], outputs: Arrays
) -> None:
    levels = range(1, tiny.config.decoder.depth + 1)
    both = tiny.decoder_outputs(tiny.encode(images["a"]), tiny.encode(images["b"]), (48, 64), (48, 64), levels)
    for side, found in enumerate(both, start=1):
        for level, values in zip(levels, found, strict=True):
            assert error("tokens", values, outputs[f"land.dec{side}.{level}"]) < TOLERANCE / 5


def test_portraits_stored_as_landscapes_in_training_are_portraits_here(
    tiny: Mast3rNetwork, images: dict[str, Tensor], outputs: Arrays
) -> None:
    """The published training code keeps a batch landscape, and lays what it sees of portraits on their side."""
    for row, (first, second, upright) in enumerate([("a", "b", True), ("tall", "tall2", False)]):
        tokens = tiny.encode(images[first]), tiny.encode(images[second])
        views = tiny.decode(*tokens, size_of(images[first]), size_of(images[second]))
        laid = [view if upright else through(view, lambda values: values.transpose(1, 2)) for view in views]
        wanted = {name: values[row : row + 1] for name, values in outputs.items() if name.startswith("manyar")}
        assert_views(laid, wanted, "manyar.")


def test_dust3r_sees_the_same_without_descriptors(
    reference: Callable[[str], Path], images: dict[str, Tensor], outputs: Arrays
) -> None:
    """Its file keeps the same parameters in float16, which holds them exactly."""
    dust3r = load_network(reference("fixtures/tiny_dust3r.pth"))
    assert (dust3r.config.head, dust3r.config.descriptor_width) == ("dpt", 0)
    views = dust3r.decode(dust3r.encode(images["a"]), dust3r.encode(images["b"]), (48, 64), (48, 64))
    assert views[0].desc is None and views[1].desc_conf is None
    assert_views(views, outputs, "land.")


def test_batches_give_what_single_images_give(tiny: Mast3rNetwork, images: dict[str, Tensor], outputs: Arrays) -> None:
    tokens = tiny.encode(torch.cat([images["a"], images["b"]]))
    assert error("tokens", tokens[1:], outputs["land.enc2"]) < TOLERANCE / 10
    both = tiny.decode(tokens, tokens.flip(0), (48, 64), (48, 64))
    assert_views([through(view, lambda values: values[:1]) for view in both], outputs, "land.")
    alone = tiny.decode(tokens[1:], tokens[:1], (48, 64), (48, 64), descriptors=False)
    assert alone[0].desc is None
    torch.testing.assert_close(alone[0].pts3d, both[0].pts3d[1:], rtol=1e-5, atol=1e-5)


def test_images_of_several_bands(tiny: Mast3rNetwork) -> None:
    """The last convolutions run over bands of rows: the seams must not show."""
    head = tiny.downstream_head1.dpt.head
    half = torch.randn(1, 8, 3 * BAND // 2, 24, generator=torch.Generator().manual_seed(3))
    for x in (half, half[:, :, 1:], half[:, :, :1]):  # the last band is whole, is not, and is the only one
        with torch.inference_mode():
            whole, bands = head[1:](x), in_bands(x, head[2], head[3:])
        torch.testing.assert_close(bands, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precision_stays_near(
    reference: Callable[[str], Path], images: dict[str, Tensor], outputs: Arrays, dtype: torch.dtype
) -> None:
    low = load_network(reference("fixtures/tiny_mast3r.pth"), dtype=dtype)
    assert low.dtype == dtype and low.downstream_head1.dpt.head[0].weight.dtype == torch.float32
    tokens = low.encode(images["a"]), low.encode(images["b"])
    assert tokens[0].dtype == torch.float32
    view = low.decode(*tokens, (48, 64), (48, 64))[0]
    steps = float(torch.finfo(dtype).eps)
    assert error("tokens", tokens[0], outputs["land.enc1"]) < 8 * steps
    reached = np.linalg.norm(view.pts3d.numpy() - outputs["land.view1.pts3d"], axis=-1)
    typical = float(np.median(reached / np.linalg.norm(outputs["land.view1.pts3d"], axis=-1)))
    print(f"{dtype}: median error of points {typical:.1e}")
    assert 0 < typical < 8 * steps


@pytest.mark.slow
def test_the_real_architecture(reference: Callable[[str], Any]) -> None:
    published: Arrays = reference("fixtures/full_mast3r_hashweights.safetensors")
    shapes: dict[str, list[int]] = reference("mast3r_state_dict.json")
    state = {name: hashed(name, shape) for name, shape in shapes.items() if ".layer_rn." not in name}
    net = build_network(state, {}, Path("hashed"), torch.device("cpu"), torch.float32)
    assert set(net.state_dict()) == set(shapes)
    assert sum(value.numel() for value in net.parameters()) == 688_638_856
    for name in (name for name in published if name.startswith("check.")):
        np.testing.assert_array_equal(net.state_dict()[name[6:]].flatten()[:16], published[name])

    images = [image_batch([published[name].copy()]) for name in ("img1", "img2")]
    one, two = (net.encode(image) for image in images)
    sizes = size_of(images[0]), size_of(images[1])
    assert error("tokens", one, published["enc1"]) < TOLERANCE
    assert error("tokens", two, published["enc2"]) < TOLERANCE
    for side, last in enumerate(net.decoder_outputs(one, two, *sizes, [12]), start=1):
        assert error("tokens", last[0], published[f"dec{side}.12"]) < TOLERANCE
    assert_views(net.decode(one, two, *sizes), published, "")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # which the translator uses itself
@pytest.mark.filterwarnings("ignore:Guards may run slower:RuntimeWarning")  # with Python 3.13.0
@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch translates for a CPU by way of a C++ compiler")
def test_translated_blocks_say_the_same(
    tiny: Mast3rNetwork,
    images: dict[str, Tensor],
    reference: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torch._dynamo.utils import counters

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    before = counters["stats"]["unique_graphs"]
    compiled = load_network(reference("fixtures/tiny_mast3r.pth"), compiled=True)
    plain, other = tiny.encode(images["a"]), compiled.encode(images["a"])  # decoders would take half a minute more
    assert counters["stats"]["unique_graphs"] > before
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-4)
