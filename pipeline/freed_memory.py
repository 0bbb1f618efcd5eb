"""Memory that was freed, and that the C library keeps from the system."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache


def give_back_freed_memory() -> None:
    """Return freed memory to the system.

    The C library keeps it for the thread that freed it, where one small value behind it suffices for that. The next
    large item may come to another thread, which cannot use it: two photos that take 380 MB each to decode, never both
    at once, took 1.3 GB.
    """
    if (library := _c_library()) is not None:
        library.malloc_trim(0)


@lru_cache(maxsize=1)
def _c_library() -> ctypes.CDLL | None:
    """The C library, if it is one that can be told to (glibc)."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "malloc_trim") else None
