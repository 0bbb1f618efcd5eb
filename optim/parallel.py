"""Loops over independent items on the threads that the caller is lent, with results that do not depend on their number.

Since their number changes no result, functions do not take it as an argument: a stage lends what it has to all that it
calls,

    with lent_threads(resources.threads):
        adjust_bundle(bundle, options)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Lent(threading.local):
    """What the calling thread was lent: nothing, as long as nobody lends it anything, and so in threads of a pool."""

    pool: ThreadPoolExecutor | None = None
    threads: int = 1


_lent = _Lent()

SHARES = 8
"""Shares of a loop per thread: handing one out takes some 50 microseconds, and where they are few, threads wait for the
one that takes longest."""


@contextmanager
def lent_threads(threads: int) -> Iterator[None]:
    """Let `parallel_map` use so many threads where this thread calls it within the block. Within functions that it
    calls on them it uses no others, so that there are never more at work."""
    before = _lent.pool, _lent.threads
    _lent.pool, _lent.threads = None, threads
    try:
        if threads <= 1:
            yield
            return
        with ThreadPoolExecutor(threads, "unposed-loop") as _lent.pool:  # threads start when they are first needed
            yield
    finally:
        _lent.pool, _lent.threads = before


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The results of the items in their order.

    Worth it where the function spends its time in libraries that release the interpreter's lock, which numpy does in
    loops over more than a few hundred numbers, and takes a tenth of a millisecond at least. The first exception ends
    the loop and is raised.
    """
    if _lent.pool is None or len(items) <= 1:
        return [function(item) for item in items]

    def share(some: range) -> list[Result]:
        return [function(items[place]) for place in some]

    shares = even_blocks(len(items), -(-len(items) // (SHARES * _lent.threads)))
    return list(chain.from_iterable(_lent.pool.map(share, shares)))


def even_blocks(count: int, most: int) -> list[range]:
    """0 ... count - 1 in blocks of at most so many, the same for every number of threads."""
    return [range(begin, min(begin + most, count)) for begin in range(0, count, most)]


def even_slices(count: int, most: int) -> list[slice]:
    """The same as slices of arrays."""
    return [slice(block.start, block.stop) for block in even_blocks(count, most)]
