"""Parallel loops give what plain loops give, and so do the steps of mapping that run in them."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from unposed.optim.mapping import relative_poses
from unposed.optim.mapping.relative_poses import estimate_relative_poses
from unposed.optim.parallel import chunk_map, even_blocks, lent_threads, parallel_map
from unposed.optim.view_graph import Keypoints, build_view_graph
from unposed.synthetic.collections import emulate_collection


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_results_are_in_order(threads: int, count: int) -> None:
    with lent_threads(threads):
        assert parallel_map(lambda x: x * x, range(count)) == [x * x for x in range(count)]


def test_the_first_exception_is_raised() -> None:
    with lent_threads(2), pytest.raises(ZeroDivisionError):
        parallel_map(lambda x: 1 // x, [1, 0, 2])


def test_each_thread_begins_as_it_is_told() -> None:
    begun: list[str] = []
    with lent_threads(3, lambda: begun.append(threading.current_thread().name)):
        parallel_map(lambda _: time.sleep(0.01), range(9))
    assert len(begun) == len(set(begun)) == 3


def test_no_more_threads_than_lent_are_at_work() -> None:
    def names(_: int) -> set[str]:
        time.sleep(0.01)
        return {threading.current_thread().name, *parallel_map(lambda _: threading.current_thread().name, range(5))}

    own = {threading.current_thread().name}
    assert set().union(*parallel_map(names, range(5))) == own, "nothing was lent"
    with lent_threads(3):
        inside = parallel_map(names, range(9))
        with lent_threads(1):
            assert set().union(*parallel_map(names, range(5))) == own, "one is the thread itself"
        assert len(set().union(*parallel_map(names, range(9))) - own) == 3, "and then three again"
    assert all(len(each) == 1 for each in inside), "functions on a thread use no others"
    assert len(set().union(*inside) - own) == 3
    assert set().union(*parallel_map(names, range(5))) == own


def test_chunks_are_left_to_threads_only_where_these_are_lent_for_them() -> None:
    def names(_: int) -> str:
        time.sleep(0.01)
        return threading.current_thread().name

    own = {threading.current_thread().name}
    with lent_threads(3):
        assert set(chunk_map(names, range(5))) == own
    with lent_threads(3, chunks=True):
        assert len(set(chunk_map(names, range(9))) - own) == 3
        with lent_threads(3):
            assert set(chunk_map(names, range(5))) == own
    assert set(chunk_map(names, range(5))) == own


@pytest.mark.parametrize(("count", "most"), [(0, 4), (3, 4), (4, 4), (9, 4)])
def test_blocks_cover_everything_once(count: int, most: int) -> None:
    blocks = even_blocks(count, most)
    assert [i for block in blocks for i in block] == list(range(count))
    assert all(0 < len(block) <= most for block in blocks)


def test_relative_poses_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relative_poses, "EDGES_PER_TASK", 16)  # several tasks in a small collection
    made = emulate_collection("aerial", 24)
    keypoints = Keypoints(made.xy, made.start, made.size)
    graph = build_view_graph(keypoints, made.pairs, made.match_count, made.row_a, made.row_b)
    lens = np.array([[made.focal_px, made.focal_px, 800.0, 600.0, 0.0, 0.0, 0.0, 0.0]])

    def run(threads: int) -> list[NDArray[np.generic]]:
        with lent_threads(threads):
            found = estimate_relative_poses(graph, ("PINHOLE",), lens, np.zeros(24, int), max_error_px=2.0)
            return [found.edge, found.b_from_a, found.weight]

    one, many = run(1), run(3)
    assert len(one[0]) > 40
    assert [each.tobytes() for each in one] == [each.tobytes() for each in many]
