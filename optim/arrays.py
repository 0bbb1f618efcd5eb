"""Names for the kinds of arrays, defined once. Shapes, frames and units are in the docstrings of those who use them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
"""Numbers that geometry is computed with."""
Array32 = NDArray[np.float32]
"""Numbers that there are many of: descriptors, similarities."""
AnyArray = NDArray[np.floating[Any]]
"""Numbers of any precision."""
Index = NDArray[np.int64]
"""Indices into rows of another array."""
Index32 = NDArray[np.int32]
"""Indices that there are many of."""
Mask = NDArray[np.bool_]
"""A flag per row."""
