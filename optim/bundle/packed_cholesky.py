"""Cholesky factors of many symmetric 3 x 3 matrices, packed as six long vectors.

A symmetric matrix V is packed as its upper triangle row by row, a lower triangular one as its lower triangle row by
row: arrays (6, p), of numpy or, where there is a parameter `xp`, of torch. With V = C C^T the inverse factor is
R = C^-1, so that V^-1 = R^T R.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array
from ..cameras import Vectors


def inverse_cholesky(upper: Vectors, xp: Any = np) -> Vectors:
    """Inverse Cholesky factors R (6, p) of symmetric matrices (6, p)."""
    a, b, c, d, e, f = upper
    x = 1.0 / xp.sqrt(a)
    low_1, low_2 = b * x, c * x
    # Rounding may leave a pivot that is not positive, where a point is hardly determined.
    y = 1.0 / xp.sqrt(xp.maximum(d - low_1 * low_1, 1e-15 * d))
    low_3 = (e - low_2 * low_1) * y
    z = 1.0 / xp.sqrt(xp.maximum(f - low_2 * low_2 - low_3 * low_3, 1e-15 * f))
    yx = -low_1 * x * y
    return xp.stack([x, yx, y, -(low_2 * x + low_3 * yx) * z, -low_3 * y * z, z])


def multiply_lower(root: Array, w: Array) -> Array:
    """R w: lower triangular matrices (6, ...) times w (3, ...)."""
    out = np.empty_like(w)
    np.multiply(root[0], w[0], out=out[0])
    np.multiply(root[1], w[0], out=out[1])
    out[1] += root[2] * w[1]
    np.multiply(root[3], w[0], out=out[2])
    out[2] += root[4] * w[1]
    out[2] += root[5] * w[2]
    return out


def multiply_lower_transposed(root: Array, w: Array) -> Array:
    """R^T w."""
    return np.stack([root[0] * w[0] + root[1] * w[1] + root[3] * w[2], root[2] * w[1] + root[4] * w[2], root[5] * w[2]])
