"""Bundle adjustment side by side with Ceres (by way of COLMAP): same start, same loss, same tolerance, one thread each.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/bundle.py [--sizes 20x2000,...] [--rounds 3]

Three kinds of made-up collections: `ring` sees every point from a few photos next to each other; `plaza` from photos
anywhere around it; `private` is a ring with a camera of its own for each photo. Prints a table in markdown.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import pycolmap
from numpy.typing import NDArray

from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.ceres import adjust_by_ceres, ceres_problem
from unposed.optim.bundle.problem import Bundle, BundleOptions, errors_px
from unposed.optim.cameras import project
from unposed.optim.rotations import exp_so3

Array = NDArray[np.float64]
LENS = np.array([1200.0, 1200.0, 800.0, 600.0, -0.05, 0.0, 0.0, 0.0])
OPTIONS = BundleOptions(distortion=True, loss_px=1.0, max_iterations=100, tolerance=1e-8)
TRACK_LENGTH = 8
"""Photos that may see a point."""


def made_up_bundle(kind: str, photos: int, points: int, seed: int = 0) -> Bundle:
    """Half a pixel of noise, and a start that is off by pixels, a degree or so, and two percent in focal length."""
    rng = np.random.default_rng(seed)
    turn = np.linspace(0.0, 2.0 * np.pi, photos, endpoint=False)
    radius = photos / 6.0
    outward = np.stack([np.cos(turn), np.zeros(photos), np.sin(turn)], axis=1)
    centres = radius * outward + [0.0, 1.0, 0.0] * rng.normal(0.0, 0.3, (photos, 1))
    if kind == "plaza":  # looking inwards, all at the same things
        centres, outward = 12.0 * outward + (centres - radius * outward), -outward
    aside = np.stack([outward[:, 2], np.zeros(photos), -outward[:, 0]], axis=1)
    poses = np.empty((photos, 3, 4))
    poses[:, :, :3] = np.stack([aside, np.cross(outward, aside), outward], axis=1)
    poses[:, :, 3] = -np.einsum("cij,cj->ci", poses[:, :, :3], centres)
    if kind == "plaza":
        world = rng.normal(0.0, [2.0, 1.0, 2.0], (points, 3))
        photo = np.argsort(rng.random((points, photos)), axis=1)[:, :TRACK_LENGTH]
    else:
        base = rng.integers(0, photos, points)
        place = turn[base] + rng.normal(0.0, 0.3 / radius, points)
        away = radius + rng.uniform(3.0, 8.0, points)
        world = np.stack([away * np.cos(place), rng.uniform(-1.5, 1.5, points), away * np.sin(place)], axis=1)
        photo = (base[:, None] + np.arange(TRACK_LENGTH) - TRACK_LENGTH // 2) % photos
    photo, point = np.sort(photo, axis=1).ravel(), np.repeat(np.arange(points), TRACK_LENGTH)
    y = np.einsum("mij,mj->mi", poses[photo, :, :3], world[point]) + poses[photo, :, 3]
    y[y[:, 2] < 0.5] = [9.0, 9.0, 1.0]
    xy = project(y, LENS)
    seen = (np.abs(xy - LENS[2:4]) < LENS[2:4]).all(axis=1)
    seen &= (np.bincount(point[seen], minlength=points) >= 2)[point]
    used, point = np.unique(point[seen], return_inverse=True)
    start = poses.copy()
    start[:, :, :3] = exp_so3(0.003 * rng.standard_normal((photos, 3))) @ poses[:, :, :3]
    start[:, :, 3] += 0.02 * rng.standard_normal((photos, 3))
    cameras = photos if kind == "private" else 1
    lenses = np.tile(LENS, (cameras, 1)) * [1.02, 1.02, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    return Bundle(
        models=("SIMPLE_RADIAL",) * cameras,
        intrinsics=lenses,
        camera_of_photo=np.arange(photos) % cameras,
        cam_from_world=start,
        points=world[used] + 0.03 * rng.standard_normal((len(used), 3)),
        xy=xy[seen] + 0.5 * rng.standard_normal((int(seen.sum()), 2)),
        photo=photo[seen],
        point=point,
        row=np.arange(int(seen.sum())),
    )


def cost(bundle: Bundle) -> float:
    """The robust cost by its definition, not by the code under test."""
    return float(0.5 * OPTIONS.loss_px**2 * np.log1p((errors_px(bundle) / OPTIONS.loss_px) ** 2).sum())


def cpu_s(call: Callable[[], object]) -> float:
    gc.collect()
    start = time.process_time()
    call()
    return time.process_time() - start


def row(kind: str, bundle: Bundle, rounds: int) -> str:
    ours, theirs = adjust_bundle(bundle, OPTIONS), adjust_by_ceres(bundle, OPTIONS)
    own, solving, whole = [], [], []
    for _ in range(rounds):
        own.append(cpu_s(lambda: adjust_bundle(bundle, OPTIONS)))
        _, adjuster = ceres_problem(bundle, OPTIONS)
        solving.append(cpu_s(adjuster.solve))
        del adjuster
        whole.append(cpu_s(lambda: adjust_by_ceres(bundle, OPTIONS)))
    cells = [
        kind,
        f"{len(bundle.cam_from_world):,}",
        f"{len(bundle.xy):,}",
        f"{median(own):.3g} ({ours[1].iterations})",
        f"{median(solving):.3g} ({theirs[1].iterations})",
        f"{median(whole):.3g}",
        f"{median(own) / median(solving):.2f}",
        f"{median(own) / median(whole):.2f}",
        f"{cost(ours[0]) / cost(theirs[0]) - 1.0:+.1e}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="ring,plaza,private")
    parser.add_argument("--sizes", default="20x2000,50x6000,100x15000,400x60000", help="photos x points, with commas")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    pycolmap.logging.minloglevel = 2
    head = ["", "photos", "observations", "ours, CPU s (steps)", "Ceres (steps)", "with conversion"]
    head += ["ours / Ceres", "ours / with conversion", "final cost, ours over Ceres - 1"]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}", flush=True)
    for kind in options.kinds.split(","):
        for size in options.sizes.split(","):
            photos, points = map(int, size.split("x"))
            print(row(kind, made_up_bundle(kind, photos, points), options.rounds), flush=True)


if __name__ == "__main__":
    main()
