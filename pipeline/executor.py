"""Run one stage over many items. The executor `local` uses the threads of this machine.

Threads suffice, since the slow parts (array kernels, OpenCV, poselib, pycolmap) release the interpreter's lock. Every
item runs with single-threaded libraries, so results have the same bits for every number of workers.
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
    """Stores the result; an item is finished when this returns."""
    lent: frozenset[str]
    """Parameters that receive the Resources."""


class Executor(Protocol):
    """Slot `executor`: run one stage over many items."""

    def run(self, job: Job, resources: Resources) -> OutcomeStream:
        """Yield every item once, in any order, as it finishes: with None, or with its exception.

        Only an UnposedError (such as a full store) ends the job. Closing the generator, or KeyboardInterrupt in it,
        lets the items being computed finish and be saved, and starts no others.
        """


@dataclass(frozen=True)
class Local:
    """Worker threads on this machine: one per core, fewer where their memory would not fit."""

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
                    if len(batch) > 1:  # halve the batch first, then the workers
                        size = min(size, len(batch) // 2)
                    elif neighbours == 1:
                        yield batch[0], short_of_memory
                        continue
                    elif neighbours == width:  # else the workers were halved already after it began
                        width //= 2
                    waiting.extendleft(item for item in reversed(batch) if item not in outcomes)


def plan(stage: Any, resources: Resources) -> tuple[int, int]:
    """Choose the number of concurrent batches and of items in each, such that their working memory fits."""
    item_bytes = max(1, int(getattr(stage, "item_bytes", 1)))
    batched = hasattr(stage, "batch")
    if batched and resources.device != "cpu":  # one queue of work per device
        return 1, max(1, min(MAX_BATCH, resources.vram_bytes // item_bytes))
    room = max(1, resources.ram_bytes // item_bytes)
    width = max(1, min(resources.threads, room))
    most = min(MAX_BATCH, int(getattr(stage, "cpu_batch", MAX_BATCH)))
    return width, max(1, min(most, room // width)) if batched else 1


def work(job: Job, batch: Sequence[Item], resources: Resources) -> tuple[Outcomes, Exception | None]:
    """Compute and save a batch; an item that cannot be loaded, computed or saved fails alone.

    If memory runs out, the second value is the exception, and the first has the outcomes up to then. (It is returned,
    not raised: a traceback would keep the arguments in memory.)
    """
    hold_this_thread()
    outcomes: Outcomes = {}

    @contextmanager
    def attributed_to(item: Item) -> Iterator[None]:
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
            with attributed_to(item):
                arguments[item] = job.load(item)
        values = _together(job.stage, arguments, resources)
        for item in arguments:
            with attributed_to(item):
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
    """Call the stage for one item."""
    return stage(**arguments, **dict.fromkeys(lent, resources))


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, so that fewer items at once may help; covers torch and OpenCV without importing them."""
    kind = type(error)
    is_torch = kind.__name__ == "OutOfMemoryError" and kind.__module__.partition(".")[0] == "torch"
    is_opencv = kind.__module__ == "cv2" and getattr(error, "code", 0) == -4  # StsNoMem
    return isinstance(error, MemoryError) or is_torch or is_opencv


def _together(stage: Any, arguments: Mapping[Item, Mapping[str, Any]], resources: Resources) -> dict[Item, Any] | None:
    """Compute a whole batch in one call; None if the stage has no `batch`, or it fails."""
    if not arguments or not hasattr(stage, "batch"):
        return None
    try:
        values = stage.batch([tuple(each.values()) for each in arguments.values()], resources)
        return dict(zip(arguments, values, strict=True))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return None  # one item is the cause, and single calls show which


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
