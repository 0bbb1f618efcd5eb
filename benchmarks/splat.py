"""Whose poses make the better splat: photos held out, with our poses, COLMAP's and the true ones.

    python benchmarks/splat.py DATA_DIR SET [SET ...] [--seeds 0,1] [--sources truth,ours] [--peer tuned-shared]
        [--seed-side 512] [--keep DIR] [--set KEY=VALUE]

DATA_DIR/SET has images/ and gt.json. Every source of poses gets what its own poses give: dense points at 512 pixels
(--seed-side), thinned to one budget, and the same trainer, splat.cpu. Scores are means over the photos held out and
over seeds, of pixels that the splat covers. With --keep, models and dense points are written to DIR/SET/SOURCE and
taken from there the next time, so that a long table can be made in pieces.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from peers import PEERS, run

from unposed.loading import load
from unposed.pipeline.config import build
from unposed.pipeline.registry import Registry
from unposed.pipeline.resources import machine
from unposed.pipeline.threads import one_thread_each
from unposed.reconstruction import Reconstruction
from unposed.runs import reconstruct
from unposed.settings import options_of
from unposed.surface.gaussians.projection import draw
from unposed.surface.gaussians.scene import ViewScore
from unposed.surface.gaussians.training import scored


def main() -> None:
    """Print the table row by row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("sets", nargs="+", metavar="SET")
    parser.add_argument("--seeds", default="0", metavar="N,N")
    parser.add_argument("--sources", default="truth,ours,colmap", metavar="NAME,NAME")
    parser.add_argument("--peer", default="tuned-shared", choices=PEERS)
    parser.add_argument("--seed-side", type=int, default=512, metavar="PIXELS")
    parser.add_argument("--keep", type=Path, metavar="DIR")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    print("| set | poses | registered | held out | PSNR | SSIM | covered | PSNR of each |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with ExitStack() as stack:
        keep = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unposed-benchmark-")))
        for name in arguments.sets:
            for source in arguments.sources.split(","):
                place = keep / name / (arguments.peer if source == "colmap" else source)
                made = _model(arguments.data / name, source, arguments.peer, place)
                shown = f"COLMAP {arguments.peer}" if source == "colmap" else source
                if made.sparse.models:
                    print(_row(name, shown, made, place, arguments.seed_side, seeds, arguments.settings), flush=True)
                else:
                    print(f"| {name} | {shown} | 0 of {len(made.photos)} | | | | | |", flush=True)


def _model(folder: Path, source: str, peer: str, place: Path) -> Reconstruction:
    """The models of a set with poses from a source, made in `place` unless they are there."""
    images, truth = folder / "images", folder / "gt.json"
    if source == "colmap":
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)  # of a run that was interrupted
            run(PEERS[peer], images, place, seed=0)
            (place / "complete").touch()
        models = [pycolmap.Reconstruction(each) for each in sorted((place / "sparse").iterdir())]
        return Reconstruction.from_pycolmap(models, images)
    if (place / "summary.json").exists():
        return load(place, images)
    known = truth if source == "truth" else None
    return reconstruct(images, place, preset="classic", report=False, poses=known, intrinsics=known)


def _points(made: Reconstruction, place: Path, side_px: int) -> tuple[Any, Any]:
    """Points and colours to begin with, made unless they lie in `place`."""
    file = place / f"seeds-{side_px}.npz"
    if not file.exists():
        model = made.sparse.models[0]
        stereo: Any = build(Registry().find("dense", "sweep"), {"max_side_px": side_px}, "dense.sweep")
        points = stereo(model, made.photos, machine("cpu")).points
        xyz = np.concatenate([points.xyz.astype(np.float64), np.asarray(model.points, np.float64)])
        part = file.with_name(f"seeds-{side_px}.part.npz")
        np.savez(part, xyz=xyz, rgb=np.concatenate([points.rgb, model.rgb]))
        part.replace(file)
    with np.load(file) as held:
        return held["xyz"], held["rgb"]


def _row(
    name: str,
    source: str,
    made: Reconstruction,
    place: Path,
    side_px: int,
    seeds: Sequence[int],
    settings: Sequence[str],
) -> str:
    model, resources = made.sparse.models[0], machine("cpu")
    found: list[list[ViewScore]] = []
    with one_thread_each():
        xyz, rgb = _points(made, place, side_px)
        for seed in seeds:
            options = options_of([*settings, f"training.seed={seed}"])
            trainer: Any = build(Registry().find("splat", "cpu"), options, "splat.cpu")
            prepared = trainer(model, made.photos, xyz, rgb, np.full(len(model.photos), np.inf), None, resources)
            *_, state = prepared.states
            found.append(scored(state.gaussians, [view for view in prepared.views if view.held_out], draw))
    registered = f"{len(model.photos)} of {len(made.photos)}"
    if not found[0]:  # of so few photos none is held out
        return f"| {name} | {source} | {registered} | 0 | | | | |"
    psnr, ssim, covered = (
        np.array([[getattr(each, key) for each in scores] for scores in found]) for key in ("psnr", "ssim", "covered")
    )
    cells = [name, source, registered, str(psnr.shape[1]), f"{psnr.mean():.2f}"]
    cells += [f"{ssim.mean():.3f}", f"{100 * covered.mean():.0f} %", ", ".join(f"{p:.1f}" for p in psnr.mean(axis=0))]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
