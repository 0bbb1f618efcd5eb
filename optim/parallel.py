"""Loops over independent items on several threads, with results that do not depend on their number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """The results of the items in their order.

    Worth it where the function spends its time in libraries that release the interpreter's lock. The first exception
    ends the loop and is raised.
    """
    if threads <= 1 or len(items) <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(threads, len(items)), "unposed-loop") as pool:
        return list(pool.map(function, items))


def even_blocks(count: int, most: int) -> list[range]:
    """0 ... count - 1 in blocks of at most so many, the same for every number of threads."""
    return [range(begin, min(begin + most, count)) for begin in range(0, count, most)]
