"""Part c: matching on the device: pairs per second, and bytes moved against the bandwidth of its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unposed.gpu_check import seconds_of
from unposed.optim.pair.matching import byte_rows, mutual_nearest, unit_rows
from unposed.optim.pair.reciprocal_matching import seed_grid
from unposed.optim.pair.reciprocal_on_device import (
    DenseSides,
    kernel_runs_on,
    nearest_by_distance,
    nearest_by_product,
    reciprocal_both_ways_on_device,
)
from unposed.retrieval.device_candidates import search_on_device

from .setting import Absent, Case, Figure, Finding, Setting, problem_of
from .work import Work, descriptor_work, reciprocal_work, words_work

SEED_PX, DIMS = 8, 24


def cases(setting: Setting) -> Iterator[Case]:
    """Dense matching first."""
    for kind in ("smooth", "random"):
        yield f"reciprocal matching of a pair, {kind} descriptors", partial(_reciprocal, setting, kind)
    yield "reciprocal matching of a pair, points", partial(_points, setting)
    yield "one round of seeds, similarities written out", partial(_one_round, setting, True)
    yield "one round of seeds, the kernel", partial(_one_round, setting, False)
    for kind in ("bytes", "floats"):
        yield f"mutual descriptors of a pair, {kind}", partial(_descriptors, setting, kind)
    yield "visual words of a photo (ASMK)", partial(_words, setting)


def _size(setting: Setting) -> tuple[int, int]:
    return (48, 64) if setting.small else (384, 512)


def _maps(setting: Setting, kind: str) -> list[DenseSides]:
    """Two decodings of a pair. Smooth descriptors attract seeds to few pixels, as those of photos do."""
    height, width = _size(setting)
    random = torch.Generator().manual_seed(0)
    shape = (4, DIMS, height // 8, width // 8) if kind == "smooth" else (4, DIMS, height, width)
    raw = torch.randn(*shape, generator=random)
    if kind == "smooth":
        raw = functional.interpolate(raw, size=(height, width), mode="bicubic")
    maps = functional.normalize(raw.movedim(1, -1), dim=-1).to(setting.device)
    return [DenseSides(maps[0], maps[1]), DenseSides(maps[2], maps[3])]


def _reciprocal(setting: Setting, kind: str) -> Finding:
    return _both_ways(setting, _maps(setting, kind), nearest_by_product, not kernel_runs_on(setting.device))


def _points(setting: Setting) -> Finding:
    height, width = _size(setting)
    y, x = torch.meshgrid(torch.linspace(-0.4, 0.4, height), torch.linspace(-0.5, 0.5, width), indexing="ij")
    z = 2.0 + 0.3 * torch.sin(9.0 * x) * torch.cos(7.0 * y)
    points = torch.stack([x * z, y * z, z], dim=-1).to(setting.device)
    noise = 0.002 * torch.randn(4, height, width, 3, generator=torch.Generator().manual_seed(0)).to(setting.device)
    maps = [DenseSides(points + noise[2 * k], points + noise[2 * k + 1]) for k in range(2)]
    return _both_ways(setting, maps, nearest_by_distance, not kernel_runs_on(setting.device))


def _both_ways(
    setting: Setting, maps: list[DenseSides], nearest: Callable[[Tensor, Tensor], Tensor], written: bool
) -> Finding:
    height, width = _size(setting)
    seeds, asked = seed_grid(height, width, SEED_PX), list[int]()

    def counting(queries: Tensor, targets: Tensor) -> Tensor:
        asked.append(len(queries) * queries.shape[1])
        return nearest(queries, targets)

    found = reciprocal_both_ways_on_device(maps, seeds, seeds, counting)
    searched, rounds = sum(asked), len(asked) // 2
    seconds = seconds_of(setting.device, lambda: reciprocal_both_ways_on_device(maps, seeds, seeds, nearest))
    dims = maps[0].a.shape[-1]
    work = reciprocal_work(searched, height * width, dims, written)
    least = work.seconds(setting.speed, "float32")
    return Finding(
        {"pairs/s": 1.0 / seconds, "ms": 1e3 * seconds, "searched": searched, "rounds": rounds,
         "matches": sum(len(each.a) for each in found), "GB/s": 1e-9 * work.bytes / seconds},
        {"ms": 1e3 * least, "GFLOP": 1e-9 * work.operations, "GB": 1e-9 * work.bytes},
    )  # fmt: skip


def _one_round(setting: Setting, written: bool) -> Finding:
    """All seeds of a pair in both decodings and directions, once."""
    if not written and not kernel_runs_on(setting.device):
        raise Absent("not run: the kernel needs Triton and a GPU of compute capability 8.0")
    height, width = _size(setting)
    count, random = len(seed_grid(height, width, SEED_PX)), torch.Generator().manual_seed(0)
    queries, targets = (torch.randn(4, n, DIMS, generator=random).to(setting.device) for n in (count, height * width))

    def in_blocks() -> list[Tensor]:
        return [(some @ targets.transpose(1, 2)).argmax(dim=2) for some in torch.split(queries, 256, dim=1)]

    figures: dict[str, Figure] = {}
    if written:
        seconds = seconds_of(setting.device, in_blocks)
    else:
        from unposed.optim.pair.nearest_kernel import nearest_by_kernel

        seconds = seconds_of(setting.device, partial(nearest_by_kernel, queries, targets))
        for precision in ("tf32", "ieee"):  # to compare with: Triton may not have them for this card
            try:
                other = seconds_of(setting.device, partial(nearest_by_kernel, queries, targets, precision))
                figures[f"{precision} ms"] = 1e3 * other
            except Exception as error:
                figures[f"{precision} ms"] = problem_of(error)
    work = reciprocal_work(4 * count, height * width, DIMS, written)
    figures |= {"ms": 1e3 * seconds, "TFLOP/s": 1e-12 * work.operations / seconds}
    least = work.seconds(setting.speed, "float32")
    return Finding(figures, {"ms": 1e3 * least, "GFLOP": 1e-9 * work.operations, "GB": 1e-9 * work.bytes})


def _descriptors(setting: Setting, kind: str) -> Finding:
    """With the way there and back, as a stage calls it."""
    rows, dims = (256, 128) if setting.small else (4096, 128)
    random = np.random.default_rng(0)
    a = random.standard_normal((rows, dims)).astype(np.float32)
    b = a[random.permutation(rows)] + 0.4 * random.standard_normal((rows, dims)).astype(np.float32)
    left, right = ((byte_rows if kind == "bytes" else unit_rows)(each) for each in (a, b))
    device = str(setting.device)
    seconds = seconds_of(setting.device, lambda: mutual_nearest(left, right, device=device))
    return _rate(setting, seconds, descriptor_work(rows, dims), "pairs/s")


def _words(setting: Setting) -> Finding:
    """The candidates of the words of a photo's features, without what is measured again on the CPU."""
    words, dims, rows = (256, 64, 64) if setting.small else (65536, 1024, 300)
    random = np.random.default_rng(0)
    look = search_on_device(random.standard_normal((words, dims)).astype(np.float32), str(setting.device))
    queries = random.standard_normal((rows, dims)).astype(np.float32)
    seconds = seconds_of(setting.device, lambda: look(queries, 16))
    return _rate(setting, seconds, words_work(rows, words, dims), "photos/s")


def _rate(setting: Setting, seconds: float, work: Work, what: str) -> Finding:
    least = work.seconds(setting.speed, "float32")
    figures = {what: 1.0 / seconds, "ms": 1e3 * seconds, "GB/s": 1e-9 * work.bytes / seconds}
    return Finding(figures, {"ms": 1e3 * least, "GFLOP": 1e-9 * work.operations, "GB": 1e-9 * work.bytes})
