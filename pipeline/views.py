"""Lazy views of per-item results: mappings that load a value when it is asked for, and forget it again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from .stage import PerGroup, PerPair, PerPhoto

T = TypeVar("T")
K = TypeVar("K")


class _Lazy(Generic[K, T]):
    """The body of the views: the keys that are there, in order, and how to load one."""

    def __init__(self, keys: Iterable[K], load: Callable[[K], T]) -> None:
        self._keys, self._load = dict.fromkeys(keys), load

    def __getitem__(self, key: K) -> T:
        if key not in self._keys:
            raise KeyError(key)
        return self._load(key)

    def __iter__(self) -> Iterator[K]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys  # Mapping's own would load the value


class PhotoView(_Lazy[int, T], PerPhoto[T]):
    """PerPhoto over the store."""


class PairView(_Lazy[tuple[int, int], T], PerPair[T]):
    """PerPair over the store."""


class GroupView(_Lazy[tuple[int, ...], T], PerGroup[T]):
    """PerGroup over the store."""


class Recent:
    """The values used last, up to a number of bytes, shared by all threads. The newest is always kept."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit, self._bytes = limit_bytes, 0
        self._values: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Any:
        """The value, or None."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: str, value: object, size: int) -> None:
        """Remembers a value of about `size` bytes."""
        with self._lock:
            self._bytes -= self._values.pop(key, (None, 0))[1]
            self._values[key] = value, size
            self._bytes += size
            while self._bytes > self._limit and len(self._values) > 1:
                self._bytes -= self._values.popitem(last=False)[1][1]
