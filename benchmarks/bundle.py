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

from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.ceres import adjust_by_ceres, ceres_problem
from unposed.optim.bundle.problem import Bundle, BundleOptions, errors_px
from unposed.synthetic.bundles import emulate_bundle

OPTIONS = BundleOptions(distortion=True, loss_px=1.0, max_iterations=100, tolerance=1e-8)


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
            print(row(kind, Bundle(**emulate_bundle(kind, photos, points)._asdict()), options.rounds), flush=True)


if __name__ == "__main__":
    main()
