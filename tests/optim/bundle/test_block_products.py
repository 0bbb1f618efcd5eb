"""Products over covisible pairs against loops over all pairs."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from unposed.optim.bundle import block_products
from unposed.optim.bundle.block_products import CovisiblePairs, integer_lexsort, pairs_between, pairs_within


def summed(pairs: CovisiblePairs, left: np.ndarray, right: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    out = np.zeros((*shape, left.shape[2], right.shape[2]))
    out[pairs.row, pairs.column] = pairs.sum_products(left, right)
    return out


@pytest.mark.parametrize("batch_size", [2, 2048])
def test_products_within_one_kind(monkeypatch: pytest.MonkeyPatch, batch_size: int) -> None:
    monkeypatch.setattr(block_products, "BATCH_SIZE", batch_size)
    rng = np.random.default_rng(0)
    point, block, items = rng.integers(0, 8, 40), rng.integers(0, 5, 40), rng.standard_normal((40, 3, 2))
    expected = np.zeros((5, 5, 2, 2))
    for i in range(40):
        for j in range(40):
            if point[i] == point[j] and (block[i] < block[j] or (block[i] == block[j] and i < j)):
                expected[block[i], block[j]] += items[i].T @ items[j]
    found = summed(pairs_within(point, block), items, items, (5, 5))
    i = np.arange(5)  # the order of two items of one block is free, so that only the symmetric part is defined
    for diagonal in (found, expected):
        diagonal[i, i] += diagonal[i, i].transpose(0, 2, 1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_products_between_two_kinds() -> None:
    rng = np.random.default_rng(1)
    point_a, point_b = rng.integers(0, 8, 30), np.arange(8)
    block_a, block_b = rng.integers(0, 5, 30), rng.integers(0, 3, 8)
    # The second kind is sorted by block, then by point, as camera-point pairs are.
    order = np.lexsort((point_b, block_b))
    point_b, block_b = point_b[order], block_b[order]
    a, b = rng.standard_normal((30, 3, 4)), rng.standard_normal((8, 3, 2))
    expected = np.zeros((5, 3, 4, 2))
    for i in range(30):
        for j in range(8):
            if point_a[i] == point_b[j]:
                expected[block_a[i], block_b[j]] += a[i].T @ b[j]
    found = summed(pairs_between(point_a, block_a, point_b, block_b), a, b, (5, 3))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_no_pairs_give_no_products() -> None:
    pairs = pairs_within(np.arange(4), np.zeros(4, np.int64))
    assert pairs.sum_products(np.ones((4, 3, 2)), np.ones((4, 3, 2))).shape == (0, 2, 2)


@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 1 << 17, 1 << 40]))
def test_the_radix_sort_is_numpys_lexsort(seed: int, largest: int) -> None:
    keys = np.random.default_rng(seed).integers(0, largest, (2, 50))
    np.testing.assert_array_equal(integer_lexsort(*keys), np.lexsort(keys))
