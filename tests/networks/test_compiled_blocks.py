"""Blocks of transformers that are compiled once per shape of image, by backends that need no compiler."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from many_view_networks import hashed_network
from torch import Tensor

from unposed.networks import compiled
from unposed.networks.compiled import compile_blocks
from unposed.networks.manyview.vit import ViewBlock
from unposed.networks.mast3r.config import DptConfig, Mast3rConfig, StackConfig
from unposed.networks.mast3r.croco import DecoderBlock, EncoderBlock
from unposed.networks.mast3r.network import Mast3rNetwork

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),  # which the translator uses itself
    pytest.mark.filterwarnings("ignore:Guards may run slower:RuntimeWarning"),  # with Python 3.13.0
]
TINY = Mast3rConfig(
    encoder=StackConfig(32, 3, 2), decoder=StackConfig(32, 3, 2), dpt=DptConfig((8, 12, 16, 24), 16, 32)
)
SIZES = ((32, 48), (48, 32), (48, 48), (64, 48))
"""Of images; the first two have as many tokens."""


@pytest.fixture(autouse=True)
def nothing_translated_yet() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def network() -> Mast3rNetwork:
    torch.manual_seed(0)
    return Mast3rNetwork(TINY).eval().requires_grad_(False)


def collection(seed: int = 0) -> list[Tensor]:
    """Batches of images of mixed shapes and sizes."""
    random = torch.Generator().manual_seed(seed)
    return [torch.rand(batch, 3, *size, generator=random) * 2 - 1 for batch in (2, 3, 5) for size in SIZES]


class Counting:
    """A backend that runs operations as they are, and counts what it is asked to compile."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: Any, _: list[Tensor]) -> Callable[..., Any]:
        self.count += 1
        run: Callable[..., Any] = graph.forward
        return run


def test_a_collection_is_compiled_once_per_shape_whatever_the_batches_and_blocks(network: Mast3rNetwork) -> None:
    batches = collection()
    plain = [network.encode(images) for images in batches]
    backend = Counting()
    made = compile_blocks(network, (EncoderBlock, DecoderBlock), backend)
    for images, wanted in zip(batches, plain, strict=True):
        torch.testing.assert_close(network.encode(images), wanted, rtol=0, atol=0)
    assert len(made[EncoderBlock].shapes) == 3
    assert backend.count == 3  # and not once for each of three blocks and three sizes of batches
    for batch in (2, 3):
        tokens = network.encode(torch.rand(batch, 3, 32, 48))
        network.decode(tokens, tokens.flip(1), (32, 48), (32, 48))
    assert backend.count == 4


def test_decoders_say_the_same_through_the_differentiating_translator(network: Mast3rNetwork) -> None:
    a, b = (network.encode(images) for images in (torch.rand(2, 3, 32, 48), torch.rand(2, 3, 48, 48)))
    plain = network.decode(a, b, (32, 48), (48, 48))
    compile_blocks(network, (DecoderBlock,), "aot_eager")
    for ours, theirs in zip(network.decode(a, b, (32, 48), (48, 48)), plain, strict=True):
        for found, wanted in zip(ours, theirs, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_networks_of_many_views_are_compiled_alike() -> None:
    network = hashed_network("da3_tinyA", torch.float32)
    images = torch.randn(2, 3, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    plain = network(images)
    backend = Counting()
    made = compile_blocks(network, (ViewBlock,), backend)
    for count in (2, 1, 2):
        found = network(images[:count])
        torch.testing.assert_close(found.depth, plain.depth[:count], rtol=1e-5, atol=1e-5)
    assert len(made[ViewBlock].shapes) >= 2  # of one view, and of all
    assert 0 < backend.count <= 12


def test_what_does_not_compile_runs_plainly_with_one_line(
    network: Mast3rNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("Failed to find C compiler")

    batches = collection()
    plain = [network.encode(images) for images in batches]
    made = compile_blocks(network, (EncoderBlock,), broken)
    with caplog.at_level(logging.WARNING):
        for images, wanted in zip(batches, plain, strict=True):
            torch.testing.assert_close(network.encode(images), wanted, rtol=0, atol=0)
    lines = [each.message for each in caplog.records if each.name == compiled.__name__]
    assert len(lines) == 1
    assert lines[0].startswith("torch.compile failed")
    assert made[EncoderBlock].problem


def test_more_shapes_than_are_worth_it_run_plainly(network: Mast3rNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MAX_SHAPES", 2)
    backend = Counting()
    made = compile_blocks(network, (EncoderBlock,), backend)
    for images in collection():
        network.encode(images)
    assert backend.count == len(made[EncoderBlock].shapes) == 2


def test_memory_that_runs_out_is_not_taken_for_a_compiler_that_fails(network: Mast3rNetwork) -> None:
    """Batches halve then, and the smaller ones are compiled as before."""

    class Full(Counting):
        def __call__(self, graph: Any, _: list[Tensor]) -> Callable[..., Any]:
            def run(*_: Any) -> Any:
                raise torch.OutOfMemoryError("out of memory")

            return run

    made = compile_blocks(network, (EncoderBlock,), Full())
    with pytest.raises(torch.OutOfMemoryError):
        network.encode(torch.rand(2, 3, 32, 48))
    assert not made[EncoderBlock].problem
