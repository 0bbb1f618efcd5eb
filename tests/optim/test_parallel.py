"""Parallel loops give what plain loops give, and so do the steps of mapping that run in them."""

from __future__ import annotations

import numpy as np
import pytest

from unposed.optim.doppelgangers.missing_correspondences import score_pairs
from unposed.optim.doppelgangers.options import DoppelgangerOptions
from unposed.optim.mapping import relative_poses
from unposed.optim.mapping.relative_poses import estimate_relative_poses
from unposed.optim.parallel import even_blocks, parallel_map
from unposed.optim.view_graph import Keypoints, build_view_graph
from unposed.synthetic.collections import emulate_collection


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_results_are_in_order(threads: int, count: int) -> None:
    assert parallel_map(lambda x: x * x, range(count), threads) == [x * x for x in range(count)]


def test_the_first_exception_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        parallel_map(lambda x: 1 // x, [1, 0, 2], 2)


@pytest.mark.parametrize(("count", "most"), [(0, 4), (3, 4), (4, 4), (9, 4)])
def test_blocks_cover_everything_once(count: int, most: int) -> None:
    blocks = even_blocks(count, most)
    assert [i for block in blocks for i in block] == list(range(count))
    assert all(0 < len(block) <= most for block in blocks)


def test_steps_of_mapping_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relative_poses, "EDGES_PER_TASK", 16)  # several tasks in a small collection
    made = emulate_collection("aerial", 24)
    keypoints = Keypoints(made.xy, made.start, made.size)
    graph = build_view_graph(keypoints, made.pairs, made.match_count, made.row_a, made.row_b)
    lens = np.array([[made.focal_px, made.focal_px, 800.0, 600.0, 0.0, 0.0, 0.0, 0.0]])
    one, many = (
        estimate_relative_poses(graph, ("PINHOLE",), lens, np.zeros(24, int), max_error_px=2.0, threads=threads)
        for threads in (1, 3)
    )
    assert one.edge.tobytes() == many.edge.tobytes()
    assert one.b_from_a.tobytes() == many.b_from_a.tobytes() and one.weight.tobytes() == many.weight.tobytes()
    assert len(one.edge) > 40
    first, second = (score_pairs(graph, DoppelgangerOptions(), threads) for threads in (1, 3))
    assert first[0].tobytes() == second[0].tobytes() and first[1].tobytes() == second[1].tobytes()
