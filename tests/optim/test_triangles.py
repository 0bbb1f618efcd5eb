"""Triangles of pairs against all triples of photos."""

from itertools import combinations

import numpy as np

from unposed.optim.triangles import triangles_of


def test_triangles_are_all_there() -> None:
    rng = np.random.default_rng(0)
    pairs = np.array([pair for pair in combinations(range(12), 2) if rng.random() < 0.5])
    known = set(map(tuple, pairs.tolist()))
    expected = {t for t in combinations(range(12), 3) if all(pair in known for pair in combinations(t, 2))}
    ab, bc, ac = triangles_of(12, pairs)
    assert {(*pairs[x], int(pairs[y, 1])) for x, y in zip(ab, bc, strict=True)} == expected
    np.testing.assert_array_equal(pairs[ac, 0], pairs[ab, 0])
    np.testing.assert_array_equal(pairs[ac, 1], pairs[bc, 1])
