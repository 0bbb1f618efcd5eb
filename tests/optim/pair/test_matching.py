"""The fast matcher against the definition, spelt out row by row."""

import sys
import tracemalloc

import numpy as np
import pytest

from unposed.optim import byte_products
from unposed.optim.byte_products import torch_imported_if
from unposed.optim.pair import matching
from unposed.optim.pair.matching import byte_rows, mutual_nearest, sift_spectrum, unit_rows


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def by_definition(a, b, max_ratio, min_similarity=0.0):
    """Matches (i, j) of mutual nearest rows that beat every rival of either side, in plain loops."""
    cosine = a.astype(float) @ b.T.astype(float)
    found = []
    for i in range(len(a)):
        j = int(np.argmax(cosine[i]))
        rivals = np.concatenate([np.delete(cosine[i], j), np.delete(cosine[:, j], i)])
        second = rivals.max(initial=-np.inf)
        if cosine[i, j] <= second or cosine[i, j] <= min_similarity:
            continue
        if np.sqrt(max(2 - 2 * cosine[i, j], 0.0)) < max_ratio * np.sqrt(2 - 2 * second):
            found.append((i, j))
    return found


def related_rows(rng, count_a, count_b, dims=16):
    """Some rows of b are noisy copies of rows of a: clear, doubtful and missing matches all occur."""
    a = rng.normal(size=(count_a, dims))
    b = rng.normal(size=(count_b, dims))
    common = min(count_a, count_b) * 2 // 3
    b[rng.permutation(count_b)[:common]] = a[:common] + rng.uniform(0.0, 0.8, (common, 1)) * b[:common]
    return unit_rows(a), unit_rows(b)


def pairs_of(matches):
    return list(zip(matches.index_a.tolist(), matches.index_b.tolist(), strict=True))


@pytest.mark.parametrize("max_ratio", [0.6, 0.85, 1.0])
@pytest.mark.parametrize(("count_a", "count_b"), [(1, 1), (1, 9), (9, 1), (60, 90), (150, 70)])
def test_matches_the_definition(rng, count_a, count_b, max_ratio):
    a, b = related_rows(rng, count_a, count_b)
    assert pairs_of(mutual_nearest(a, b, max_ratio=max_ratio)) == by_definition(a, b, max_ratio)


def test_reports_similarity_and_ratio(rng):
    a, b = related_rows(rng, 60, 60)
    found = mutual_nearest(a, b, max_ratio=0.9)
    assert len(found.index_a) > 10
    cosine = a @ b.T
    np.testing.assert_allclose(found.similarity, cosine[found.index_a, found.index_b], atol=1e-6)
    i, j = found.index_a[0], found.index_b[0]
    second = max(np.delete(cosine[i], j).max(), np.delete(cosine[:, j], i).max())
    assert found.ratio[0] == pytest.approx(np.sqrt((1 - cosine[i, j]) / (1 - second)), rel=1e-3)
    assert (found.ratio < 0.9).all()


def test_swapping_the_sides_swaps_the_matches(rng):
    a, b = related_rows(rng, 80, 50)
    assert sorted(pairs_of(mutual_nearest(a, b))) == sorted((i, j) for j, i in pairs_of(mutual_nearest(b, a)))


@pytest.mark.parametrize("block_rows", [1, 7, 64, 1000])
def test_blocks_change_nothing(rng, monkeypatch, block_rows):
    a, b = related_rows(rng, 100, 80)
    expected = pairs_of(mutual_nearest(a, b))
    monkeypatch.setattr(matching, "_CPU_BLOCK_BYTES", 4 * len(b) * block_rows)
    assert pairs_of(mutual_nearest(a, b)) == expected


@pytest.mark.parametrize("block_rows", [7, 1000])
def test_torch_agrees_with_numpy(rng, block_rows):
    a, b = related_rows(rng, 100, 80)
    by_numpy = matching._nearest_numpy(a, b)
    by_torch = matching._nearest_torch(a, b, "cpu", 4 * len(b) * block_rows)
    np.testing.assert_array_equal(by_torch.best_b, by_numpy.best_b)
    for name in ("best", "second", "others"):
        np.testing.assert_allclose(getattr(by_torch, name), getattr(by_numpy, name), atol=1e-6)


def test_ties_never_match(rng):
    a = unit_rows(rng.normal(size=(20, 8)))
    assert len(mutual_nearest(a, a, max_ratio=1.0).index_a) == 20
    doubled = np.concatenate([a, a[:5]])
    assert sorted(mutual_nearest(a, doubled, max_ratio=1.0).index_a) == list(range(5, 20))
    assert sorted(mutual_nearest(doubled, a, max_ratio=1.0).index_a) == list(range(5, 20))


@pytest.mark.parametrize(("count_a", "count_b"), [(0, 0), (0, 5), (5, 0)])
def test_nothing_to_match(count_a, count_b):
    found = mutual_nearest(np.zeros((count_a, 8), np.float32), np.zeros((count_b, 8), np.float32))
    assert [len(column) for column in found] == [0, 0, 0, 0]


def test_broken_rows_match_nothing(rng):
    rows = rng.normal(size=(10, 8))
    rows[2] = np.nan
    rows[3, 5] = np.inf
    rows[4] = 0.0
    clean = unit_rows(rows)
    assert not clean[2:5].any()
    assert sorted(mutual_nearest(clean, clean).index_a) == [0, 1, 5, 6, 7, 8, 9]


def test_min_similarity_is_a_floor(rng):
    a, b = related_rows(rng, 60, 60)
    floor = float(np.mean(np.sort(mutual_nearest(a, b).similarity)[9:11]))
    found = mutual_nearest(a, b, min_similarity=floor)
    assert pairs_of(found) == by_definition(a, b, 0.85, floor)
    assert found.similarity.min() > floor > mutual_nearest(a, b).similarity.min()


def test_unit_rows_leave_their_argument_alone():
    rows = np.arange(8, dtype=np.uint8).reshape(2, 4)
    np.testing.assert_allclose(np.linalg.norm(unit_rows(rows), axis=1), 1.0, rtol=1e-6)
    floats = rows.astype(np.float32)
    unit_rows(floats)
    np.testing.assert_array_equal(floats, rows)


def test_spectrum_is_orthonormal_and_complete():
    np.testing.assert_allclose(sift_spectrum(128).T @ sift_spectrum(128), np.eye(128), atol=1e-6)
    np.testing.assert_array_equal(sift_spectrum(40), sift_spectrum(128)[:, :40])


def test_spectrum_keeps_smooth_descriptors():
    """A blurred histogram is what the first coefficients are for; white noise spreads over all of them."""
    cells, orientations = np.arange(4), np.arange(8)
    smooth = np.einsum("i,j,k->ijk", 1 + 0.3 * cells, 2 - 0.2 * cells, 1 + np.cos(orientations * np.pi / 4)).reshape(
        1, -1
    )
    noise = np.random.default_rng(0).normal(size=(200, 128))
    for rows, least, most in ((smooth, 0.999, 1.0001), (noise, 0.45, 0.55)):
        kept = np.sum((rows @ sift_spectrum(64)) ** 2) / np.sum(rows**2)
        assert least < kept < most


def test_all_coefficients_compare_like_the_descriptor_itself(rng):
    rows = rng.integers(0, 255, (30, 128)).astype(np.uint8)
    whole, turned = unit_rows(rows), unit_rows(rows, 128)
    np.testing.assert_allclose(turned @ turned.T, whole @ whole.T, atol=1e-5)


def test_the_similarity_matrix_is_never_whole(rng):
    a, b = (unit_rows(rng.normal(size=(6000, 8))) for _ in range(2))
    tracemalloc.start()
    mutual_nearest(a, b)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(a) * len(b) / 10


def related_bytes(rng, count_a, count_b):
    """Descriptors like SIFT's, some of a again in b with noise, as rows of bytes."""
    a, b = (rng.gamma(0.7, 40.0, (count, 128)) for count in (count_a, count_b))
    common = min(count_a, count_b) // 2
    b[:common] = np.maximum(a[:common] + rng.normal(scale=rng.uniform(0, 25, (common, 1)), size=(common, 128)), 0)
    return byte_rows(a, 62), byte_rows(b, 62)


def test_products_of_byte_rows_are_distances(rng):
    a, b = related_bytes(rng, 40, 40)
    distance = np.linalg.norm(a[:, None, :-2].astype(float) - b[None, :, :-2], axis=2)
    facing = np.concatenate([b[:, :-2], b[:, -1:], b[:, -2:-1]], axis=1).astype(int)
    product = a.astype(int) @ facing.T
    np.testing.assert_allclose(matching.BYTE_UNIT**2 - distance**2 / 2, product, atol=1.01)  # two halves are rounded


def test_byte_rows_match_as_their_floats_do(rng):
    a, b = related_bytes(rng, 300, 200)
    found = mutual_nearest(a, b, max_ratio=0.85)
    floats = mutual_nearest(*(unit_rows(side[:, :-2]) for side in (a, b)), max_ratio=0.85)
    same = set(pairs_of(found)) & set(pairs_of(floats))
    assert len(same) > 0.98 * max(len(found.index_a), len(floats.index_a)) > 50
    np.testing.assert_allclose(found.similarity.mean(), floats.similarity.mean(), atol=2e-3)


@pytest.mark.parametrize("block_rows", [1, 7, 1000])
@pytest.mark.parametrize(("count_a", "count_b"), [(1, 1), (1, 9), (9, 1), (170, 130)])
def test_bytes_give_the_same_whoever_multiplies(rng, monkeypatch, count_a, count_b, block_rows):
    torch = pytest.importorskip("torch")
    a, b = related_bytes(rng, count_a, count_b)
    monkeypatch.setattr(matching, "_CPU_BLOCK_BYTES", 4 * len(b) * block_rows)
    results = []
    for module in (None, torch):
        monkeypatch.setattr(byte_products, "_torch_for", lambda _, module=module: module)
        results.append(mutual_nearest(a, b))
    for column, other in zip(*results, strict=True):
        np.testing.assert_array_equal(column, other)
    b = np.concatenate([b[:, :-2], b[:, -1:], b[:, -2:-1]], axis=1)
    near, by_device = matching._nearest_numpy(a, b), matching._nearest_torch(a, b, "cpu", 4 * len(b) * block_rows)
    np.testing.assert_array_equal(near.best, by_device.best)


def test_torch_is_imported_when_it_is_worth_it(rng, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(byte_products, "bytes_are_fast", lambda: True)
    monkeypatch.setattr(byte_products, "_multiplied", 0)
    loaded = dict(byte_products.sys.modules)
    without = {name: module for name, module in loaded.items() if name != "torch"}
    monkeypatch.setattr(byte_products.sys, "modules", without)
    assert byte_products._torch_for(byte_products.WORTH_IMPORTING) is None
    monkeypatch.setattr(byte_products.sys, "modules", loaded)
    assert byte_products._torch_for(1) is loaded["torch"]
    monkeypatch.setattr(byte_products, "bytes_are_fast", lambda: False)
    assert byte_products._torch_for(1) is None


def test_torch_is_imported_for_speed_only_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_products, "_has_instructions", lambda: True)
    monkeypatch.setattr(byte_products, "_multiplied", byte_products.WORTH_IMPORTING)
    without = {name: module for name, module in sys.modules.items() if name != "torch"}
    monkeypatch.setattr(byte_products.sys, "modules", without)
    with torch_imported_if(False):
        assert not byte_products.bytes_are_fast() and byte_products._torch_for(1) is None
        with torch_imported_if(True):
            assert byte_products.bytes_are_fast()
        without["torch"] = sys  # where networks have imported it, it costs nothing more
        assert byte_products.bytes_are_fast() and byte_products._torch_for(1) is sys
        del without["torch"]
    assert byte_products.bytes_are_fast()


def test_broken_byte_rows_match_nothing(rng):
    rows = rng.gamma(0.7, 40.0, (10, 128))
    rows[2] = np.nan
    rows[4] = 0.0
    clean = byte_rows(rows, 62)
    assert not clean[[2, 4]].any()
    assert sorted(mutual_nearest(clean, clean).index_a) == [0, 1, 3, 5, 6, 7, 8, 9]
