"""Segment sums against numpy's add.at."""

import numpy as np
from hypothesis import given, strategies as st

from unposed.optim.bundle.segment_sums import row_sums, segment_matrix, segment_sums


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 6))
def test_rows_are_summed_by_owner(seed: int, rows: int, owners: int) -> None:
    rng = np.random.default_rng(seed)
    owner, values = rng.integers(0, owners, rows), rng.standard_normal((rows, 2, 3))
    expected = np.zeros((owners, 2, 3))
    np.add.at(expected, owner, values)
    np.testing.assert_allclose(segment_sums(segment_matrix(owner, owners), values), expected, atol=1e-12)
    np.testing.assert_allclose(row_sums(owner, owners, values[:, 0].T), expected[:, 0].T, atol=1e-12)
