"""Segment sums: rows of an array added up by owner, as normal equations of cameras and points need them.

As products with a sparse matrix of zeros and ones, which is several times faster than numpy's add.at and adds in a
fixed order.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.sparse import csr_matrix

from ..arrays import Array, Index
from .block_products import Numbers


def segment_matrix(owner: Index, owners: int) -> csr_matrix:
    """(owners, m) matrix S with S[owner[i], i] = 1, so that S @ values sums the rows of values (m, ...) by owner."""
    return csr_matrix((np.ones(len(owner)), (owner, np.arange(len(owner)))), shape=(owners, len(owner)))


def segment_sums(matrix: csr_matrix, values: Array) -> Array:
    """(owners, ...) sums of values (m, ...) of any shape by a segment matrix (owners, m)."""
    owners, shape = matrix.shape[0], values.shape[1:]
    return np.asarray(matrix @ values.reshape(len(values), int(np.prod(shape)))).reshape(owners, *shape)


def row_sums(owner: Numbers, owners: int, rows: Iterable[Array]) -> Array:
    """(k, owners) sums of k rows (m,) by owner, in the order of the rows' entries.

    For vectors of few thousand entries, of which a product with a sparse matrix takes several times as long to set up.
    """
    return np.array([np.bincount(owner, row, owners) for row in rows])
