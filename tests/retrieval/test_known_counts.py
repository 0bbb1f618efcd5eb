"""Counts that are known by what photos hold."""

import numpy as np
import pytest

from unposed.optim.pair.matching import byte_rows
from unposed.retrieval import coarse, known_counts
from unposed.retrieval.coarse import coarse_similarity
from unposed.retrieval.known_counts import KnownCounts, no_counts


@pytest.fixture
def photos():
    """Ten photos whose descriptors drift."""
    rng = np.random.default_rng(0)
    world = rng.gamma(0.7, 40.0, (130, 128))
    return [
        byte_rows(np.maximum(world[10 * k : 10 * k + 30] + 9 * rng.normal(size=(30, 128)), 0), 62) for k in range(10)
    ]


@pytest.fixture
def compared(monkeypatch):
    """A list that gets longer with every comparison."""
    made, real = [], coarse.mutual_nearest

    def watched(a, b, **options):
        made.append((a, b))
        return real(a, b, **options)

    monkeypatch.setattr(coarse, "mutual_nearest", watched)
    return made


def ranked(photos, known, **options):
    options = {"rows": 30, "max_ratio": 0.8, "block": 4, "threads": 2} | options
    return coarse_similarity(photos.__getitem__, range(len(photos)), known=known, **options)


def kept(known):
    return KnownCounts(*known.table())


def test_one_photo_more_costs_its_own_comparisons(photos, compared):
    known = no_counts()
    ranked(photos[:9], known)
    assert len(compared) == 36
    pairs, similarity = ranked(photos, kept(known))
    assert len(compared) == 36 + 9
    for column, anew in zip((pairs, similarity), ranked(photos, None), strict=True):
        np.testing.assert_array_equal(column, anew)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_order_in_which_photos_came_changes_nothing(photos, seed, compared):
    known = no_counts()
    for chosen in (np.random.default_rng(seed).permutation(10)[:size] for size in (4, 7, 6)):
        ranked([photos[k] for k in chosen], known)
        known = kept(known) if known.table() else known
    before = len(compared)
    similarity = ranked(photos, known)[1]
    assert len(compared) < before + 45
    np.testing.assert_array_equal(similarity, ranked(photos, None)[1])


def test_nothing_new_is_no_table(photos, compared):
    known = no_counts()
    ranked(photos, known)
    again = kept(known)
    ranked(photos[::-1], again)
    assert again.table() is None and len(compared) == 45


def test_a_full_table_keeps_what_the_last_collection_used(photos, monkeypatch, compared):
    monkeypatch.setattr(known_counts, "MOST_COUNTS", 20)
    known = no_counts()
    ranked(photos[:6], known)  # 15 pairs
    known = kept(known)
    ranked(photos[3:8], known)  # 3 known pairs and 7 new ones
    keys, counts = known.table()
    assert len(keys) == len(counts) == 20 and (np.diff(keys) > 0).all()
    before = len(compared)
    ranked(photos[3:8], KnownCounts(keys, counts))
    assert len(compared) == before


def test_only_the_shortlist_is_looked_up(photos, compared):
    known = no_counts()
    ranked(photos, known, shortlist=np.array([[0, 1], [4, 9]]))
    ranked(photos, kept(known), shortlist=np.array([[0, 1], [2, 3]]))
    assert len(compared) == 3
