"""Lazy mappings of per-item results: a value is loaded when it is read, and not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from .stage import PerGroup, PerPair, PerPhoto

T = TypeVar("T")
K = TypeVar("K")


class _Lazy(Generic[K, T]):
    """Base class: the available keys in order, and a function that loads one value."""

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
    """Stored results by photo."""


class PairView(_Lazy[tuple[int, int], T], PerPair[T]):
    """Stored results by pair."""


class GroupView(_Lazy[tuple[int, ...], T], PerGroup[T]):
    """Stored results by group."""
