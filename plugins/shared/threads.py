"""What the items of a batch need of the CPU, on the threads that the batch is lent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from unposed.pipeline.threads import hold_this_thread

T = TypeVar("T")
R = TypeVar("R")


def on_threads(function: Callable[[T], R], items: Sequence[T], threads: int) -> list[R]:
    """The function of every item, in order; photos are decoded so, which releases the interpreter's lock."""
    if threads < 2 or len(items) < 2:
        return list(map(function, items))
    with ThreadPoolExecutor(min(threads, len(items)), "unposed-batch", hold_this_thread) as pool:
        return list(pool.map(function, items))
