"""Matrices made of small dense blocks, as normal equations of cameras and points are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import bsr_matrix, csr_matrix

Array = NDArray[np.float64]
Index = NDArray[np.int64]


def selection(owner: Index, owners: int) -> csr_matrix:
    """(owners, m) zeros and ones: who owns what. For `sums`."""
    return csr_matrix((np.ones(len(owner)), (owner, np.arange(len(owner)))), shape=(owners, len(owner)))


def sums(selected: csr_matrix, values: Array) -> Array:
    """Sums of values (m, ...) over what each row of a selection (n, m) holds, several times faster than add.at."""
    rows, shape = selected.shape[0], values.shape[1:]
    return np.asarray(selected @ values.reshape(len(values), int(np.prod(shape)))).reshape(rows, *shape)


def sparse(blocks: Array, column: Index, bounds: Index, columns: int) -> csr_matrix:
    """Matrix of dense blocks (m, r, s): row i of blocks holds those from bounds[i] to bounds[i + 1]."""
    height, width = blocks.shape[1:]
    shape = (height * (len(bounds) - 1), width * columns)
    if width == 0:
        return csr_matrix(shape)
    return bsr_matrix((blocks, column, bounds), shape=shape).tocsr()


def block_diagonal(blocks: Array) -> csr_matrix:
    """Square matrix with the blocks (n, r, r) along its diagonal."""
    n = len(blocks)
    return sparse(blocks, np.arange(n), np.arange(n + 1), n)


def add_block_diagonal(dense: Array, blocks: Array, offset: int = 0) -> None:
    """Adds blocks (n, r, r) along the diagonal of a dense matrix, from row `offset` on."""
    n, size = blocks.shape[:2]
    base = offset + size * np.arange(n)[:, None, None]
    dense[base + np.arange(size)[:, None], base + np.arange(size)] += blocks
