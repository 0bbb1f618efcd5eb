"""Loops over independent items on the threads that the caller is lent, with results that do not depend on their number.

Since their number changes no result, functions do not take it as an argument: a stage lends what it has to all that it
calls,

    with lent_threads(resources.threads):
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


_lent = _Lent()


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


def even_blocks(count: int, most: int) -> list[range]:
    """0 ... count - 1 in blocks of at most so many, the same for every number of threads."""
    return [range(begin, min(begin + most, count)) for begin in range(0, count, most)]


def even_slices(count: int, most: int) -> list[slice]:
    """The same as slices of arrays."""
    return [slice(block.start, block.stop) for block in even_blocks(count, most)]
