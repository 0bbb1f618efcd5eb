"""Loops over independent items on the threads that the caller is lent, with results that do not depend on their number.

Since their number changes no result, functions do not take it as an argument: a stage lends what it has to all that it
calls,

    with lent_threads(resources.threads, hold_this_thread):
        adjust_bundle(bundle, options)
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Lent(threading.local):
    """What the calling thread was lent: nothing, as long as nobody lends it anything, and so in threads of a pool."""

    pool: ThreadPoolExecutor | None = None
    threads: int = 1
    chunks: bool = False


_lent = _Lent()


@contextmanager
def lent_threads(threads: int, begin: Callable[[], object] | None = None, chunks: bool = False) -> Iterator[None]:
    """Let `parallel_map`, and with `chunks` also `chunk_map`, use so many threads where this thread calls it within the
    block. Within functions that it calls on them it uses no others, so that there are never more at work.

    Each thread calls `begin` first: libraries whose number of threads is set thread by thread are limited there.
    """
    before = _lent.pool, _lent.threads, _lent.chunks
    _lent.pool, _lent.threads, _lent.chunks = None, threads, chunks
    try:
        if threads <= 1:
            yield
            return
        # Its threads start when they are first needed.
        with ThreadPoolExecutor(threads, "unposed-loop", begin) as _lent.pool:
            yield
    finally:
        _lent.pool, _lent.threads, _lent.chunks = before


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The results of the items in their order.

    Worth it where the function spends its time in libraries that release the interpreter's lock, which numpy does in
    loops over more than a few hundred numbers, and takes a tenth of a millisecond at least. An exception ends the
    loop and is raised.
    """
    if _lent.pool is None or len(items) <= 1:
        return [function(item) for item in items]
    left, results = deque(enumerate(items)), dict[int, Result]()

    def work() -> None:  # one task per thread, which takes items by itself: a task per item would cost far more
        while True:
            try:
                place, item = left.popleft()
            except IndexError:
                return
            try:
                results[place] = function(item)
            except BaseException:
                left.clear()
                raise

    for done in [_lent.pool.submit(work) for _ in range(min(_lent.threads, len(items)))]:
        done.result()
    return [results[place] for place in range(len(items))]


def chunk_map(function: Callable[[Item], Result], chunks: Sequence[Item]) -> list[Result]:
    """The same for chunks of arrays, which take numpy less than a millisecond each: threads then wait for the
    interpreter's lock so much that two cores are hardly faster than one, and slower in small problems."""
    return parallel_map(function, chunks) if _lent.chunks else [function(chunk) for chunk in chunks]


def even_blocks(count: int, most: int) -> list[range]:
    """0 ... count - 1 in blocks of at most so many, the same for every number of threads."""
    return [range(begin, min(begin + most, count)) for begin in range(0, count, most)]


def even_slices(count: int, most: int) -> list[slice]:
    """The same as slices of arrays."""
    return [slice(block.start, block.stop) for block in even_blocks(count, most)]
