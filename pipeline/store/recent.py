"""A small memory of the values used last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any


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

    def clear(self) -> None:
        """Forgets all of them."""
        with self._lock:
            self._values.clear()
            self._bytes = 0

    def put(self, key: str, value: object, size: int) -> None:
        """Remembers a value of about `size` bytes."""
        with self._lock:
            self._bytes -= self._values.pop(key, (None, 0))[1]
            self._values[key] = value, size
            self._bytes += size
            while self._bytes > self._limit and len(self._values) > 1:
                self._bytes -= self._values.popitem(last=False)[1][1]
