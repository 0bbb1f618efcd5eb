"""What reciprocal matching of two dense descriptor maps costs, beside the plain way of doing it.

    python benchmarks/reciprocal.py [--kind smooth]

One pair of 512 x 384 pixels with 24 dimensions, decoded from both sides: four runs from every eighth pixel. The plain
way compares all seeds that still move with all pixels, takes the best of both sides of the table though one is needed,
and looks nothing up that it has seen before; only its first pass is run, and the rest is counted. In main memory, on
one thread; for GPUs see gpu.py.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unposed.optim.pair.reciprocal_matching import (
    MutualSearch,
    PixelMatches,
    merge_matches,
    neighbours_by_descriptor,
    reciprocal_matches,
    seed_grid,
)

HEIGHT, WIDTH, DIMS, STEP = 384, 512, 24, 8
BLOCK = 8192
Maps = list[NDArray[np.float32]]


def main() -> None:
    """Print one line per figure."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--kind", choices=KINDS, default="random")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    maps: Any = KINDS[chosen.kind]()
    clock = time.process_time
    four_runs(maps)  # warm
    start = clock()
    pairs, looked_up, asked = four_runs(maps)
    ours = clock() - start
    products = 2e-9 * looked_up * HEIGHT * WIDTH * DIMS
    print(f"{chosen.kind} descriptors: {len(pairs.a)} pairs")
    print(f"ours          {ours:7.2f} s, {looked_up} searches for {asked} steps, {products / ours:.0f} GFLOP/s")
    seeds = seed_grid(HEIGHT, WIDTH, STEP)
    a, b = (torch.as_tensor(each).flatten(0, 1) for each in maps[:2])
    start = clock()
    plain_pass(a[torch.from_numpy(seeds).to(a.device)], b)
    plain = (clock() - start) * asked / len(seeds)
    print(f"the plain way {plain:7.2f} s, {plain / ours:.1f} times as much")


def four_runs(maps: Any) -> tuple[PixelMatches, int, int]:
    """What they find, how many pixels had to be looked up, and how many steps the seeds took."""
    seeds, runs, looked_up, asked = seed_grid(HEIGHT, WIDTH, STEP), [], 0, 0
    for a, b in (maps[:2], maps[2:]):
        neighbours = neighbours_by_descriptor(a, b)
        steps = [counted(neighbours), counted(neighbours.swapped())]
        runs += [reciprocal_matches(each, seeds) for each, _ in steps]
        asked += sum(sum(each) for _, each in steps)
        looked_up += sum(int(np.count_nonzero(lookup.known >= 0)) for lookup in neighbours)
    return (
        merge_matches([runs[0], PixelMatches(runs[1].b, runs[1].a), runs[2], PixelMatches(runs[3].b, runs[3].a)])[0],
        looked_up,
        asked,
    )


def counted(neighbours: MutualSearch) -> tuple[Any, list[int]]:
    """The same, and a list of how many rows each call asks for."""
    calls: list[int] = []

    def counting(lookup: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda rows: (calls.append(len(rows)), lookup(rows))[1]

    return MutualSearch(*map(counting, neighbours)), calls  # type: ignore[arg-type]


def plain_pass(queries: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The best of each query, the best query of each target, block by block."""
    best = torch.full((len(queries),), -torch.inf, device=queries.device)
    row = torch.zeros(len(queries), dtype=torch.long, device=queries.device)
    for start in range(0, len(targets), BLOCK):
        similarity = queries @ targets[start : start + BLOCK].T
        value, column = similarity.max(dim=1)
        similarity.max(dim=0)
        row = torch.where(value > best, column + start, row)
        best = torch.maximum(best, value)
    return row.cpu()


def unit(raw: NDArray[np.floating]) -> NDArray[np.float32]:
    return (raw / np.linalg.norm(raw, axis=-1, keepdims=True)).astype(np.float32)


def random_maps() -> Maps:
    """Nothing matches, and nothing helps a search."""
    random = np.random.default_rng(0)
    return [unit(random.standard_normal((HEIGHT, WIDTH, DIMS), np.float32)) for _ in range(4)]


def smooth_maps() -> Maps:
    """Two views of a plane, whose descriptors change over six pixels and more, with noise."""
    random = np.random.default_rng(0)
    waves = 96
    wavelength, direction, phase = (
        np.exp(random.uniform(np.log(6.0), np.log(400.0), waves)),
        random.uniform(0.0, 2 * np.pi, waves),
        random.uniform(0.0, 2 * np.pi, waves),
    )
    mixing = random.standard_normal((waves, DIMS))
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)

    def seen(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float32]:
        angle = 2 * np.pi / wavelength * (u[..., None] * np.cos(direction) + v[..., None] * np.sin(direction)) + phase
        noise = unit(random.standard_normal((HEIGHT, WIDTH, DIMS)))
        return unit(unit(np.cos(angle) @ mixing) + 0.15 * noise)

    views = [(x, y), (1.1 * x - 0.15 * y + 180.0 + 10.0 * np.sin(y / 40.0), 0.12 * x + 1.05 * y - 20.0)]
    return [seen(*views[side]) for side in (0, 1, 0, 1)]


KINDS: dict[str, Callable[[], Maps]] = {"random": random_maps, "smooth": smooth_maps}

if __name__ == "__main__":
    main()
