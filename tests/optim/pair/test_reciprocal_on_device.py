"""The search on a device against the one in main memory, and the kernel against the product it saves writing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from unposed.optim import triton_kernels
from unposed.optim.pair import reciprocal_on_device
from unposed.optim.pair.reciprocal_matching import (
    neighbours_by_descriptor,
    neighbours_by_position,
    reciprocal_both_ways,
    seed_grid,
)
from unposed.optim.pair.reciprocal_on_device import (
    DenseSides,
    kernel_runs_on,
    nearest_by_distance,
    nearest_by_product,
    reciprocal_both_ways_on_device,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SEARCHES = {
    "descriptors": (neighbours_by_descriptor, nearest_by_product),
    "points": (neighbours_by_position, nearest_by_distance),
}


def made_up(seed: int, *shape: int) -> NDArray[np.float32]:
    raw = np.random.default_rng(seed).standard_normal(shape)
    return (raw / np.linalg.norm(raw, axis=-1, keepdims=True)).astype(np.float32)


def sides(a: NDArray[np.float32], b: NDArray[np.float32]) -> DenseSides:
    return DenseSides(torch.from_numpy(a).to(DEVICE), torch.from_numpy(b).to(DEVICE))


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("size_b", [(24, 32), (20, 28)], ids=["one size", "two sizes"])
def test_every_decoding_is_matched_as_in_main_memory(search: Any, size_b: tuple[int, int]) -> None:
    decodings = [(made_up(k, 24, 32, 3), made_up(10 + k, *size_b, 3)) for k in range(3)]
    seeds = seed_grid(24, 32, 2), seed_grid(*size_b, 2)
    found = reciprocal_both_ways_on_device([sides(*each) for each in decodings], *seeds, search[1])
    expected = [run for each in decodings for run in reciprocal_both_ways(search[0](*each), *seeds)]
    assert len(found) == len(expected) == 6
    for ours, theirs in zip(found, expected, strict=True):
        assert len(theirs.a) > 20
        np.testing.assert_array_equal(ours, theirs)


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, targets = (torch.from_numpy(made_up(k, 2, 150 + 50 * k, 24)).to(DEVICE) for k in (0, 1))
    monkeypatch.setattr(reciprocal_on_device, "BLOCK_BYTES", 4 * 2 * 200 * 7)
    expected = torch.bmm(queries, targets.transpose(1, 2)).argmax(dim=2)
    assert torch.equal(nearest_by_product(queries, targets), expected)


def test_what_is_not_a_number_is_nobodys_neighbour() -> None:
    a, b = made_up(0, 16, 16, 6), made_up(1, 16, 16, 6)
    b[3, 4, 2] = np.nan
    (onward, _) = reciprocal_both_ways_on_device([sides(a, b)], np.arange(256), np.arange(256), nearest_by_product)
    assert len(onward.a) > 30
    assert 3 * 16 + 4 not in onward.b


def test_the_host_waits_once_per_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a value from the device makes the host wait for all work before."""
    waits: list[str] = []
    for name in ("__int__", "__bool__", "item", "cpu"):
        whole = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, lambda self, *args, _w=whole, _n=name: (waits.append(_n), _w(self, *args))[1])
    a, b = made_up(0, 24, 32, 8), made_up(1, 24, 32, 8)
    rounds: list[int] = []

    def nearest(queries: Tensor, targets: Tensor) -> Tensor:
        rounds.append(queries.shape[1])
        return nearest_by_product(queries, targets)

    seeds = seed_grid(24, 32, 2)
    reciprocal_both_ways_on_device([sides(a, b)], seeds, seeds, nearest)
    assert len(rounds) >= 4
    assert sorted(rounds, reverse=True) == rounds
    assert rounds[-1] < rounds[0]
    assert len(waits) <= len(rounds) // 2 + 1


def test_no_kernel_on_a_processor() -> None:
    assert not kernel_runs_on(torch.device("cpu"))


def test_what_keeps_the_kernel_from_running_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch is used where Triton is not there, the card is old, or the kernel cannot be compiled."""
    problem = reciprocal_on_device.search_kernel_problem.__wrapped__
    monkeypatch.setattr(triton_kernels, "find_spec", lambda _: None)
    assert problem(torch.device("cuda")) == "Triton is not installed"
    monkeypatch.setattr(triton_kernels, "find_spec", lambda _: object())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert problem(torch.device("cuda")) == "they need compute capability 8.0"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setitem(sys.modules, "unposed.optim.pair.nearest_kernel", None)
    assert "nearest_kernel" in problem(torch.device("cuda"))


INTERPRETED = """
import torch
from unposed.optim.pair.nearest_kernel import nearest_by_kernel, nearest_point_by_kernel
random = torch.Generator().manual_seed(0)
for queries, targets, dims in ((130, 301, 24), (1, 5, 3), (64, 64, 16)):
    # Whole numbers, whose products are exact: equal ones stay equal wherever they stand, and the first is asked for.
    q, t = (torch.randint(-4, 5, (3, n, dims), generator=random).float() for n in (queries, targets))
    t[:, -1] = t[:, 0]
    expected = torch.bmm(q, t.transpose(1, 2)).argmax(dim=2)
    for precision in ("ieee", "tf32x3"):
        assert torch.equal(nearest_by_kernel(q, t, precision), expected), (queries, targets, precision)
        rough = torch.randn(3, queries, dims, generator=random), torch.randn(3, targets, dims, generator=random)
        product = torch.bmm(rough[0].double(), rough[1].double().transpose(1, 2))
        found = product.gather(2, nearest_by_kernel(*rough, precision)[:, :, None])[:, :, 0]
        torch.testing.assert_close(found, product.amax(dim=2), rtol=0.0, atol=1e-4)
    points, others = q[..., :3] + 50.0, t[..., :3] + 50.0  # far from the origin, where products would cancel
    expected = torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=2)
    assert torch.equal(nearest_point_by_kernel(points, others), expected), (queries, targets)
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton: pip install triton")
def test_the_kernel_finds_what_the_product_finds() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
