"""Run one stage over many items. The executor `local` uses the threads of this machine, and all GPUs it is lent, of
which each has a few batches in progress.

Threads suffice, since the slow parts (array kernels, OpenCV, poselib, pycolmap) release the interpreter's lock. Every
item runs with single-threaded libraries, so results have the same bits for every number of workers.
"""

from __future__ import annotations

import gc
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from .errors import UnposedError
from .freed_memory import give_back_freed_memory
from .stage import Resources, Sides
from .threads import hold_this_thread

Item = tuple[int, ...]
Outcomes = dict[Item, Exception | None]
OutcomeStream = Generator[tuple[Item, Exception | None], None, None]

MAX_BATCH = 64
SLOW_S, LOOK_S = 300.0, 20.0
"""Seconds after which an item is reported as slow, and between two looks. The slowest items of ours take a minute."""

BATCHES_PER_DEVICE = 3
"""Batches in progress on a device at a time. While it computes one, the next is read and decoded, and what came of the
last one is searched and stored: a photo of 12 megapixels takes a core 0.1 s to decode and reduce, and a fast GPU 2 ms
to encode. The batches share the threads of the run for what they do on the CPU, and the memory of the device."""


@dataclass(frozen=True)
class Piece:
    """One value that items read, by a key: pieces of the same key are equal, so that what has been sent to another
    machine once need not be sent again."""

    key: str
    get: Callable[[], Any]
    """The value; from any thread of this process."""


class Argument:
    """What an item reads through one parameter: a value, or one value per photo of the item."""

    __slots__ = ("container", "pieces")

    def __init__(self, *pieces: Piece, container: type[Sides[Any]] | type[tuple[Any, ...]] | None = None) -> None:
        self.pieces, self.container = pieces, container

    def value(self) -> Any:
        """The argument as the stage receives it."""
        return put_together(self.container, [piece.get() for piece in self.pieces])


def put_together(container: type | None, values: Sequence[Any]) -> Any:
    """One value as it is, those of a pair as Sides, those of a group as a tuple."""
    if container is None:
        return values[0]
    return Sides(*values) if container is Sides else tuple(values)


@dataclass(frozen=True)
class Watch:
    """How an executor is stopped, and whom it tells what."""

    check: Callable[[], None] = lambda: None
    """Raises Interrupted if the run was cancelled; for executors that wait long."""
    note: Callable[[str], None] = lambda line: None
    """Hears one line for the user about what the run goes on without, such as a machine."""
    account: Callable[[str, int, float], None] = lambda machine, items, cpu_s: None
    """Hears how many items a process on a machine has computed, and its CPU seconds. This process is metered anyway."""
    slow: Callable[[Sequence[Item], float], None] = lambda items, seconds: None
    """Hears which items have been computed for so many seconds, at growing intervals: they may hang."""


@dataclass(frozen=True)
class Job:
    """One stage over many items. `read` and `save` may be called from any thread of this process."""

    stage: Any
    items: Sequence[Item]
    read: Callable[[Item], dict[str, Argument]]
    """The arguments of an item by name, in signature order, without the lent ones."""
    save: Callable[[Item, Any], None]
    """Stores the result; an item is finished when this returns."""
    lent: frozenset[str]
    """Parameters that receive the Resources."""
    watch: Watch = Watch()
    input_bytes: Callable[[Item], int] = lambda item: 0
    """Memory that it takes to read what an item is made of, such as to decode its photo."""


class Executor(Protocol):
    """Slot `executor`: run one stage over many items."""

    def run(self, job: Job, resources: Resources) -> OutcomeStream:
        """Yield every item once, in any order, as it finishes: with None, or with its exception.

        Only an UnposedError (such as a full store) ends the job. Closing the generator, or KeyboardInterrupt in it,
        lets the items being computed finish and be saved, and starts no others.
        """


@dataclass
class _Running:
    """A batch that is being computed."""

    batch: list[Item]
    neighbours: int
    """Batches that could be computed at once when it began."""
    device: str
    taken: int
    """Bytes of memory that it is expected to take."""
    since: float = field(default_factory=time.monotonic)
    patience_s: float = field(default_factory=lambda: SLOW_S)

    def report(self, watch: Watch) -> None:
        seconds = time.monotonic() - self.since
        if seconds >= self.patience_s:
            self.patience_s = 2.0 * seconds
            watch.slow(self.batch, seconds)


@dataclass(frozen=True)
class Local:
    """Worker threads on this machine: one per core, fewer where their memory would not fit."""

    def run(self, job: Job, resources: Resources) -> OutcomeStream:
        """See Executor."""
        width, size = plan(job.stage, resources)
        on_devices = _on_devices(job.stage, resources)
        item_bytes = _item_bytes(job.stage)
        devices = _devices(resources) if on_devices else (resources.device,)
        alone = len(devices) if on_devices else 1
        vram_bytes = resources.vram_bytes * alone // width if alone < width else resources.vram_bytes
        busy: Counter[str] = Counter()
        few = max(1, min(width, len(job.items)))
        several = isinstance(job.stage, Mapped) or on_devices
        threads = max(1, resources.threads // few) if several else 1
        waiting, largest = deque(job.items), 0
        running: dict[Future[tuple[Outcomes, Exception | None]], _Running] = {}
        with ThreadPoolExecutor(width, "unposed") as pool:
            while waiting or running:
                while waiting and len(running) < width:
                    batch = [waiting[number] for number in range(min(size, len(waiting)))]
                    taken = _working_bytes(job, batch, 0 if on_devices else item_bytes)
                    # An item that takes more than the others, such as a huge photo, waits until they leave it the room.
                    if running and sum(each.taken for each in running.values()) + taken > resources.ram_bytes:
                        break
                    for _ in batch:
                        waiting.popleft()
                    device = min(devices, key=busy.__getitem__)
                    busy[device] += 1
                    ram_bytes = resources.ram_bytes // width
                    lent = replace(
                        resources, device=device, threads=threads, ram_bytes=ram_bytes, vram_bytes=vram_bytes
                    )
                    running[pool.submit(work, job, batch, lent)] = _Running(batch, width, device, taken)
                    largest = max(largest, taken)
                done = wait(running, timeout=LOOK_S, return_when=FIRST_COMPLETED).done
                for each in running.values():
                    each.report(job.watch)
                for future in done:
                    was = running.pop(future)
                    batch, neighbours = was.batch, was.neighbours
                    busy[was.device] -= 1
                    outcomes, short_of_memory = future.result()
                    yield from outcomes.items()
                    if short_of_memory is None:
                        continue
                    _free_memory()
                    if len(batch) > 1:  # halve the batch first, then the workers
                        size = min(size, len(batch) // 2)
                    elif neighbours <= alone:  # devices share no memory
                        yield batch[0], short_of_memory
                        continue
                    elif neighbours == width:  # else the workers were halved already after it began
                        width = max(alone, width // 2)
                    waiting.extendleft(item for item in reversed(batch) if item not in outcomes)
        if largest > resources.ram_bytes // resources.threads:  # what the next stage's threads count on
            give_back_freed_memory()


def plan(stage: Any, resources: Resources) -> tuple[int, int]:
    """Choose the number of concurrent batches and of items in each, such that their working memory fits."""
    item_bytes = _item_bytes(stage)
    batched = hasattr(stage, "batch")
    if _on_devices(stage, resources):
        devices, room = len(_devices(resources)), max(1, resources.vram_bytes // item_bytes)
        batches = max(1, min(BATCHES_PER_DEVICE, resources.threads // devices, room))
        return batches * devices, min(MAX_BATCH, room // batches)
    room = max(1, resources.ram_bytes // item_bytes)
    width = max(1, min(resources.threads, room))
    most = min(MAX_BATCH, int(getattr(stage, "cpu_batch", MAX_BATCH)))
    return width, max(1, min(most, room // width)) if batched else 1


def _working_bytes(job: Job, batch: Sequence[Item], item_bytes: int) -> int:
    """Memory of this machine that a batch takes: to compute it, or before that to read its inputs, one by one."""
    return max(item_bytes * len(batch), *map(job.input_bytes, batch))


def _item_bytes(stage: Any) -> int:
    return max(1, int(getattr(stage, "item_bytes", 1)))


def _on_devices(stage: Any, resources: Resources) -> bool:
    return hasattr(stage, "batch") and resources.device != "cpu"


def _devices(resources: Resources) -> tuple[str, ...]:
    return resources.devices or (resources.device,)


def map_by(
    executor: Executor,
    resources: Resources,
    watch: Watch,
    function: Callable[[Any, Resources], Any],
    items: Sequence[Any],
    item_bytes: int,
    finished: Callable[[int], None],
) -> list[Any]:
    """`Resources.map` by an executor: the function is a stage, and every value an item of its own."""
    results: dict[Item, Any] = {}
    errors: dict[Item, Exception] = {}
    name = uuid.uuid4().hex  # the values have no keys, and may be large

    def read(item: Item) -> dict[str, Argument]:
        return {"item": Argument(Piece(f"{name} {item[0]}", partial(items.__getitem__, item[0])))}

    numbers = [(number,) for number in range(len(items))]
    job = Job(Mapped(function, item_bytes), numbers, read, results.__setitem__, frozenset({"resources"}), watch)
    with closing(executor.run(job, resources)) as outcomes:
        for done, (item, error) in enumerate(outcomes, start=1):
            watch.check()
            finished(done)
            if error is not None:
                errors[item] = error
    if errors:
        raise errors[min(errors)]
    return [results[item] for item in numbers]


@dataclass(frozen=True)
class Mapped:
    """The function of a `Resources.map` in the form of a stage."""

    function: Callable[[Any, Resources], Any]
    item_bytes: int = 1

    def __call__(self, item: Any, resources: Resources) -> Any:
        return self.function(item, resources)


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
                arguments[item] = {name: each.value() for name, each in job.read(item).items()}
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
    give_back_freed_memory()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
