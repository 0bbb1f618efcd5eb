"""The local executor: every item once, failures alone, memory running out, threads held."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from unposed.pipeline.cancel import Cancellation
from unposed.pipeline.errors import Interrupted, StoreError
from unposed.pipeline.executor import (
    BATCHES_PER_DEVICE,
    Argument,
    Item,
    Job,
    Local,
    Piece,
    Watch,
    is_out_of_memory,
    map_by,
    plan,
)
from unposed.pipeline.stage import Resources, StageError
from unposed.pipeline.threads import one_thread_each

GIB = 1 << 30


@dataclass(frozen=True)
class Squares:
    """Squares, one by one."""

    fail: Callable[[int], None] = lambda number: None
    seen: list[int] = field(default_factory=list)

    def __call__(self, number: int) -> int:
        self.seen.append(1)
        self.fail(number)
        return number**2


@dataclass(frozen=True)
class BatchSquares(Squares):
    """Squares, many at a time, with memory for `most`."""

    item_bytes: ClassVar[int] = GIB // 16
    most: int = 1000

    def batch(self, items: Sequence[tuple[int]], resources: Resources) -> list[int]:
        self.seen.append(len(items))
        if len(items) > self.most:
            raise MemoryError
        return [Squares(self.fail)(number) for (number,) in items]


def numbered(item: Item) -> dict[str, Argument]:
    """The number that an item reads."""
    return {"number": Argument(Piece(str(item[0]), lambda: item[0]))}


def run(stage: Any, count: int = 20, workers: int = 3, save: Callable[[Item, Any], None] | None = None) -> Any:
    """Results and failures of a stage over the numbers up to count."""
    results: dict[Item, Any] = {}
    job = Job(stage, [(i,) for i in range(count)], numbered, save or results.__setitem__, frozenset())
    outcomes = list(Local().run(job, Resources("cpu", workers, GIB, 0)))
    assert len(outcomes) == len({item for item, _ in outcomes}) == count
    return results, {item[0]: error for item, error in outcomes if error is not None}


def refuse(*numbers: int) -> Callable[[int], None]:
    """Raises for these."""

    def fail(number: int) -> None:
        if number in numbers:
            raise StageError(f"{number} is not square")

    return fail


@pytest.mark.parametrize("kind", [Squares, BatchSquares])
def test_one_bad_item_fails_alone(kind: type[Squares]) -> None:
    results, failures = run(kind(refuse(3, 7)))
    assert set(failures) == {3, 7} and all(isinstance(error, StageError) for error in failures.values())
    assert results == {(i,): i**2 for i in range(20) if i not in (3, 7)}


@pytest.mark.parametrize("most", [1, 2, 3])
def test_batches_are_halved_until_they_fit(most: int) -> None:
    stage = BatchSquares(most=most)
    results, failures = run(stage, workers=1)
    assert failures == {} and len(results) == 20
    assert stage.seen[0] == 16  # what the budget allows
    assert sum(size <= most for size in stage.seen) >= 20 // most
    assert sum(size > most for size in stage.seen) <= 4


def test_workers_are_halved_when_single_items_do_not_fit() -> None:
    busy, most, lock = [0], [0], threading.Lock()

    def crowded(number: int) -> None:
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
            full = busy[0] > 1
        time.sleep(0.01)
        with lock:
            busy[0] -= 1
        if full:
            raise MemoryError

    results, failures = run(Squares(crowded), workers=4)
    assert failures == {} and len(results) == 20 and most[0] > 1


def test_an_item_too_large_for_the_machine_fails_alone() -> None:
    def huge(number: int) -> None:
        if number == 5:
            raise MemoryError

    results, failures = run(Squares(huge))
    assert set(failures) == {5} and len(results) == 19


def test_a_full_store_ends_the_job() -> None:
    def save(item: Item, value: object) -> None:
        raise StoreError("full")

    with pytest.raises(StoreError):
        run(Squares(), save=save)


def test_the_budget_decides_how_many_at_once() -> None:
    class Large:
        item_bytes = GIB

    assert plan(Large(), Resources("cpu", 8, 3 * GIB, 0)) == (3, 1)
    assert plan(Large(), Resources("cpu", 8, GIB // 2, 0)) == (1, 1)
    assert plan(BatchSquares(), Resources("cpu", 2, GIB, 0)) == (2, 8)
    assert plan(BatchSquares(), Resources("cuda", 1, GIB, GIB // 8)) == (1, 2)
    assert plan(BatchSquares(), Resources("cuda", 8, GIB, GIB // 8)) == (2, 1)

    class Network(BatchSquares):
        cpu_batch = 1

    assert plan(Network(), Resources("cpu", 2, GIB, 0)) == (2, 1)
    assert plan(Network(), Resources("cuda", 8, GIB, GIB)) == (BATCHES_PER_DEVICE, 5)
    assert plan(Network(), Resources("cuda", 8, GIB, 0)) == (1, 1)


def test_items_that_take_much_to_read_take_turns() -> None:
    """Each fits, and a small one fits beside it, but no two of them do."""
    large, lock, together = {2, 3, 7}, threading.Lock(), []
    running: set[int] = set()

    def watch(number: int) -> None:
        with lock:
            running.add(number)
            together.append(set(running))
        time.sleep(0.01)
        with lock:
            running.discard(number)

    results: dict[Item, Any] = {}
    items = [(i,) for i in range(12)]
    needs = {item: GIB * 3 // 5 if item[0] in large else GIB // 8 for item in items}
    job = Job(Squares(watch), items, numbered, results.__setitem__, frozenset(), input_bytes=needs.__getitem__)
    assert len(list(Local().run(job, Resources("cpu", 4, GIB, 0)))) == len(results) == 12
    assert max(len(each) for each in together) > 1
    assert all(sum(needs[number,] for number in each) <= GIB for each in together)
    whole = Job(Squares(watch), items, numbered, results.__setitem__, frozenset(), input_bytes=lambda item: 2 * GIB)
    together.clear()
    list(Local().run(whole, Resources("cpu", 4, GIB, 0)))
    assert {len(each) for each in together} == {1}  # what never fits is tried alone


def test_items_that_may_hang_are_named_at_growing_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unposed.pipeline.executor.SLOW_S", 1.0)  # others take less, also on a busy machine
    monkeypatch.setattr("unposed.pipeline.executor.LOOK_S", 0.01)
    heard: list[tuple[list[Item], float]] = []
    named_twice = threading.Event()

    def slow(items: Sequence[Item], seconds: float) -> None:
        heard.append((list(items), seconds))
        if len(heard) == 2:
            named_twice.set()

    job = Job(
        Squares(lambda number: number != 3 or named_twice.wait(60.0)),
        [(i,) for i in range(5)],
        numbered,
        lambda item, value: None,
        frozenset(),
        Watch(slow=slow),
    )
    assert len(list(Local().run(job, Resources("cpu", 2, GIB, 0)))) == 5
    assert [items for items, _ in heard] == [[(3,)], [(3,)]]
    assert heard[1][1] >= 2 * heard[0][1] >= 2.0


def test_closing_saves_what_is_in_work_and_starts_nothing_else() -> None:
    results: dict[Item, Any] = {}
    stage = Squares(lambda number: time.sleep(0.02))
    job = Job(stage, [(i,) for i in range(50)], numbered, results.__setitem__, frozenset())
    with closing(Local().run(job, Resources("cpu", 2, GIB, 0))) as outcomes:
        next(outcomes)
    assert len(results) == len(stage.seen) <= 4


def test_out_of_memory_is_known_without_importing_torch() -> None:
    torch_error = type("OutOfMemoryError", (RuntimeError,), {"__module__": "torch"})
    assert is_out_of_memory(torch_error("CUDA out of memory"))
    assert is_out_of_memory(np._core._exceptions._ArrayMemoryError((1,), np.dtype(float)))  # type: ignore[attr-defined]
    assert not is_out_of_memory(RuntimeError("CUDA error"))


def test_libraries_have_one_thread_in_workers_and_their_own_afterwards() -> None:
    def threads() -> list[int]:
        np.ones((4, 4)) @ np.ones((4, 4))
        return [library["num_threads"] for library in threadpool_info()]

    with threadpool_limits(2):
        before, seen = threads(), []
        assert 2 in before
        with one_thread_each():
            run(Squares(lambda number: seen.append(threads())))
        assert all(set(each) <= {1} for each in seen)
        assert threads() == before


def test_threads_may_be_held_by_several_callers_at_once() -> None:
    """The limit lasts until the last of them has left, whichever began first."""

    def blas_threads() -> list[int]:
        np.ones((4, 4)) @ np.ones((4, 4))
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    before, inside, first_left = blas_threads(), threading.Event(), threading.Event()
    seen: list[list[int]] = []

    def second() -> None:
        with one_thread_each():
            inside.set()
            assert first_left.wait(60)
            seen.append(blas_threads())

    other = threading.Thread(target=second)
    with one_thread_each():
        other.start()
        assert inside.wait(60)
    first_left.set()
    other.join()
    assert seen and set(seen[0]) == {1}
    assert blas_threads() == before


def test_a_library_loaded_meanwhile_is_held_too_and_let_go() -> None:
    script = """
from threadpoolctl import threadpool_info
from unposed.pipeline.resources import cores
from unposed.pipeline.threads import one_thread_each
with one_thread_each():
    import numpy
    assert {library["num_threads"] for library in threadpool_info()} == {1}
assert {library["num_threads"] for library in threadpool_info()} == {cores()}
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@dataclass(frozen=True)
class Devices(Squares):
    """Notes which device had which items; six fit into its memory."""

    item_bytes: ClassVar[int] = GIB // 6
    where: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    busy: dict[str, int] = field(default_factory=dict)
    most: list[int] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)
    too_large: int = -1

    def batch(self, items: Sequence[tuple[int]], resources: Resources) -> list[int]:
        numbers = tuple(number for (number,) in items)
        with self.lock:
            self.busy[resources.device] = self.busy.get(resources.device, 0) + len(numbers)
            self.most.append(self.busy[resources.device])
        time.sleep(0.02)
        with self.lock:
            self.busy[resources.device] -= len(numbers)
        self.where.append((resources.device, numbers))
        if self.too_large in numbers:
            raise MemoryError
        return [number**2 for number in numbers]

    def __call__(self, number: int) -> int:
        if self.too_large == number:
            raise MemoryError
        return number**2


@pytest.mark.parametrize("devices", [(), ("cuda:0", "cuda:1"), ("cuda:0", "cuda:1", "cuda:2")])
def test_every_device_has_a_queue_of_its_own(devices: tuple[str, ...]) -> None:
    stage, results = Devices(), {}
    lent = Resources("cuda", 9, GIB, GIB, devices=devices)
    assert plan(stage, lent) == (BATCHES_PER_DEVICE * (len(devices) or 1), 2)
    job = Job(stage, [(i,) for i in range(24)], numbered, results.__setitem__, frozenset())
    assert all(error is None for _, error in Local().run(job, lent))
    assert results == {(i,): i**2 for i in range(24)}
    assert {device for device, _ in stage.where} == set(devices or ("cuda",))
    assert all(len(numbers) == 2 for _, numbers in stage.where)
    assert 2 < max(stage.most) <= 6  # several batches at a time, which share the memory


def test_what_is_too_large_for_one_device_takes_no_other_away() -> None:
    stage, results = Devices(too_large=5), {}
    lent = Resources("cuda", 8, GIB, GIB, devices=("cuda:0", "cuda:1"))
    job = Job(stage, [(i,) for i in range(40)], numbered, results.__setitem__, frozenset())
    failed = [item for item, error in Local().run(job, lent) if error is not None]
    assert failed == [(5,)] and len(results) == 39
    assert {device for device, _ in stage.where[-4:]} == {"cuda:0", "cuda:1"}


def half(number: int, resources: Resources) -> tuple[int, int]:
    """For `map`: the number and the threads it was lent."""
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2, resources.threads


def test_parts_of_a_collection_are_mapped_in_order() -> None:
    lent = Resources("cpu", 4, GIB, 0)
    assert lent.map(half, [6, 2]) == [(3, 4), (1, 4)]  # without an executor: one after the other
    spread = replace(lent, mapper=partial(map_by, Local(), lent, Watch()))
    assert spread.map(half, [6, 2]) == [(3, 2), (1, 2)]  # two at once, on two threads each
    assert spread.map(half, list(range(0, 40, 2))) == [(i, 1) for i in range(20)]
    assert spread.map(half, []) == []
    assert spread.map(half, [6, 2], item_bytes=GIB) == [(3, 4), (1, 4)]  # memory for one at a time
    steps: list[tuple[int, int, str]] = []
    for one in (lent, spread):
        replace(one, reporter=lambda *step: steps.append(step)).map(half, [2, 4], message="halving")
    assert steps == 2 * [(1, 2, "halving"), (2, 2, "halving")]
    with pytest.raises(ValueError, match="3 is odd"):
        spread.map(half, [2, 3, 5])
    assert pickle.loads(pickle.dumps(spread)).mapper is None


def test_a_map_can_be_stopped() -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    lent = Resources("cpu", 1, GIB, 0)
    with pytest.raises(Interrupted):
        map_by(Local(), lent, Watch(cancellation.check), half, [2, 4, 6], 1, lambda done: None)
