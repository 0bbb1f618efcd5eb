"""Habits of a process that is all ours: for the command line only, as a guest in someone's notebook has none to set."""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEEP_BYTES = 1 << 28
"""Freed memory that the process keeps for itself, and the size up to which it takes memory from what it kept."""


def settle() -> None:
    """Call it before numpy is imported. Changes no result, and nothing that the user has set."""
    # Work is spread over items, each computed by one thread; further ones of the library would wait, and busily.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.platform == "linux":
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    """The C library gives every large array back to the system when it is freed, and the system clears each page of
    the next: a tenth of the time that many pictures of one size take."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # not every C library's
        library.mallopt(M_MMAP_THRESHOLD, KEEP_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
