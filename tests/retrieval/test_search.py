"""From descriptors to the best partners of every photo."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from unposed.retrieval.asmk import Kernel
from unposed.retrieval.codebook import sample_rows, train_codebook
from unposed.retrieval.search import PHOTOS_AT_ONCE, SCORES_PER_GROUP, SearchOptions, best_partners_by_words, largest
from unposed.retrieval.words import codebook_of, nearest_words

PHOTOS = 3 * PHOTOS_AT_ONCE + 5


@pytest.fixture(scope="module")
def photos():
    """A walk: every photo shares most of its descriptors with the next ones."""
    rng = np.random.default_rng(0)
    world = rng.normal(size=(10 * PHOTOS + 30, 48))
    return [(world[10 * k : 10 * k + 40] + 0.3 * rng.normal(size=(40, 48))).astype(np.float32) for k in range(PHOTOS)]


@pytest.fixture(scope="module")
def codebook(photos):
    rows = sample_rows(photos.__getitem__, range(PHOTOS), 2000, seed=0)
    return codebook_of(train_codebook(rows, 64, iterations=5, seed=0))


def search(photos, codebook, chosen=None, limit=1 << 30, threads=1, **options):
    chosen = range(len(photos)) if chosen is None else chosen
    return best_partners_by_words(
        photos.__getitem__, chosen, codebook, SearchOptions(**options), limit_bytes=limit, threads=threads
    )


def partners_of(photo, pairs, similarity, count):
    own = (pairs == photo).any(axis=1)
    order = np.argsort(-similarity[own], kind="stable")[:count]
    return set(pairs[own][order].sum(axis=1) - photo)


@pytest.mark.parametrize("binary", [True, False])
def test_neighbours_of_a_walk_are_the_best_partners(photos, codebook, binary):
    pairs, similarity = search(photos, codebook, partners=10, kernel=Kernel(binary))
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert (np.lexsort((pairs[:, 1], pairs[:, 0])) == np.arange(len(pairs))).all()
    assert (similarity > 0.0).all() and (similarity <= 1.0).all()
    for photo in range(1, PHOTOS - 1):
        assert {photo - 1, photo + 1} <= partners_of(photo, pairs, similarity, 4)


@pytest.mark.parametrize(("limit", "threads"), [(1 << 30, 3), (100_000, 1), (2_000, 2)])
def test_neither_memory_nor_threads_change_the_result(photos, codebook, limit, threads):
    expected = search(photos, codebook, partners=7)
    for ours, theirs in zip(search(photos, codebook, partners=7, limit=limit, threads=threads), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(0, 3), st.integers(1, 40 * SCORES_PER_GROUP)), elements=st.integers(0, 30)
    ),
    st.integers(1, 2 * SCORES_PER_GROUP),
)
def test_the_largest_scores_are_those_a_sort_finds(table, count):
    row, column = largest(table, count)
    for r in range(len(table)):
        best = np.argsort(-table[r], kind="stable")[:count]
        np.testing.assert_array_equal(column[row == r], best[table[r, best] > 0])


def test_photos_may_be_missing_or_without_descriptors(photos, codebook):
    chosen = [1, 2, 3, 7, 30]
    gaps = list(photos)
    gaps[3] = photos[3][:0]
    pairs, _ = search(gaps, codebook, chosen)
    assert set(pairs.ravel()) <= {1, 2, 7, 30}
    assert [1, 2] in pairs.tolist()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_photos(photos, codebook, count):
    pairs, similarity = search(photos, codebook, range(count), partners=100)
    assert pairs.tolist() == ([[0, 1]] if count == 2 else [])
    assert len(similarity) == len(pairs)


def test_nobody_has_descriptors(codebook):
    pairs, similarity = search([np.empty((0, 48), np.float32)] * 4, codebook)
    assert pairs.shape == (0, 2)
    assert similarity.shape == (0,)


def test_a_copy_is_the_best_partner_and_as_similar_as_the_photo_to_itself(photos, codebook):
    pairs, similarity = search([*photos, photos[9]], codebook)
    best = similarity[(pairs == 9).any(axis=1)].max()
    assert similarity[(pairs == [9, PHOTOS]).all(axis=1)] == best
    others = similarity[~(pairs == [9, PHOTOS]).all(axis=1)]
    assert best > 1.1 * others.max()


def test_descriptors_of_other_dimension_are_told(photos, codebook):
    with pytest.raises(ValueError, match="48 dimensions"):
        search([photo[:, :32] for photo in photos], codebook)


def test_the_sample_is_even_and_repeatable(photos):
    owner = {row.tobytes(): k for k, photo in enumerate(photos) for row in photo}
    rows = sample_rows(photos.__getitem__, range(PHOTOS), 4 * PHOTOS, seed=3)
    np.testing.assert_array_equal(np.bincount([owner[row.tobytes()] for row in rows]), np.full(PHOTOS, 4))
    np.testing.assert_array_equal(rows, sample_rows(photos.__getitem__, range(PHOTOS), 4 * PHOTOS, seed=3))
    assert not np.array_equal(rows, sample_rows(photos.__getitem__, range(PHOTOS), 4 * PHOTOS, seed=4))


def test_a_sample_smaller_than_the_collection_loads_no_more_photos(photos):
    loaded = []
    rows = sample_rows(lambda photo: loaded.append(photo) or photos[photo], range(PHOTOS), 8, seed=0)
    assert len(rows) == len(loaded) == 8


def test_no_descriptors_no_words():
    with pytest.raises(ValueError, match="no photo has a descriptor"):
        sample_rows(lambda photo: np.empty((0, 8)), range(3), 10, seed=0)


def test_training_is_repeatable_and_lowers_the_distance(photos):
    rows = np.concatenate(photos)

    def error(centroids):
        word = nearest_words(codebook_of(centroids), rows, 1)[:, 0]
        return ((rows - centroids[word]) ** 2).sum()

    centroids = train_codebook(rows, 50, iterations=8, seed=0)
    assert centroids.shape == (50, 48)
    np.testing.assert_array_equal(train_codebook(rows, 50, iterations=8, seed=0), centroids)
    assert error(centroids) < 0.95 * error(rows[np.random.default_rng(0).permutation(len(rows))[:50]])


def test_fewer_descriptors_than_words():
    rows = np.array([[1, 2], [3, 4], [1, 2]], np.uint8)
    assert train_codebook(rows, 10, iterations=3, seed=0).tolist() == [[1, 2], [3, 4]]
