"""The nearest words are the nearest ones, whichever way they were looked for."""

import faiss
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from unposed.retrieval import words as module
from unposed.retrieval.words import Codebook, codebook_of, nearest_words


def true_order(centroids, rows):
    distance = ((rows[:, None].astype(np.float64) - centroids[None]) ** 2).sum(axis=2)
    return np.argsort(distance, axis=1, kind="stable")


def by(look, centroids):
    """A codebook that is searched in this way, however small it is."""
    plain = codebook_of(centroids)
    return Codebook(plain.centroids, plain.centre, look(plain.centroids - plain.centre))


LOOKS = {
    "faiss": module._by_faiss,
    "bytes": module._by_bytes,
    "device": lambda moved: module.search_on_device(moved, "cpu"),
    "nonsense": lambda moved: (
        lambda rows, count: module.Candidates(
            np.tile(np.arange(count), (len(rows), 1)),
            np.zeros((len(rows), count), np.float32),
            np.full(len(rows), 1e-6, np.float32),
        )
    ),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize(("words", "dims"), [(1, 3), (7, 128), (300, 24), (5000, 33)])
def test_nearest_words(look, words, dims):
    rng = np.random.default_rng(words)
    centroids = rng.normal(size=(words, dims)).astype(np.float32) + 3.0
    rows = (centroids[rng.integers(0, words, 300)] + rng.normal(size=(300, dims))).astype(np.float32)
    found = nearest_words(by(look, centroids), rows, 5)
    np.testing.assert_array_equal(found, true_order(centroids, rows)[:, :5])


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 60),
    st.integers(1, 9),
    st.integers(1, 5),
    st.sampled_from(list(LOOKS)),
    st.sampled_from([np.uint8, np.float16, np.float64]),
)
@settings(deadline=None)
def test_ties_go_to_the_smaller_index(seed, words, dims, count, look, dtype):
    rng = np.random.default_rng(seed)
    centroids = rng.integers(0, 4, (words, dims)).astype(np.float32)  # many words are equal, many equally far
    rows = rng.integers(0, 4, (20, dims)).astype(dtype)
    found = nearest_words(by(LOOKS[look], centroids), rows, count)
    np.testing.assert_array_equal(found, true_order(centroids, rows.astype(np.float32))[:, :count])


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_numbers_of_very_different_size(look):
    """Bytes can hardly tell such rows and words apart; what they leave open is measured."""
    rng = np.random.default_rng(1)
    centroids = (rng.normal(size=(400, 8)) * 10.0 ** rng.integers(-3, 4, (400, 1))).astype(np.float32)
    rows = (rng.normal(size=(100, 8)) * 10.0 ** rng.integers(-3, 4, (100, 1))).astype(np.float32)
    found = nearest_words(by(look, centroids), rows, 1)
    distance = ((rows[:, None].astype(np.float64) - centroids[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(distance[np.arange(100), found[:, 0]], distance.min(axis=1), rtol=1e-6)


def test_gpus_of_faiss_are_used_where_it_has_them(monkeypatch):
    moved = []
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", lambda index: moved.append(index) or index, raising=False)
    rng = np.random.default_rng(0)
    centroids, rows = rng.normal(size=(30, 8)), rng.normal(size=(40, 8)).astype(np.float32)
    found = nearest_words(codebook_of(centroids, "cuda"), rows, 3)
    np.testing.assert_array_equal(found, true_order(centroids.astype(np.float32), rows)[:, :3])
    assert len(moved) == 1


def test_rows_may_be_none():
    assert nearest_words(codebook_of(np.eye(3)), np.empty((0, 3)), 2).shape == (0, 2)


@pytest.mark.parametrize(
    ("centroids", "complaint"),
    [
        (np.empty((0, 4)), "shape"),
        (np.empty((4, 0)), "shape"),
        (np.ones(4), "shape"),
        (np.array([[1.0, np.nan]]), "not finite"),
        (np.array([[np.inf, 1.0]]), "not finite"),
    ],
)
def test_a_codebook_that_cannot_be(centroids, complaint):
    with pytest.raises(ValueError, match=complaint):
        codebook_of(centroids)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [(np.ones((2, 3)), "4 dimensions"), (np.ones(4), "4 dimensions"), (np.full((1, 4), np.nan), "finite")],
)
def test_rows_that_do_not_fit(rows, complaint):
    with pytest.raises(ValueError, match=complaint):
        nearest_words(codebook_of(np.eye(4)), rows, 1)
