"""How CPU time and memory of the stages over the collection grow with the number of photos, and how exact they stay.

    python benchmarks/scale.py [--layouts aerial,streets] [--photos 100,300,1000] [--threads 2] [--ram-gib 4]
                               [--keypoints 500] [--unmatched 1500] [--set coarse.division.max_photos=400]
                               [--json FILE]

Emulated collections (unposed.synthetic.collections) go through the stages doubts, coarse and fine of the preset
`classic`, each collection in a process of its own, which maps key points and matches from disk as a run does. Prints a
row per collection: CPU and wall seconds of each stage, the peak of memory; and of the result the registered photos, the
median error of rotations, and the error of positions over the extent. Where --threads is more than one, also the serial
share of each stage, which is the CPU time of the thread that runs it over that of all threads and hence no worse on a
busy machine, and by Amdahl's law the speed-up of 16 threads. Then the exponents of growth.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from unposed.optim.rotations import nearest_rotation, rotation_angle_deg
from unposed.optim.similarity import fit_similarity
from unposed.optim.view_graph import Keypoints, ViewGraph, build_view_graph
from unposed.pipeline.artifacts import Camera, CameraPriors, Photo, Photos
from unposed.pipeline.config import build
from unposed.pipeline.presets import apply_settings
from unposed.pipeline.stage import Resources
from unposed.synthetic.collections import LAYOUTS, EmulatedCollection, EmulationOptions, emulate_collection

SINGLE_THREADED = os.environ | {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
"""Environment in which threads are the stages' own."""

EXIF_ERROR = 1.03
"""Focal length in EXIF over the true one."""


def main() -> None:
    """Measure every collection in a process of its own, print the table and the exponents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--layouts", default="aerial,streets,hemisphere", help=f"of {', '.join(LAYOUTS)}")
    parser.add_argument("--photos", default="100,300,1000")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--ram-gib", type=float, default=4.0)
    parser.add_argument("--keypoints", type=int, default=500)
    parser.add_argument("--unmatched", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NODE.KEY=VALUE")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        layout, photos = options.one.split(":")
        print(json.dumps(measure(layout, int(photos), options)))
        return
    rows = []
    for layout in options.layouts.split(","):
        for photos in options.photos.split(","):
            command = [sys.executable, *sys.argv, "--one", f"{layout}:{photos}"]
            answer = subprocess.run(command, capture_output=True, text=True, check=False, env=SINGLE_THREADED)
            if answer.returncode:
                print(answer.stderr, file=sys.stderr)
                continue
            rows.append(json.loads(answer.stdout.splitlines()[-1]))
            print(_line(rows[-1]), flush=True)
            if options.threads > 1:
                print(_amdahl(rows[-1]), flush=True)
    print("\n".join(_exponents(rows)))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def measure(layout: str, photos: int, options: argparse.Namespace) -> dict[str, Any]:
    """All stages over one collection."""
    emulation = EmulationOptions(keypoints=options.keypoints, unmatched=options.unmatched)
    with TemporaryDirectory(prefix="unposed-scale-") as folder:
        truth = _mapped_collection(Path(folder), layout, photos, emulation)
        graph, cameras, names = emulated_inputs(truth)
        out: dict[str, Any] = {"layout": layout, "photos": photos, "pairs": len(graph), "matches": len(graph.row_a)}
        out["start_mb"] = _peak_mb()
        lent = Resources("cpu", options.threads, int(options.ram_gib * 2**30), 0)
        models = run_stages(names, cameras, graph, lent, lambda name, costs: out.update({name: costs}), options.set)
        out["peak_mb"] = _peak_mb()
        return out | judge(truth, models)


def _mapped_collection(folder: Path, layout: str, photos: int, options: EmulationOptions) -> EmulatedCollection:
    """A collection whose columns of key points and matches are mapped from files in `folder`. Another process emulates
    it, so that what that takes is no part of the memory measured here."""
    process = multiprocessing.get_context("spawn").Process(target=_emulate_into, args=(folder, layout, photos, options))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{layout} of {photos} photos was not emulated: exit status {process.exitcode}")
    columns = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    return EmulatedCollection(focal_px=float(columns.pop("focal_px")), **columns)


def _emulate_into(folder: Path, layout: str, photos: int, options: EmulationOptions) -> None:
    truth = emulate_collection(layout, photos, 0, options)
    for each in fields(truth):
        np.save(folder / f"{each.name}.npy", getattr(truth, each.name))


def emulated_inputs(truth: EmulatedCollection) -> tuple[ViewGraph, CameraPriors, Photos]:
    """What the stages read: one camera for all photos, with a focal length in EXIF that is off."""
    count = len(truth.size)
    graph = build_view_graph(
        Keypoints(truth.xy, truth.start, truth.size),
        truth.pairs,
        truth.match_count,
        truth.row_a,
        truth.row_b,
        fundamental=truth.fundamental,
    )
    width, height = truth.size[0].tolist()
    camera = Camera("SIMPLE_RADIAL", width, height, (EXIF_ERROR * truth.focal_px, width / 2, height / 2, 0.0))
    cameras = CameraPriors((camera,), np.zeros(count, np.int32), ("exif",))
    photos = tuple(Photo(f"{i:06d}.jpg", Path(), f"{i}", width, height) for i in range(count))
    return graph, cameras, Photos(photos, {})


def run_stages(
    photos: Photos,
    cameras: CameraPriors,
    graph: ViewGraph,
    lent: Resources,
    report: Callable[[str, dict[str, float]], None],
    settings: Sequence[str] = (),
) -> Any:
    """The models that doubts, coarse and fine make; costs of each go to `report`. Settings are lines NODE.KEY=VALUE."""
    from unposed.plugins.coarse.global_mapping import GlobalMapper
    from unposed.plugins.doubts.doppelgangers import Doppelgangers
    from unposed.plugins.fine.bundle import BundleAdjustment

    def timed(name: str, stage: Callable[[], Any]) -> Any:
        cpu, own, wall = time.process_time(), time.thread_time(), time.perf_counter()
        value = stage()
        spent = {"cpu_s": time.process_time() - cpu, "serial_s": time.thread_time() - own}
        report(name, spent | {"wall_s": time.perf_counter() - wall, "peak_mb": _peak_mb()})
        return value

    given = apply_settings({name: {} for name in STAGES}, settings)
    find, coarse_mapper, fine_mapper = (
        build(stage, given[name], name)
        for name, stage in zip(STAGES, (Doppelgangers, GlobalMapper, BundleAdjustment), strict=True)
    )
    doubts = timed("doubts", lambda: find(photos, cameras, graph, lent))
    coarse = timed("coarse", lambda: coarse_mapper(photos, cameras, graph, doubts, lent))
    return timed("fine", lambda: fine_mapper(photos, cameras, graph, coarse, lent, doubts))


def judge(truth: EmulatedCollection, models: Any) -> dict[str, float]:
    """Registered photos, and errors of the largest model after alignment with the truth."""
    largest = models.models[0]
    true = truth.cam_from_world[largest.photos]
    turn = largest.cam_from_world[:, :, :3].transpose(0, 2, 1) @ true[:, :, :3]
    error_deg = rotation_angle_deg(nearest_rotation(turn.sum(axis=0)).T @ turn)
    eye, true_eye = (-np.einsum("nji,nj->ni", each[:, :, :3], each[:, :, 3]) for each in (largest.cam_from_world, true))
    aligned = fit_similarity(eye, true_eye)(eye)
    extent = float(np.linalg.norm(np.ptp(true_eye, axis=0)))
    return {
        "models": len(models.models),
        "registered": sum(len(model.photos) for model in models.models),
        "rotation_deg": float(np.median(error_deg)),
        "worst_rotation_deg": float(error_deg.max()),
        "position_percent": 100.0 * float(np.sqrt(((aligned - true_eye) ** 2).sum(axis=1).mean())) / extent,
        "focal_percent": 100.0 * abs(largest.cameras[0].params[0] / truth.focal_px - 1.0),
    }


def _peak_mb() -> float:
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


STAGES = ("doubts", "coarse", "fine")


def _line(row: dict[str, Any]) -> str:
    costs = ", ".join(f"{n} {row[n]['cpu_s']:.1f} ({row[n]['wall_s']:.1f})" for n in STAGES)
    return (
        f"| {row['layout']} | {row['photos']} | {row['pairs']} | {row['matches']} | {costs} "
        f"| {sum(row[n]['cpu_s'] for n in STAGES):.1f} | {row['peak_mb']:.0f} ({row['start_mb']:.0f}) "
        f"| {row['registered']} in {row['models']} | {row['rotation_deg']:.4f} ({row['worst_rotation_deg']:.3f}) "
        f"| {row['position_percent']:.4f} | {row['focal_percent']:.3f} |"
    )


def _amdahl(row: dict[str, Any]) -> str:
    """Shares of the CPU time that one thread alone can do, and how many times as fast 16 threads are, at most."""
    total, serial = (sum(row[name][kind] for name in STAGES) for kind in ("cpu_s", "serial_s"))
    each = ", ".join(f"{name} {row[name]['serial_s'] / row[name]['cpu_s']:.0%}" for name in STAGES)
    gain = total / (serial + (total - serial) / 16)
    return f"serial: {each}, all {serial / total:.0%}; 16 threads: {gain:.1f} times as fast as one"


def _exponents(rows: list[dict[str, Any]]) -> list[str]:
    """Between neighbouring sizes of a layout: log of the ratio of costs over that of the photos."""
    lines = []
    for old, new in itertools.pairwise(rows):
        if old["layout"] == new["layout"]:
            grown = np.log(new["photos"] / old["photos"])
            each = ", ".join(f"{n} {np.log(new[n]['cpu_s'] / old[n]['cpu_s']) / grown:.2f}" for n in STAGES)
            lines.append(f"exponents {new['layout']} {old['photos']} to {new['photos']}: {each}")
    return lines


if __name__ == "__main__":
    main()
