"""Sums over who owns what, as normal equations of cameras and points need them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def selection(owner: Index, owners: int) -> csr_matrix:
    """(owners, m) zeros and ones: who owns what. For `sums`."""
    return csr_matrix((np.ones(len(owner)), (owner, np.arange(len(owner)))), shape=(owners, len(owner)))


def sums(selected: csr_matrix, values: Array) -> Array:
    """Sums of values (m, ...) over what each row of a selection (n, m) holds, several times faster than add.at."""
    rows, shape = selected.shape[0], values.shape[1:]
    return np.asarray(selected @ values.reshape(len(values), int(np.prod(shape)))).reshape(rows, *shape)
