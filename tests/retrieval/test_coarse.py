"""The cheap look at all pairs."""

import weakref

import numpy as np
import pytest

from unposed.optim.pair.matching import mutual_nearest, unit_rows
from unposed.retrieval.coarse import coarse_similarity, largest_rows


@pytest.fixture
def photos():
    """Nine photos whose descriptors drift: neighbours share most of them, distant ones none."""
    rng = np.random.default_rng(0)
    world = rng.normal(size=(110, 24))
    return [unit_rows(world[10 * k : 10 * k + 30] + 0.1 * rng.normal(size=(30, 24))) for k in range(9)]


@pytest.mark.parametrize("block", [1, 2, 4, 9, 100])
@pytest.mark.parametrize("threads", [1, 3])
def test_counts_the_matches_of_every_pair_whatever_the_blocks(photos, block, threads):
    pairs, similarity = coarse_similarity(
        photos.__getitem__, range(9), rows=30, max_ratio=0.8, block=block, threads=threads
    )
    assert pairs.tolist() == [[i, j] for i in range(9) for j in range(i + 1, 9)]
    expected = [len(mutual_nearest(photos[i], photos[j], max_ratio=0.8).index_a) / 30 for i, j in pairs]
    np.testing.assert_allclose(similarity, expected, rtol=1e-6)
    neighbours, distant = similarity[pairs[:, 1] - pairs[:, 0] == 1], similarity[pairs[:, 1] - pairs[:, 0] > 3]
    assert neighbours.min() > 0.5 > 0.2 > distant.max()


def test_holds_three_blocks_at_most(photos):
    held, most = set(), 0

    def load(photo):
        nonlocal most
        rows = photos[photo].copy()
        held.add(id(rows))
        weakref.finalize(rows, held.remove, id(rows))
        most = max(most, len(held))
        return rows

    coarse_similarity(load, range(9), rows=30, max_ratio=0.8, block=2)
    assert most <= 3 * 2


@pytest.mark.parametrize("shortlist", [None, np.array([[0, 1], [0, 8], [3, 4]])])
def test_progress_counts_compared_pairs(photos, shortlist):
    steps = []
    coarse_similarity(
        photos.__getitem__,
        range(9),
        rows=30,
        max_ratio=0.8,
        block=4,
        shortlist=shortlist,
        report=lambda *s: steps.append(s),
    )
    done = [step[0] for step in steps]
    assert done == sorted(done) and done[-1] == steps[-1][1] == (36 if shortlist is None else 3)


def test_photos_may_be_missing(photos):
    pairs, _ = coarse_similarity(photos.__getitem__, [1, 4, 7], rows=30, max_ratio=0.8, block=10)
    assert pairs.tolist() == [[1, 4], [1, 7], [4, 7]]


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_photos_give_no_pairs(photos, count):
    pairs, similarity = coarse_similarity(photos.__getitem__, range(count), rows=30, max_ratio=0.8, block=10)
    assert pairs.shape == (0, 2)
    assert similarity.shape == (0,)


def test_an_empty_shortlist(photos):
    none = np.empty((0, 2), np.int32)
    pairs, _ = coarse_similarity(photos.__getitem__, range(9), rows=30, max_ratio=0.8, block=4, shortlist=none)
    assert pairs.shape == (0, 2)


@pytest.mark.parametrize("block", [2, 100])
def test_only_the_shortlist_is_compared(photos, block):
    everything, similarity = coarse_similarity(photos.__getitem__, range(9), rows=30, max_ratio=0.8, block=block)
    chosen = np.random.default_rng(0).permutation(len(everything))[:10]
    pairs, some = coarse_similarity(
        photos.__getitem__, range(9), rows=30, max_ratio=0.8, block=block, shortlist=everything[chosen]
    )
    np.testing.assert_array_equal(pairs, everything[np.sort(chosen)])
    np.testing.assert_array_equal(some, similarity[np.sort(chosen)])


def test_largest_rows():
    assert largest_rows(np.array([1.0, 5.0, 2.0, 5.0, 3.0]), 3).tolist() == [1, 3, 4]
    assert largest_rows(np.array([1.0]), 3).tolist() == [0]
