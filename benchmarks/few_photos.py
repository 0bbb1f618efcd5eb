"""Two or three photos with few matches: rotation, direction and focal errors, with and without predicted depths, as a
table of medians (and the worst rotation) over runs of neighbours on the circle of a made-up scene.

    python benchmarks/few_photos.py
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from alignment import apply, judged, stages_before, verified
from emulation import made_up
from numpy.typing import NDArray
from oracle import HARD, Noise, Oracle

from unposed.pipeline.artifacts import Photos
from unposed.pipeline.registry import Registry
from unposed.pipeline.stage import Resources

Array = NDArray[np.float64]
CIRCLE = 20
"""Photos of the scene; neighbours are sixteen degrees apart."""


@dataclass(frozen=True)
class Some:
    """The truth of a few photos, as `judged` wants it."""

    photos: int
    cam_from_world: Array
    focal_px: Array


def main() -> None:
    head = ("photos", "matches per pair", "noise", "coarse", "fine", "fine without depths")
    for cells in (head, ["---"] * len(head)):
        print(f"| {' | '.join(cells)} |")
    for hard in (False, True):
        for count in (2, 3):
            for most in (30, 100, 1000):
                stages = measured(count, most, hard)
                cells = [str(count), f"{most} at most", "hard" if hard else "usual", *map(cell, stages)]
                print(f"| {' | '.join(cells)} |", flush=True)


def cell(errors: Array) -> str:
    """Medians of the rows (n, 3), and the worst rotation."""
    rotation, direction, focal = np.nanmedian(errors, axis=0)
    return f"{rotation:.2f} ({np.nanmax(errors[:, 0]):.2f}) / {direction:.2f} / {100 * focal:.1f} %"


def measured(count: int, most: int, hard: bool) -> tuple[Array, Array, Array]:
    """Errors (runs, 3) of rotation, direction and focal length: after the coarse stage, after the fine stage, and after
    a fine stage that is told no depths."""
    oracle = Oracle(made_up(CIRCLE, 100, count - 1), HARD if hard else Noise())
    given, rng = stages_before(oracle), np.random.default_rng(0)
    coarse, fine = Registry().find("coarse", "align")(), Registry().find("fine", "bundle")()
    out: list[list[list[float]]] = [[], [], []]
    for first in range(0, CIRCLE - count, 2):
        keep = range(first, first + count)
        some = cut(given, keep, most, rng)
        truth = Some(count, oracle.cam_from_world[keep], oracle.focal_px[keep])
        silent = replace(some["view_graph"], depth_a=None, depth_b=None, depth_focal_px=None)
        start = apply(coarse, some)
        stage = some | {"coarse": start, "resources": Resources("cpu", 1, 1 << 33, 0)}
        found = start, apply(fine, stage), apply(fine, stage | {"view_graph": silent})
        for errors, scenes in zip(out, found, strict=True):
            figures = judged(truth, scenes)
            errors.append([figures["rotation_deg"], figures["direction_deg"], figures["focal"]])
    coarse_errors, fine_errors, silent_errors = (np.array(errors) for errors in out)
    return coarse_errors, fine_errors, silent_errors


def cut(given: dict[str, Any], keep: range, most: int, rng: np.random.Generator) -> dict[str, Any]:
    """What the stages before would say of some photos and so many matches per pair."""
    photos = Photos(tuple(given["photos"][photo] for photo in keep), {})
    matching = {}
    for (a, b), pair in given["matching"].items():
        if a in keep and b in keep:
            n = len(pair.weight)
            rows = np.sort(rng.choice(n, min(n, most), replace=False))
            columns = ("xy_a", "xy_b", "weight", "depth_a", "depth_b")
            matching[a - keep[0], b - keep[0]] = replace(pair, **{c: getattr(pair, c)[rows] for c in columns})
    return verified(photos, matching)


if __name__ == "__main__":
    main()
