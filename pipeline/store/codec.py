"""Artifacts to bytes and back, exactly, without ever executing what was read.

A payload is a magic word, the length of a header, the header (JSON: the tree of the value, arrays by position), and
the arrays' bytes, each aligned. Dataclasses are written by name; reading resolves a name only among the artifacts and
what the expected type's annotations reach, so a payload cannot ask for anything else.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path, PurePath
from typing import Any, get_args, get_type_hints

import numpy as np

from .. import artifacts, photo_artifacts

MAGIC = b"unposed1"
ALIGNMENT = 16
ARRAY_KINDS = "biufcUS"  # plain numbers and fixed-length text; never objects
ARRAY_TYPE = re.compile(rf"[<>|=]?[{ARRAY_KINDS}]\d{{1,9}}")
"""NumPy's own names of them; it would parse others, which may be whole expressions."""


class CodecError(Exception):
    """A value that cannot be written, or bytes that are no value of the expected type."""


def encode(value: object) -> bytes:
    """The bytes of a tree of frozen dataclasses, tuples, lists, mappings, arrays, paths, numbers, text and None."""
    return b"".join(encode_parts(value))


def encode_parts(value: object) -> list[bytes | memoryview]:
    """The same in parts to be written one after the other: contiguous arrays are not copied."""
    arrays: list[bytes | memoryview] = []
    try:
        header = json.dumps(_plain(value, arrays), separators=(",", ":")).encode()
    except RecursionError:
        raise CodecError("nested too deeply") from None
    parts: list[bytes | memoryview] = [MAGIC, len(header).to_bytes(8, "little"), header]
    size = sum(map(len, parts))
    for data in arrays:
        gap = -size % ALIGNMENT
        parts += [bytes(gap), data]
        size += gap + len(data)
    return parts


def decode(payload: bytes | memoryview, kind: Any) -> Any:
    """The value in `payload`; its arrays are read-only views of the payload. CodecError if it is not a `kind`."""
    try:
        if payload[:8] != MAGIC:
            raise CodecError("not a stored value")
        end = 16 + int.from_bytes(payload[8:16], "little")
        return _Reader(payload, end, dict(_classes(kind))).value(json.loads(bytes(payload[16:end])))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as error:
        raise CodecError(f"damaged value: {error}") from error


def _plain(value: Any, arrays: list[bytes | memoryview]) -> Any:
    """The JSON tree of a value: scalars stand for themselves, everything else is a list that begins with its tag."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in ARRAY_KINDS:
            raise CodecError(f"arrays of {value.dtype} cannot be stored")
        plain = value.flags.c_contiguous and value.dtype.kind in "biufc" and value.size > 0
        arrays.append(value.reshape(-1).view(np.uint8).data if plain else value.tobytes())
        return ["array", value.dtype.str, *value.shape]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [_plain(getattr(value, f.name), arrays) for f in dataclasses.fields(value)]
        return ["object", type(value).__qualname__, *fields]
    if type(value) in (tuple, list):
        return [type(value).__name__, *(_plain(each, arrays) for each in value)]
    if isinstance(value, Mapping):
        return ["map", *([_plain(k, arrays), _plain(v, arrays)] for k, v in value.items())]
    if isinstance(value, PurePath):
        return ["path", str(value)]
    raise CodecError(f"a {type(value).__name__} cannot be stored")


class _Reader:
    """Walks the tree in the order it was written, taking arrays from the payload as they come."""

    def __init__(self, payload: bytes | memoryview, position: int, classes: Mapping[str, type]) -> None:
        self.payload, self.position, self.classes = payload, position, classes

    def value(self, node: Any) -> Any:
        if not isinstance(node, list):
            if isinstance(node, dict):
                raise CodecError("damaged value: a JSON object")
            return node
        tag, rest = node[0], node[1:]
        if tag == "array":
            return self._array(rest[0], rest[1:])
        if tag == "object":
            if rest[0] not in self.classes:
                raise CodecError(f"a {rest[0]} where none is expected")
            return self.classes[rest[0]](*map(self.value, rest[1:]))
        if tag == "tuple":
            return tuple(map(self.value, rest))
        if tag == "list":
            return list(map(self.value, rest))
        if tag == "map":
            return {self.value(k): self.value(v) for k, v in rest}
        if tag == "path":
            return Path(rest[0])
        raise CodecError(f"damaged value: tag {tag!r}")

    def _array(self, dtype_text: str, shape: list[int]) -> np.ndarray[Any, Any]:
        if not ARRAY_TYPE.fullmatch(dtype_text) or any(type(n) is not int or n < 0 for n in shape):
            raise CodecError("damaged value: not an array of numbers")
        dtype = np.dtype(dtype_text)
        start = self.position + -self.position % ALIGNMENT
        count = math.prod(shape)
        self.position = start + count * dtype.itemsize
        if self.position > len(self.payload):
            raise CodecError("damaged value: it ends too early")
        if count * dtype.itemsize == 0:
            if count > len(self.payload):  # of items without a size
                raise CodecError("damaged value: it has more items than bytes")
            return np.zeros(shape, dtype)
        return np.frombuffer(self.payload, dtype, count, start).reshape(shape)


@cache
def _classes(kind: Any) -> tuple[tuple[str, type], ...]:
    """Name and class of every dataclass a value of type `kind` may contain."""
    own = artifacts.__name__, photo_artifacts.__name__
    shipped = [c for c in vars(artifacts).values() if isinstance(c, type) and c.__module__ in own]
    found: dict[str, type] = {}
    waiting = [*_dataclasses_in(kind), *(c for c in shipped if dataclasses.is_dataclass(c))]
    while waiting:
        cls = waiting.pop()
        if found.setdefault(cls.__qualname__, cls) is not cls:
            raise CodecError(f"two classes are called {cls.__qualname__}: {cls.__module__} must rename its own")
        waiting += [c for c in _classes_of_fields(cls) if c not in found.values()]
    return tuple(found.items())


@cache
def _classes_of_fields(cls: type) -> tuple[type, ...]:
    """Dataclasses in the types of the fields: reading these takes long, and most classes belong to many kinds."""
    hints = get_type_hints(cls)
    return tuple(c for f in dataclasses.fields(cls) for c in _dataclasses_in(hints[f.name]))


def _dataclasses_in(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
    for argument in get_args(hint):
        yield from _dataclasses_in(argument)
