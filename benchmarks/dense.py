"""Dense points against rendered scenes with known surfaces, from the true cameras.

    python benchmarks/dense.py [SCENE:PHOTOS:WIDTH ...] [--set KEY=VALUE]

Errors are along the ray, in footprints: what a pixel of the photo spans at that depth. Completeness is the share of
pixels whose surface at least three photos see, that have an agreed depth within two footprints.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unposed.optim.arrays import Array
from unposed.pipeline.artifacts import Depths
from unposed.pipeline.config import build
from unposed.pipeline.registry import Registry
from unposed.pipeline.resources import machine
from unposed.pipeline.threads import one_thread_each
from unposed.runs import reconstruct
from unposed.settings import options_of
from unposed.synthetic.camera import Shot, project_points
from unposed.synthetic.photos import PhotoSet, write_set
from unposed.synthetic.render import cast, transfer
from unposed.synthetic.scenes import SCENES

CASES = ("easy:11:1536", "wide_baseline:11:1536", "turntable:16:640", "low_texture:14:960", "two_cameras:12:960")
STEP_PX = 7
"""Completeness is counted on every so many pixels along x and y."""


def main() -> None:
    """Print the table row by row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="SCENE:PHOTOS:WIDTH", default=CASES)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    plugin = build(Registry().find("dense", "sweep"), options_of(arguments.settings), "dense.sweep")
    print("| scene | photos | pixels | points | median error | 90 % within | within 2 | complete | CPU s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for case in arguments.cases:
        name, photos, width = case.split(":")
        with tempfile.TemporaryDirectory(prefix="unposed-benchmark-") as folder:
            album = write_set(SCENES[name](photos=int(photos), width=int(width)), Path(folder))
            print(_row(name, album, Path(folder), plugin), flush=True)


def _row(name: str, album: PhotoSet, folder: Path, plugin: Any) -> str:
    known = {"poses": album.truth, "intrinsics": album.truth}
    made = reconstruct(album.images, preset="classic", cache=folder / "cache", **known)
    model = made.sparse.models[0]
    started = time.process_time()
    with one_thread_each():
        depths: Depths = plugin(model, made.photos, machine("cpu"))
    seconds = time.process_time() - started
    by_name = {shot.name: shot for shot in album.scene.shots}
    shots = [by_name[made.photos[index].name] for index in model.photos.tolist()]
    errors = _footprints(album, shots, depths)
    lens = shots[0].lens
    cells = [name, str(len(shots)), f"{lens.width} x {lens.height}", f"{len(errors):,}", f"{np.median(errors):.2f}"]
    cells += [f"{np.quantile(errors, 0.9):.2f}", f"{100 * (errors < 2).mean():.1f} %"]
    cells += [f"{100 * _completeness(album, shots, depths):.0f} %", f"{seconds:.0f}"]
    return f"| {' | '.join(cells)} |"


def _footprints(album: PhotoSet, shots: Sequence[Shot], depths: Depths) -> Array:
    """(n,) error of each point in the first photo that sees it."""
    points = depths.points
    first, errors = points.seen_by[points.start[:-1]], np.full(len(points), np.inf)
    for row, shot in enumerate(shots):
        own = np.flatnonzero(first == row)
        errors[own] = _along_ray(album, shot, points.xyz[own].astype(np.float64))
    return errors


def _along_ray(album: PhotoSet, shot: Shot, points: Array) -> Array:
    """(n,) distance of points from the surface behind their pixel, in footprints of the photo."""
    xy, depth = project_points(shot, points)
    return np.abs(cast(album.scene.world, shot, xy) - depth) / (depth / shot.lens.fx)


def _completeness(album: PhotoSet, shots: Sequence[Shot], depths: Depths) -> float:
    covered = total = 0
    for row, shot in enumerate(shots):
        camera, agreed = depths.maps[row].camera, depths.agreed[row]
        y, x = (np.arange(STEP_PX // 2, side, STEP_PX) for side in agreed.shape)
        columns, rows = (each.ravel() for each in np.meshgrid(x, y))
        pixels = np.stack([columns + 0.5, rows + 0.5], axis=1)
        points = camera.unproject(pixels, 1.0 / np.maximum(depths.maps[row].inverse[rows, columns], 1e-9))
        ray = camera.unproject(pixels, np.ones(len(rows)))
        xy = project_points(shot, ray)[0]
        seen = np.isfinite(cast(album.scene.world, shot, xy))
        views = sum(transfer(album.scene.world, shot, other, xy)[1].astype(int) for other in shots if other is not shot)
        visible = seen & (views >= 2)
        right = agreed[rows, columns] & (_along_ray(album, shot, points) < 2)
        covered, total = covered + int((visible & right).sum()), total + int(visible.sum())
    return covered / max(total, 1)


if __name__ == "__main__":
    main()
