"""Packed Cholesky factors against numpy's, one matrix at a time."""

import numpy as np

from unposed.optim.bundle.packed_cholesky import inverse_cholesky, multiply_lower, multiply_lower_transposed


def test_inverse_factors_and_their_products() -> None:
    rng = np.random.default_rng(0)
    half = rng.standard_normal((20, 3, 3))
    matrices = half @ half.transpose(0, 2, 1) + 0.1 * np.eye(3)
    root = inverse_cholesky(matrices[:, *np.triu_indices(3)].T)
    expected = np.linalg.inv(np.linalg.cholesky(matrices))
    np.testing.assert_allclose(root.T, expected[:, *np.tril_indices(3)], rtol=1e-9, atol=1e-12)
    w = rng.standard_normal((3, 20))
    np.testing.assert_allclose(multiply_lower(root, w), np.einsum("nij,jn->in", expected, w), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        multiply_lower_transposed(root, w), np.einsum("nji,jn->in", expected, w), rtol=1e-9, atol=1e-12
    )


def test_a_singular_matrix_has_a_finite_factor() -> None:
    line = np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert np.isfinite(inverse_cholesky(line[np.triu_indices(3)][:, None])).all()
