"""Read pickles of plain arrays, such as published codebooks, from untrusted files.

Unpickling executes what the file names. This reader resolves only the few names under which NumPy pickles arrays, to
functions of its own that build an array from its bytes: no function of another library is called, whatever the file
asks for. They are handed out as objects that nothing can be set on. Time and memory follow the size of the file: what
it repeats by reference is read once.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unposed.pipeline.regular_files import read_bytes

PLAIN_KINDS = "biufc"
"""Booleans and numbers: no objects, records or text."""


MOST_COPIED = 8
"""Bytes that may be made of text, over the size of the file: old protocols write every array as text, once."""


def read_arrays(path: Path) -> Any:
    """Read the content of the file: dictionaries, lists, tuples, strings, numbers and read-only arrays of numbers.

    Raises ValueError with the reason in one line if the file holds anything else, OSError if it cannot be read.
    """
    data = read_bytes(path)
    try:
        return _finished(_Arrays(_checked(data)).load(), {})
    except MemoryError:
        raise ValueError(f"{path.name}: asks for more memory than there is") from None
    except Exception as error:  # a malicious or damaged pickle may raise anything
        raise ValueError(f"{path.name}: not a pickle of plain arrays: {' '.join(str(error).split())}") from error


def _checked(data: bytes) -> bytes:
    """The operations up to the end, without frames, which only say where to read ahead: frames within frames are read
    in another order than they are checked. Refuses sizes beyond the end of the file, and numbers of remembered values
    for which a table would be made."""
    pieces, since, end = [], 0, 0
    for operation, argument, place in pickletools.genops(data):
        if operation.name.endswith("PUT") and isinstance(argument, int) and argument > len(data):
            raise pickle.UnpicklingError("it remembers more values than it holds")
        end = (place or 0) + 1
        if operation.name == "FRAME":
            pieces.append(data[since : end - 1])
            since = end + 8
    return b"".join([*pieces, data[since:end]])


class _Call:
    """A function that a pickle may call, and nothing else: not change, and not keep."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError("it changes a function")


class _Arrays(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._room = MOST_COPIED * len(data)
        self._calls = {name: _Call(function) for name, function in _REPLACEMENTS.items()}
        self._calls["_codecs", "encode"] = _Call(self._bytes_of_text)

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Look up our replacement of a function that NumPy pickles; every other name is refused."""
        known = self._calls.get((module.replace("numpy.core.", "numpy._core."), name))
        if known is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return known

    def _bytes_of_text(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"it holds bytes written as {encoding}")
        self._room -= len(text)
        if self._room < 0:
            raise pickle.UnpicklingError("it makes more bytes than it holds")
        return text.encode("latin1")


class _Type:
    """A numeric data type; its state, set afterwards, may only change the byte order."""

    def __init__(self, name: str, *_: object) -> None:
        if not re.fullmatch(rf"[{PLAIN_KINDS}]\d{{1,2}}", str(name)):
            raise pickle.UnpicklingError(f"it holds an array of type {str(name)[:60]}")
        self.dtype: np.dtype[Any] = np.dtype(str(name))

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
    ("__builtin__", "bytes"): _no_bytes,
}


def _finished(value: Any, known: dict[int, Any]) -> Any:
    """Replace the placeholders by the arrays themselves; what comes again by reference is the same object again."""
    if isinstance(value, _Array):
        return value.value
    if value is None or isinstance(value, str | bytes | int | float | complex | np.generic):
        return value
    if id(value) not in known:
        known[id(value)] = _UNFINISHED
        if type(value) is dict:
            known[id(value)] = {_finished(key, known): _finished(inner, known) for key, inner in value.items()}
        elif type(value) in (list, tuple):
            known[id(value)] = type(value)(_finished(inner, known) for inner in value)
    if known[id(value)] is _UNFINISHED:
        raise pickle.UnpicklingError("it holds something else, or something that holds itself")
    return known[id(value)]


_UNFINISHED = object()
