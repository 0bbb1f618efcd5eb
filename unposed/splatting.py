"""Train a Gaussian splat of a finished reconstruction: seeds, training that can be resumed, files, and scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unposed.pipeline.array_files import read_npz
from unposed.pipeline.artifacts import SparseModel
from unposed.pipeline.config import build
from unposed.pipeline.errors import ConfigError, InputError
from unposed.pipeline.progress import Progress, Quiet
from unposed.pipeline.registry import Registry
from unposed.pipeline.resources import machine
from unposed.pipeline.stage import Resources, StageError
from unposed.pipeline.threads import one_thread_each
from unposed.pipeline.weights.files import ready_plugin
from unposed.surface.gaussians.initial import as_arrays
from unposed.surface.gaussians.projection import draw
from unposed.surface.gaussians.scene import Gaussians, SplatState, TrainingView, ViewScore
from unposed.surface.gaussians.training import drawn, first_state, scored

from .dense_points import POINTS, densified, read_points_seen, shown_as
from .gaussian_files import write_antimatter_splat, write_gaussians_ply, write_spz
from .loading import load
from .options import Settings
from .reconstruction import Reconstruction
from .settings import options_of
from .splat_poses import TrainedPoses, check_trainable_poses, judged_poses, rotation_sigmas_deg, write_refined

STATE, SCORES, HELD_OUT = "state.npz", "scores.json", "held-out"
FILES = {"splat.ply": write_gaussians_ply, "scene.splat": write_antimatter_splat, "scene.spz": write_spz}
"""What viewers read, by name."""
SEED_SIDES_PX, SEED_SCALE = (128, 512), 2
"""Longer side at which seeds are looked for where none are given: between these, twice the side that is trained on.
Pixels of half the size give several seeds for each Gaussian of a preview; smaller ones cost time alone."""


@dataclass(frozen=True, eq=False)
class Splat:
    """A trained splat and how well it shows photos that it was not trained on."""

    gaussians: Gaussians
    scores: tuple[ViewScore, ...]
    """Of the photos held out, by name."""
    folder: Path
    poses: TrainedPoses | None = None
    """What it was worth to train poses; None: they were not."""

    def facts(self) -> dict[str, Any]:
        """Figures for people and programs."""
        scores = [each for each in self.scores if each.covered > 0]
        mean = {
            key: round(float(np.mean([getattr(each, key) for each in scores])), 4) if scores else None
            for key in ("psnr", "ssim")
        }
        poses = {} if self.poses is None else {"poses": self.poses.facts()}
        return {"gaussians": len(self.gaussians), **mean, "held_out": [asdict(each) for each in self.scores], **poses}


def splat(
    out: str | Path,
    folder: str | Path,
    photos: str | Path | None = None,
    *,
    method: str = "cpu",
    seeds: str | Path | None = None,
    gaussians: str | None = None,
    settings: Settings = (),
    device: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Splat:
    """Train a Gaussian splat of the largest model of the finished reconstruction in `out`, and write it to `folder`.

    photos: the photo folder, if it has moved.
    method: a plugin of the slot `splat`; settings are its options as lines `key=value`.
    seeds: folder that `unposed dense` has written; None: dense points are computed, at a small size.
    gaussians: a plugin of the slot `gaussians`, which gives the Gaussians to begin with, in place of seeds; settings
    `gaussians.key=value` are its options.

    With the setting `training.pose_rate` poses are trained, too, as far as they are uncertain. They are kept, and
    written as a model to refined/, where photos that were held out come closer by that.

    splat.ply, scene.splat and scene.spz are what viewers read, scores.json how close photos come that were held out,
    held-out/ these photos beside what the splat shows. The same call goes on where it was stopped; with
    a `pose_rate` the second training, that with the poses of the model, begins anew each time.
    """
    options = options_of(settings)
    first = None if gaussians is None else _predictor(gaussians, options.pop("gaussians", {}), seeds)
    plugin: Any = build(Registry().find("splat", method), options, f"splat.{method}")
    folder, made, resources = Path(folder), load(out, photos), machine(device, workers)
    if not made.sparse.models:
        raise InputError(f"{out}: there is no model in it: no photo was registered")
    model, shown = made.sparse.models[0], progress or Quiet()
    posing = plugin.training.pose_rate > 0
    if posing:
        check_trainable_poses(model, plugin.training)
    sigma_deg = rotation_sigmas_deg(made.summary, model, made.photos)
    key = _key(model, made, (method, plugin, gaussians, first), seeds)
    resume = _stored(folder, key)
    with closing(shown), one_thread_each():
        xyz, rgb, begin = np.zeros((0, 3)), np.zeros((0, 3), np.uint8), None
        if resume is not None and not posing:
            pass
        elif first is not None:
            begin = first_state(_predicted(gaussians, first, made, resources), len(model.photos))
        else:
            xyz, rgb = _seeds(made, seeds, SEED_SCALE * plugin.training.max_side_px, resources, shown)
        run = plugin(model, made.photos, xyz, rgb, sigma_deg, resume or begin, resources)
        folder.mkdir(parents=True, exist_ok=True)
        state = resume
        with shown_as(shown, "splat", resources) as reporting:
            for state in run.states:
                _store(folder, key, state)
                reporting.report(state.step, plugin.training.steps, "steps")
        assert state is not None
        views = run.views
        if not posing:
            held_out = [view for view in views if view.held_out]
            result = Splat(state.gaussians, tuple(scored(state.gaussians, held_out, draw)), folder)
        else:
            keeping = replace(plugin, training=replace(plugin.training, pose_rate=0.0))
            with shown_as(shown, "splat", resources) as reporting:
                for given in keeping(model, made.photos, xyz, rgb, sigma_deg, begin, resources).states:
                    reporting.report(given.step, plugin.training.steps, "steps with the given poses")
            poses = judged_poses(views, given, state, plugin.training)
            write_refined(folder, model, made.photos, poses)
            result = Splat((state if poses.kept else given).gaussians, poses.scores, folder, poses)
            held_out = [view for view in poses.views if view.held_out]
        write_splat(result, held_out)
    return result


def _seeds(
    made: Reconstruction, seeds: str | Path | None, side_px: int, resources: Resources, shown: Progress
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Points and colours to begin with: dense ones, and the sparse ones where these are missing."""
    model = made.sparse.models[0]
    if seeds is not None:
        file = Path(seeds) / POINTS.format(0)
        found = read_points_seen(file)
        densified(made.sparse.models[0], found, file)  # InputError where they belong to another model
        return np.asarray(found.xyz, np.float64), found.rgb
    least, most = SEED_SIDES_PX
    side = {"max_side_px": min(max(side_px, least), most)}
    stereo: Any = build(Registry().find("dense", "sweep"), side, "dense.sweep")
    with shown_as(shown, "dense", resources) as reporting:
        points = stereo(model, made.photos, reporting).points
    xyz = np.concatenate([points.xyz.astype(np.float64), np.asarray(model.points, np.float64)])
    return xyz, np.concatenate([points.rgb, model.rgb])


def _predictor(name: str, values: Any, seeds: str | Path | None) -> Any:
    """The plugin that gives the first Gaussians, with its weights."""
    if seeds is not None:
        raise ConfigError("seeds and gaussians: a training begins with the one or the other")
    return ready_plugin(build(Registry().find("gaussians", name), values, "gaussians"), "gaussians")


def _predicted(name: str | None, predictor: Any, made: Reconstruction, resources: Resources) -> Gaussians:
    """The first Gaussians; InputError that names the plugin where it gives none that can be trained."""
    try:
        found: Gaussians = predictor(made.sparse.models[0], made.photos, resources)
    except StageError as error:
        raise InputError(f"gaussians.{name}: {error}") from None
    if fault := found.fault():
        raise InputError(f"gaussians.{name} gave Gaussians that cannot be trained: {fault}")
    return Gaussians(**as_arrays(found))


def _key(model: SparseModel, made: Reconstruction, plugins: tuple[Any, ...], seeds: str | Path | None) -> str:
    """What a training depends on: it goes on only with the same."""
    text = repr((plugins, None if seeds is None else str(Path(seeds).resolve()), model.cameras))
    digest = hashlib.sha256(text.encode())
    digest.update(np.ascontiguousarray(model.cam_from_world).tobytes())
    for index in model.photos.tolist():
        digest.update(made.photos[index].content.encode())
    return digest.hexdigest()


def _stored(folder: Path, key: str) -> SplatState | None:
    """The state of the same training in a folder; InputError if it holds anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        parts = read_npz(folder / STATE)
    except (OSError, ValueError):
        raise InputError(f"{folder} is not empty, and holds no training: give a new folder") from None
    if str(parts.get("key")) != key:
        raise InputError(f"{folder} holds another training: give a new folder")
    arrays = {name.removeprefix("gaussians."): value for name, value in parts.items() if name.startswith("gaussians.")}
    moments = {name.removeprefix("moments."): value for name, value in parts.items() if name.startswith("moments.")}
    gaussians, size = Gaussians(**arrays), float(parts["size"])
    return SplatState(int(parts["step"]), gaussians, parts["log_gain"], parts["motion"], size, moments)


def _store(folder: Path, key: str, state: SplatState) -> None:
    arrays: dict[str, Any] = {"key": np.array(key)}
    arrays |= {name: getattr(state, name) for name in ("step", "size", "log_gain", "motion")}
    arrays |= {f"gaussians.{name}": value for name, value in as_arrays(state.gaussians).items()}
    arrays |= {f"moments.{name}": value for name, value in state.moments.items()}
    aside = folder / f".{STATE}"
    with aside.open("wb") as file:
        np.savez(file, **arrays)
    aside.replace(folder / STATE)


def write_splat(result: Splat, held_out: Sequence[TrainingView]) -> None:
    """Write the files for viewers, the scores, and photos held out beside what the splat shows."""
    folder, gaussians = result.folder, result.gaussians
    for name, write in FILES.items():
        write(gaussians, folder / name)
    (folder / SCORES).write_text(json.dumps(result.facts(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for view in held_out:
        image = drawn(gaussians, view.camera, draw)[0].clamp(0.0, 1.0).numpy()
        both = np.concatenate([view.rgb, np.rint(image * 255).astype(np.uint8)], axis=1)
        file = (folder / HELD_OUT / view.name).with_suffix(".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(cv2.imencode(".png", cv2.cvtColor(both, cv2.COLOR_RGB2BGR))[1].tobytes())
