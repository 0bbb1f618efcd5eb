"""The match kernel against the published implementation's scores, and against its own definition, written slowly."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from unposed.retrieval.asmk import Kernel, Signatures, aggregate
from unposed.retrieval.inverted import index_of, scores
from unposed.retrieval.words import codebook_of, nearest_words


def all_scores(centroids, rows, photo, kernel, assigned, folder, limit=1 << 30):
    """Everything against everything, (photos, photos), as the published method does it."""
    codebook = codebook_of(centroids)
    photos, dims = int(photo.max()) + 1, rows.shape[1]
    words = nearest_words(codebook, rows, assigned)
    database = aggregate(codebook, rows, photo, words[:, :1], binary=kernel.binary)
    queries = aggregate(codebook, rows, photo, words, binary=kernel.binary)
    index = index_of(database, photos, len(codebook), dims, kernel, limit_bytes=limit, folder=folder)
    return scores(index, queries, photos)


def slow_scores(centroids, rows, photo, kernel, assigned):
    """The definition, one photo, word and descriptor at a time."""

    def signatures(own, count):
        found = {}
        for row in own:
            nearest = sorted(range(len(centroids)), key=lambda w: (((row - centroids[w]) ** 2).sum(), w))
            for word in nearest[:count]:
                found[word] = found.get(word, 0.0) + (row - centroids[word])
        return found

    def alike(a, b):
        if kernel.binary:
            bits = -(-len(a) // 32) * 32
            cosine = 1.0 - 2.0 * int(((a > 0) != (b > 0)).sum()) / bits
        else:
            cosine = a @ b / (np.linalg.norm(a) + 1e-6) / (np.linalg.norm(b) + 1e-6)
        return max(cosine, 0.0) ** kernel.alpha if cosine >= kernel.threshold else 0.0

    photos = int(photo.max()) + 1
    queries = [signatures(rows[photo == k], assigned) for k in range(photos)]
    database = [signatures(rows[photo == k], 1) for k in range(photos)]
    table = np.zeros((photos, photos))
    for i, q in enumerate(queries):
        for j, d in enumerate(database):
            if q and d:
                total = sum(alike(q[word], d[word]) for word in q.keys() & d.keys())
                table[i, j] = total / np.sqrt(len(q)) / np.sqrt(len(d))
    return table


PUBLISHED = [(1, 5, 3.0, 0.0), (1, 1, 3.0, 0.0), (1, 5, 1.0, 0.1), (0, 5, 3.0, 0.0), (0, 1, 3.0, 0.0), (0, 5, 1.0, 0.1)]


@pytest.mark.parametrize(("binary", "assigned", "alpha", "threshold"), PUBLISHED)
def test_published_scores(reference, tmp_path, binary, assigned, alpha, threshold):
    data = reference("fixtures/asmk.safetensors")
    kernel = Kernel(bool(binary), alpha, threshold)
    ours = all_scores(data["centroids"], data["feat"], data["ids"], kernel, assigned, tmp_path)
    published = data[f"scores.bin{binary}.ma{assigned}.a{alpha}.t{threshold}"]
    np.testing.assert_allclose(ours, published, rtol=0, atol=1e-6)


@st.composite
def collections(draw):
    """Descriptors of a few photos, some without any, and words; small whole numbers make ties and common words."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dims, count = draw(st.sampled_from([1, 3, 33, 64, 70])), draw(st.integers(1, 40))
    centroids = rng.normal(size=(draw(st.integers(1, 12)), dims)).astype(np.float32)
    rows = (centroids[rng.integers(0, len(centroids), count)] + 0.8 * rng.normal(size=(count, dims))).astype(np.float32)
    return centroids, rows, np.sort(rng.integers(0, 6, count))


@given(collections(), st.booleans(), st.integers(1, 5), st.sampled_from([1.0, 2.5, 3.0]), st.sampled_from([0.0, 0.2]))
@settings(deadline=None, max_examples=60)
def test_scores_by_definition(tmp_path_factory, data, binary, assigned, alpha, threshold):
    centroids, rows, photo = data
    kernel = Kernel(binary, alpha, threshold)
    ours = all_scores(centroids, rows, photo, kernel, assigned, tmp_path_factory.getbasetemp())
    np.testing.assert_allclose(ours, slow_scores(centroids, rows, photo, kernel, assigned), rtol=0, atol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_an_index_on_the_disk_is_the_same(tmp_path, binary):
    rng = np.random.default_rng(0)
    centroids, rows = rng.normal(size=(20, 32)), rng.normal(size=(300, 32))
    photo = np.repeat(np.arange(30), 10)
    kernel = Kernel(binary)
    held = all_scores(centroids, rows, photo, kernel, 3, tmp_path)
    assert not list(tmp_path.iterdir())
    np.testing.assert_array_equal(all_scores(centroids, rows, photo, kernel, 3, tmp_path, limit=1000), held)
    assert [file.name for file in tmp_path.iterdir()] == ["codes-by-word"]


def test_nothing_has_no_signature():
    codebook = codebook_of(np.eye(4))
    none = aggregate(codebook, np.empty((0, 4)), np.empty(0, int), np.empty((0, 2), np.int32), binary=True)
    assert isinstance(none, Signatures)
    assert [len(column) for column in none] == [0, 0, 0]
