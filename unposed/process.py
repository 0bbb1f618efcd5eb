"""Settings of the whole process, for the command line only: in a notebook they belong to the user."""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEEP_BYTES = 1 << 28
"""Freed memory that the process keeps, and the largest request that is served from it."""
KEEP_SHARE = 0.03
"""The same at most as a share of the memory that the user allows; each thread keeps so much."""


def configure_process(ram_bytes: int | None = None) -> None:
    """Apply the settings, before numpy is imported. Changes no result, and nothing that the user has set.

    ram_bytes: limit of the user, of which a small share is kept when it is freed.
    """
    # Work is spread over items, each computed by one thread; further ones of the library would wait, and busily.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.platform == "linux":
        _keep_freed_memory(KEEP_BYTES if ram_bytes is None else min(KEEP_BYTES, int(ram_bytes * KEEP_SHARE)))


def _keep_freed_memory(most_bytes: int) -> None:
    """Keep freed memory: the C library returns large arrays to the system, which clears their pages again for the next
    one, a tenth of the time of many images of one size."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # not every C library's
        library.mallopt(M_MMAP_THRESHOLD, most_bytes)
        library.mallopt(M_TRIM_THRESHOLD, most_bytes)
