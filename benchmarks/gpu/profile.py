"""Part g: where the time goes: kernels of one pair and of one step of adjustment by share, and idle time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from unposed.gpu_check import knows, synchronize
from unposed.networks.mast3r.images import ImageFrame
from unposed.optim.bundle.adjust import INITIAL_DAMPING
from unposed.optim.bundle.adjust_torch import TorchProblem
from unposed.optim.bundle.objective import build_objective, bundle_state
from unposed.pipeline.stage import Sides
from unposed.plugins.matching.dense import BY_DESCRIPTOR, ImageTokens, depth_grid, match_prediction, predict_pairs

from .adjustment import OPTIONS, SIZES, SMALL_SIZES, bundle_of
from .networks import full_config, network_of
from .setting import Absent, Case, Figure, Finding, Setting

LISTED = 8
"""Kernels that are named."""
NAME_LENGTH = 40


def cases(setting: Setting) -> Iterator[Case]:
    """A pair as the stage matches it, without the photos' files; and a step."""
    yield "one pair, from tokens to matches", partial(_pair, setting)
    yield "one step of adjustment", partial(_step, setting)
    bundle_of.cache_clear()


def _pair(setting: Setting) -> Finding:
    _, size = full_config(setting)
    network = network_of(setting, "bfloat16" if knows(setting.device, "bfloat16") else "float16")
    frame = ImageFrame(size, (0.5, 0.5), (1.0, 1.0))
    tokens = torch.randn(2, size[0] * size[1] // 256, network.config.encoder.width)
    sides = Sides(*(ImageTokens(each, frame) for each in tokens))

    def work() -> None:
        (seen,) = predict_pairs(network, [sides])
        match_prediction(seen, BY_DESCRIPTOR, 8)
        for own in (seen.a_in_a, seen.b_in_b):
            depth_grid(own, frame, lambda xy: xy[:, 0] == xy[:, 0], 8)

    return _profiled(setting, work)


def _step(setting: Setting) -> Finding:
    bundle = bundle_of(*list((SMALL_SIZES if setting.small else SIZES).values())[1])
    objective = build_objective(bundle, OPTIONS, block_size=len(bundle.xy))
    with torch.no_grad():
        problem = TorchProblem(objective, setting.device, len(bundle.points))
        state = bundle_state(bundle, objective.order)
        state = replace(state, points=problem.layout.to_device(state.points))

        def work() -> None:
            trial = problem.step(state, problem.linearize(state), INITIAL_DAMPING)
            if trial is not None:
                problem.cost(trial)

        return _profiled(setting, work)


def _profiled(setting: Setting, work: Callable[[], None]) -> Finding:
    work()
    synchronize(setting.device)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if setting.on_gpu else [])]
    with profile(activities=kinds) as seen:
        work()
        synchronize(setting.device)
    if not setting.on_gpu:
        averages: list[tuple[str, float]] = [(each.key, each.self_cpu_time_total) for each in seen.key_averages()]
        return Finding(_shares(averages, sum(time for _, time in averages)))
    events = [each for each in seen.events() if each.device_type == DeviceType.CUDA]
    if not events:
        raise Absent("not run: the profiler sees nothing of the device (CUPTI missing, or not allowed to its counters)")
    by_name: dict[str, float] = {}
    for each in events:
        by_name[each.name] = by_name.get(each.name, 0.0) + each.time_range.elapsed_us()
    busy, span = _busy_us(events)
    figures = {"ms": 1e-3 * span, "kernels": len(events), "idle": 1.0 - busy / span}
    return Finding(figures | _shares(list(by_name.items()), busy), {"idle": 0.15})


def _shares(times: list[tuple[str, float]], whole: float) -> dict[str, Figure]:
    """Of the longest, by name."""
    longest = sorted(times, key=lambda each: -each[1])[:LISTED]
    return {f"`{name[:NAME_LENGTH]}`": time / whole for name, time in longest}


def _busy_us(events: list[Any]) -> tuple[float, float]:
    """How long any kernel or copy ran, and from the first to the last."""
    busy, end = 0.0, -float("inf")
    ranges = sorted((each.time_range.start, each.time_range.end) for each in events)
    for start, stop in ranges:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return busy, end - ranges[0][0]
