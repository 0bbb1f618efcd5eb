"""Executors run one stage over many items. `local` uses the threads of this machine.

Threads, since what is slow here (array kernels, OpenCV, poselib, pycolmap) lets go of the interpreter's lock. Every
item runs with single-threaded libraries, so results are the same bits whatever the number of workers.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from .errors import UnposedError
from .stage import Resources
from .threads import hold_this_thread

Item = tuple[int, ...]
Outcomes = dict[Item, Exception | None]
OutcomeStream = Generator[tuple[Item, Exception | None], None, None]

MAX_BATCH = 64


@dataclass(frozen=True)
class Job:
    """One stage over many items. `load` and `save` may be called from any thread."""

    stage: Any
    items: Sequence[Item]
    load: Callable[[Item], dict[str, Any]]
    """The arguments of an item by name, in signature order, without the lent ones."""
    save: Callable[[Item, Any], None]
    """Keeps the result for good; an item is finished when it returns."""
    lent: frozenset[str]
    """Parameters that want the Resources."""


class Executor(Protocol):
    """What a plugin of the slot `executor` is."""

    def run(self, job: Job, resources: Resources) -> OutcomeStream:
        """Every item once, in any order, as it finishes: with None, or with what went wrong with it.

        Only an UnposedError (the store is full, say) ends the job. Closing the generator, or KeyboardInterrupt in it,
        lets the items in work finish and be saved, and starts no others.
        """


@dataclass(frozen=True)
class Local:
    """Worker threads on this machine: as many as there are, fewer where their memory would not fit."""

    def run(self, job: Job, resources: Resources) -> OutcomeStream:
        """See Executor."""
        width, size = plan(job.stage, resources)
        waiting = deque(job.items)
        running: dict[Future[tuple[Outcomes, Exception | None]], tuple[list[Item], int]] = {}
        with ThreadPoolExecutor(width, "unposed") as pool:
            while waiting or running:
                while waiting and len(running) < width:
                    batch = [waiting.popleft() for _ in range(min(size, len(waiting)))]
                    lent = replace(resources, threads=1, ram_bytes=resources.ram_bytes // width)
                    running[pool.submit(work, job, batch, lent)] = batch, width
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    batch, neighbours = running.pop(future)
                    outcomes, short_of_memory = future.result()
                    yield from outcomes.items()
                    if short_of_memory is None:
                        continue
                    _free_memory()
                    if len(batch) > 1:  # first smaller bites, then fewer mouths
                        size = min(size, len(batch) // 2)
                    elif neighbours == 1:
                        yield batch[0], short_of_memory
                        continue
                    elif neighbours == width:  # or else it is a victim of a crowd that has been halved already
                        width //= 2
                    waiting.extendleft(item for item in reversed(batch) if item not in outcomes)


def plan(stage: Any, resources: Resources) -> tuple[int, int]:
    """How many batches at once and how many items in each, such that their working memory fits."""
    item_bytes = max(1, int(getattr(stage, "item_bytes", 1)))
    batched = hasattr(stage, "batch")
    if batched and resources.device != "cpu":  # one queue of work per device
        return 1, max(1, min(MAX_BATCH, resources.vram_bytes // item_bytes))
    room = max(1, resources.ram_bytes // item_bytes)
    width = max(1, min(resources.threads, room))
    most = min(MAX_BATCH, int(getattr(stage, "cpu_batch", MAX_BATCH)))
    return width, max(1, min(most, room // width)) if batched else 1


def work(job: Job, batch: Sequence[Item], resources: Resources) -> tuple[Outcomes, Exception | None]:
    """Computes and saves a batch; an item that cannot be loaded, computed or saved fails alone.

    If memory runs out, the second value is the exception, and the outcomes are those known by then. (It is returned,
    not raised: a traceback would keep the arguments in memory.)
    """
    hold_this_thread()
    outcomes: Outcomes = {}

    @contextmanager
    def blaming(item: Item) -> Iterator[None]:
        try:
            yield
        except UnposedError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            outcomes[item] = error

    arguments: dict[Item, dict[str, Any]] = {}
    try:
        for item in batch:
            with blaming(item):
                arguments[item] = job.load(item)
        values = _together(job.stage, arguments, resources)
        for item in arguments:
            with blaming(item):
                value = values[item] if values else call(job.stage, arguments[item], job.lent, resources)
                job.save(item, value)
                outcomes[item] = None
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        error.__context__ = error.__cause__ = None
        return outcomes, error.with_traceback(None)
    return outcomes, None


def call(stage: Any, arguments: Mapping[str, Any], lent: frozenset[str], resources: Resources) -> Any:
    """The stage's value for one item."""
    return stage(**arguments, **dict.fromkeys(lent, resources))


def is_out_of_memory(error: Exception) -> bool:
    """Whether less at once may help; knows torch's and OpenCV's own exceptions without importing them."""
    kind = type(error)
    torch_says = kind.__name__ == "OutOfMemoryError" and kind.__module__.partition(".")[0] == "torch"
    opencv_says = kind.__module__ == "cv2" and getattr(error, "code", 0) == -4  # StsNoMem
    return isinstance(error, MemoryError) or torch_says or opencv_says


def _together(stage: Any, arguments: Mapping[Item, Mapping[str, Any]], resources: Resources) -> dict[Item, Any] | None:
    """The values of a whole batch at once, or None if that is not to be had."""
    if not arguments or not hasattr(stage, "batch"):
        return None
    try:
        values = stage.batch([tuple(each.values()) for each in arguments.values()], resources)
        return dict(zip(arguments, values, strict=True))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return None  # one item is to blame, and going one by one shows which


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
