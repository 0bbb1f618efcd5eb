"""Read pickles of plain arrays, such as published codebooks, from untrusted files.

Unpickling executes what the file names. This reader resolves only the few names under which NumPy pickles arrays, to
functions of its own that build an array from its bytes: no function of another library is called, whatever the file
asks for.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PLAIN_KINDS = "biufc"
"""Booleans and numbers: no objects, records or text."""


def read_arrays(path: Path) -> Any:
    """Read the content of the file: dictionaries, lists, tuples, strings, numbers and read-only arrays of numbers.

    Raises ValueError with the reason in one line if the file holds anything else, OSError if it cannot be read.
    """
    with path.open("rb") as file:
        try:
            return _finished(_Arrays(file).load())
        except MemoryError:
            raise
        except Exception as error:  # a malicious or damaged pickle may raise anything
            raise ValueError(f"{path.name}: not a pickle of plain arrays: {error}") from error


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Look up our replacement of a function that NumPy pickles; every other name is refused."""
        known = _REPLACEMENTS.get((module.replace("numpy.core.", "numpy._core."), name))
        if known is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return known


class _Type:
    """A numeric data type; its state, set afterwards, may only change the byte order."""

    def __init__(self, name: str, *_: object) -> None:
        self.dtype: np.dtype[Any] = np.dtype(str(name))
        if self.dtype.kind not in PLAIN_KINDS:
            raise pickle.UnpicklingError(f"it holds an array of type {name}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """An array whose content is set afterwards, as its state."""

    value: NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, columns_first, content = state
        self.value = np.frombuffer(content, kind.dtype).reshape(shape, order="F" if columns_first else "C")


def _array(*_: object) -> _Array:
    return _Array()


def _array_of_buffer(content: Any, kind: _Type, shape: Any, order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, kind, order == "F", content))
    return array


def _number(kind: _Type, content: bytes) -> Any:
    return np.frombuffer(content, kind.dtype)[0]


def _bytes_of_text(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds bytes written as {encoding}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Empty bytes, as old protocols pickle them."""
    return b""


def _nothing(*_: object) -> None:
    """Refuse to call numpy.ndarray, which is pickled as an argument only."""
    raise pickle.UnpicklingError("it makes an array in an unusual way")


_REPLACEMENTS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "scalar"): _number,
    ("numpy._core.numeric", "_frombuffer"): _array_of_buffer,
    ("numpy", "ndarray"): _nothing,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _bytes_of_text,
    ("__builtin__", "bytes"): _no_bytes,
}


def _finished(value: Any) -> Any:
    """Replace the placeholders by the arrays themselves."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {_finished(key): _finished(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_finished, value))
    return value
