"""Stages over the collection use the threads that they are lent, and give the same bytes with any number of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
from worlds import mapper_inputs as inputs

from unposed.optim.bundle import block_products, normal_equations, observation_order, problem, schur
from unposed.optim.mapping import epipolar, initial_positions, relative_poses, triangulation
from unposed.pipeline.stage import Resources
from unposed.plugins.coarse.global_mapping import GlobalMapper
from unposed.plugins.doubts.doppelgangers import Doppelgangers
from unposed.plugins.fine.bundle import BundleAdjustment

SMALL_TASKS = (
    (block_products, "BATCH_SIZE", 256),
    (block_products, "BATCHES_AT_ONCE", 1),
    (epipolar, "MATCH_CHUNK", 500),
    (initial_positions, "CAMERA_CHUNK", 3),
    (initial_positions, "EDGE_CHUNK", 8),
    (observation_order, "CHUNK_SIZE", 500),
    (problem, "ROWS_AT_ONCE", 500),
    (relative_poses, "EDGES_PER_TASK", 8),
    (schur, "OWNERS_AT_ONCE", 4),
    (schur, "POINTS_AT_ONCE", 100),
    (triangulation, "RAY_CHUNK", 500),
    (triangulation, "TRACK_CHUNK", 50),
)
"""So that a small collection makes several tasks of every loop."""


def numbers(value: Any) -> Iterator[bytes]:
    """Bytes of all arrays and numbers of an artifact, in a fixed order."""
    if isinstance(value, np.ndarray):
        yield value.tobytes()
    elif is_dataclass(value):
        for each in fields(value):
            yield from numbers(getattr(value, each.name))
    elif isinstance(value, tuple):
        for each in value:
            yield from numbers(each)
    else:
        yield repr(value).encode()


def test_stages_give_the_same_bytes_with_any_number_of_threads(
    collection: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, size in SMALL_TASKS:
        monkeypatch.setattr(module, name, size)
    at_work: set[str] = set()
    linearize = normal_equations.linearize_reprojection

    def watched(*args: Any) -> Any:
        at_work.add(threading.current_thread().name)
        return linearize(*args)

    monkeypatch.setattr(normal_equations, "linearize_reprojection", watched)
    given = inputs(collection(photos=16, noise_px=0.5, wrong=0.05, points=600))
    results, helpers = [], []
    for threads in (1, 2, 7):
        at_work.clear()
        lent = Resources("cpu", threads=threads, ram_bytes=1 << 30, vram_bytes=0)
        doubts = Doppelgangers()(**given, resources=lent)
        coarse = GlobalMapper(thread_chunks=True)(**given, doubts=doubts, resources=lent)
        fine = BundleAdjustment(thread_chunks=True)(**given, doubts=doubts, coarse=coarse, resources=lent)
        results.append([*numbers(doubts), *numbers(coarse), *numbers(fine)])
        helpers.append(len(at_work - {threading.current_thread().name}))
    assert len(fine.models[0].photos) == 16
    assert results[0] == results[1] == results[2]
    assert helpers[0] == 0 and helpers[1] >= 2 and helpers[2] >= 3
