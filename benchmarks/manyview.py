"""Networks for many views: what a group costs with parameters of the true sizes, and what fusion makes of groups.

    python benchmarks/manyview.py network [--model da3-small] [--views 1 4 8] [--rays]
    python benchmarks/manyview.py fusion [--photos 8 20 100 1000] [--seeds 3]

`network` draws parameters at random, so that only time and memory mean anything. `fusion` makes up collections
(emulated_groups.py) with errors of networks, and compares rotations and positions with the truth, with and without
verified pairs. Everything runs on one thread.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch
from emulated_groups import (
    EmulatedCollection,
    GroupNoise,
    emulate,
    least_error_deg,
    parts_of_right_groups,
    rotation_errors_deg,
)
from gpu.work import group_work
from numpy.typing import NDArray

from unposed.gpu_check import seconds_of
from unposed.networks.manyview.checkpoint import build_many_view
from unposed.networks.manyview.config import PUBLISHED, Da3Config
from unposed.optim.groups.fusion import FusedGroups, fuse_groups
from unposed.optim.pointmaps.pair_similarity import umeyama

Array = NDArray[np.float64]
SIZE = (378, 504)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = parser.add_subparsers(dest="table", required=True)
    network = tables.add_parser("network")
    network.add_argument("--model", choices=PUBLISHED, default="da3-small")
    network.add_argument("--views", type=int, nargs="+", default=[1, 4, 8])
    network.add_argument("--rays", action="store_true", help="cameras from rays in place of camera tokens")
    fusion = tables.add_parser("fusion")
    fusion.add_argument("--photos", type=int, nargs="+", default=[8, 20, 100, 1000])
    fusion.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.table == "network":
        network_table(options.model, options.views, options.rays)
    else:
        fusion_table(options.photos, options.seeds)


def network_table(model: str, views: list[int], rays: bool) -> None:
    """CPU seconds and peak memory of a group by its number of views, and its speed over that of a plain product."""
    with torch.device("meta"):
        net = build_many_view(PUBLISHED[model])
    net = net.to_empty(device="cpu").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    config = PUBLISHED[model]
    _row("model", "views", "CPU s", "peak MB", "GFLOP/s", "a plain product")
    _row(*["---"] * 6)
    options = {"from_rays": True} if rays else {}
    for count in views:
        images = torch.randn(1, count, 3, *SIZE, generator=generator)
        start = time.process_time()
        net(images, **options)
        spent = time.process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        speed = "-"
        if isinstance(config, Da3Config) and config.alternate_from is not None and not rays:
            speed = f"{1e-9 * group_work(config, SIZE, count).all_operations / spent:.0f}"
        _row(model, count, f"{spent:.1f}", f"{peak:.0f}", speed, f"{_plain_gflops():.0f}")


def _plain_gflops() -> float:
    """What a product of two matrices reaches at the time."""
    a = torch.randn(2048, 2048)
    return 2e-9 * len(a) ** 3 / seconds_of(torch.device("cpu"), lambda: a @ a)


def fusion_table(sizes: list[int], seeds: int) -> None:
    """Medians over seeds of errors after fusion, beside the least that the measurements allow, and counts of groups."""
    head = ("scene", "photos", "wrong", "pairs", "views a photo", "registered", "rotation deg", "at best", "parts")
    _row(*head, "position", "wrong found", "right lost", "CPU s")
    _row(*["---"] * (len(head) + 4))
    for town in (False, True):
        for photos in sizes:
            for wrong in (0.05, 0.1):
                for with_pairs in (False, True):
                    rows = [_measured(photos, seed, wrong, with_pairs, town) for seed in range(seeds)]
                    views, registered, rotation, best, parts, position, found, of, lost, spent = np.median(rows, axis=0)
                    _row(
                        "town" if town else "ring",
                        photos,
                        f"{wrong:.0%}",
                        "yes" if with_pairs else "no",
                        f"{views:.2f}",
                        f"{registered:.0f}",
                        f"{rotation:.2f}",
                        f"{best:.2f}",
                        f"{parts:.0f}",
                        f"{position:.3f}",
                        f"{found:.0f} of {of:.0f}",
                        f"{lost:.0f}",
                        f"{spent:.2f}",
                    )


def _measured(photos: int, seed: int, wrong: float, with_pairs: bool, town: bool) -> tuple[float, ...]:
    noise = GroupNoise(wrong=wrong)
    made = emulate(photos, seed, noise, town=town)
    start = time.process_time()
    found = fuse_groups(made.scenes, photos, made.pairs if with_pairs else None)
    spent = time.process_time() - start
    assert found is not None
    rotation = rotation_errors_deg(found.cam_from_world[:, :, :3], made.cam_from_world[:, :, :3])
    return (
        len(made.scenes.photo) / photos,
        float(np.isfinite(rotation).sum()),
        float(np.nanmedian(rotation)),
        least_error_deg(made, noise, with_pairs),
        float(parts_of_right_groups(made)),
        float(np.median(position_errors(made, found))),
        float((made.wrong & ~found.consistent).sum()),
        float(made.wrong.sum()),
        float((~made.wrong & ~found.consistent).sum()),
        spent,
    )


def position_errors(made: EmulatedCollection, found: FusedGroups) -> Array:
    """Distances of cameras from the truth, after the robust similarity that fits them best; photos have a depth of
    about two."""
    known = np.isfinite(found.cam_from_world[:, 0, 0])
    ours, true = (
        -np.einsum("nji,nj->ni", pose[known, :, :3], pose[known, :, 3])
        for pose in (found.cam_from_world, made.cam_from_world)
    )
    weight = np.ones((1, len(ours)))
    error = np.zeros(len(ours))
    for _ in range(10):
        scale, rotation, translation = umeyama(ours[None], true[None], weight)
        error = np.linalg.norm(scale[0] * ours @ rotation[0].T + translation[0] - true, axis=1)
        weight = 1.0 / (error + 1e-6)[None]
    return error


def _row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
