"""Few photos whose poses are somewhat wrong: what it is worth to train them along with the Gaussians.

    python benchmarks/splat_few.py DATA_DIR SET [SET ...] [--photos 3,6,12] [--turned 0,0.3] [--keep DIR]
        [--set KEY=VALUE]

DATA_DIR/SET has images/ and gt.json. Of a run of photos in the middle of the set every second one is trained on, with
its true pose turned about its centre at random by so many degrees in the median; points are moved to where these poses
see them, and dense seeds computed with them, so that nothing knows the true poses. The photos in between are held out.
They start at their true poses and then find the one that suits the splat best, as in the product. Poses are trained
with a standard deviation of the size of their error. Rotations are compared after the common one is taken out.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from splat import _model

from unposed.model_bundles import bundle_of_model, model_of_bundle
from unposed.optim.arrays import Array, Index
from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.pose_priors import no_pose_priors
from unposed.optim.bundle.problem import BundleOptions
from unposed.optim.rotations import exp_so3, nearest_rotation, rotation_angle_deg
from unposed.pipeline.artifacts import SparseModel
from unposed.pipeline.config import build
from unposed.pipeline.registry import Registry
from unposed.pipeline.resources import machine
from unposed.pipeline.threads import one_thread_each
from unposed.plugins.export.splat_model import selected
from unposed.plugins.shared.splat_training import splat_run, training_views
from unposed.settings import options_of
from unposed.splat_poses import judged_poses
from unposed.surface.gaussians.projection import draw

SEED_SIDE_PX = 512
"""Of the images that dense seeds are looked for in."""
LEAST_SIGMA_DEG = 0.02
"""Of poses that were not turned: what bundle adjustment says of good ones."""


def main() -> None:
    """Print the table row by row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("sets", nargs="+", metavar="SET")
    parser.add_argument("--photos", default="3,6,12", metavar="N,N")
    parser.add_argument("--turned", default="0,0.3", metavar="DEG,DEG")
    parser.add_argument("--keep", type=Path, metavar="DIR")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    print("| set | photos | turned by | held out | PSNR given | PSNR trained | kept | rotations given | trained |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with ExitStack() as stack:
        keep = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unposed-benchmark-")))
        for name in arguments.sets:
            made = _model(arguments.data / name, "truth", "", keep / name / "truth")
            for count in map(int, arguments.photos.split(",")):
                if 2 * count - 1 > len(made.sparse.models[0].photos):
                    continue
                for turned in map(float, arguments.turned.split(",")):
                    print(_row(name, made, count, turned, arguments.settings), flush=True)


def _row(name: str, made: Any, count: int, turned: float, settings: list[str]) -> str:
    model, resources = made.sparse.models[0], machine("cpu")
    first = (len(model.photos) - (2 * count - 1)) // 2
    rows = np.arange(first, first + 2 * count - 1)
    train, test = rows[::2], rows[1::2]
    few = _turned(_restricted(model, train), turned)
    options = options_of(settings)
    trainer: Any = build(Registry().find("splat", "cpu"), options, "splat.cpu")
    training = replace(trainer.training, pose_rate=trainer.training.pose_rate or 0.02)
    sigma = np.full(count, max(turned, LEAST_SIGMA_DEG))
    stereo: Any = build(Registry().find("dense", "sweep"), {"max_side_px": SEED_SIDE_PX}, "dense.sweep")
    with one_thread_each():
        points = stereo(few, made.photos, resources).points
        xyz = np.concatenate([points.xyz.astype(np.float64), few.points])
        rgb = np.concatenate([points.rgb, few.rgb])
        shown = training_views(few, made.photos, sigma, training, trainer.undistortion)
        hidden = training_views(
            _restricted(model, test), made.photos, np.full(len(test), max(turned, 0.3)), training, trainer.undistortion
        )
        views = (*(replace(v, held_out=False) for v in shown), *(replace(v, held_out=True) for v in hidden))
        states = []
        for rate in (0.0, training.pose_rate):
            *_, state = splat_run(views, xyz, rgb, replace(training, pose_rate=rate), None, draw, "cpu").states
            states.append(state)
        poses = judged_poses(views, states[0], states[1], replace(training, pose_gain_db=-np.inf))
    new = np.stack([view.camera.cam_from_world[:, :3] for view in poses.views[:count]])
    truth = np.asarray(model.cam_from_world[train, :, :3], np.float64)
    errors = [_error_deg(each, truth) for each in (np.asarray(few.cam_from_world[:, :, :3], np.float64), new)]
    gain = poses.psnr_of_trained - poses.psnr_of_given
    cells = [
        name,
        str(count),
        f"{turned:g}°",
        str(len(test)),
        f"{poses.psnr_of_given:.2f}",
        f"{poses.psnr_of_trained:.2f}",
    ]
    cells += ["trained" if gain >= training.pose_gain_db else "given", *(f"{each:.3f}°" for each in errors)]
    return f"| {' | '.join(cells)} |"


def _restricted(model: SparseModel, rows: Index) -> SparseModel:
    """The model of some of its photos."""
    wanted = np.zeros(len(model.photos), bool)
    wanted[rows] = True
    kept = selected(model, np.repeat(wanted, np.diff(model.xy_start)))
    return replace(
        kept,
        photos=model.photos[wanted],
        camera_of_photo=model.camera_of_photo[wanted],
        cam_from_world=model.cam_from_world[wanted],
        xy_start=np.concatenate([kept.xy_start[:-1][wanted], kept.xy_start[-1:]]),
    )


def _turned(model: SparseModel, by_deg: float) -> SparseModel:
    """The model with every photo turned about its centre, and its points where these poses see them."""
    if by_deg == 0:
        return model
    axes = np.random.default_rng(0).normal(size=(len(model.photos), 3))
    axes *= np.radians(by_deg) / np.median(np.linalg.norm(axes, axis=1))
    bundle = bundle_of_model(model)
    turned = exp_so3(axes) @ bundle.cam_from_world
    fixed = replace(no_pose_priors(len(model.photos)), fixed=np.ones(len(model.photos), bool))
    bundle, _ = adjust_bundle(
        replace(bundle, cam_from_world=turned), BundleOptions(focal=False, loss_px=5.0), pose_priors=fixed
    )
    return model_of_bundle(model, bundle)


def _error_deg(rotations: Array, truth: Array) -> float:
    """Median angle between rotations and the true ones, the rotation of the world between them taken out."""
    between = np.swapaxes(rotations, 1, 2) @ truth
    common = nearest_rotation(between.mean(axis=0))
    return float(np.median(rotation_angle_deg(rotations @ common @ np.swapaxes(truth, 1, 2))))


if __name__ == "__main__":
    main()
