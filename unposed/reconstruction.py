"""From a folder of photos to a reconstruction, and what one can do with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from unposed.pipeline.artifacts import Photos, SparseModels
from unposed.pipeline.colmap_model import from_colmap, write_components
from unposed.pipeline.config import build
from unposed.pipeline.engine import run
from unposed.pipeline.errors import ConfigError, InputError, NoReconstruction, StageCrashed
from unposed.pipeline.executor import Executor
from unposed.pipeline.graph import Graph, build_graph
from unposed.pipeline.images.photos import scan
from unposed.pipeline.presets import apply_settings, read_preset
from unposed.pipeline.progress import Progress, Quiet
from unposed.pipeline.registry import Registry
from unposed.pipeline.resources import machine
from unposed.pipeline.store.store import Store, default_folder

from . import summary as facts
from .output import claimed, publish
from .run_log import RunLog

ANYWHERE = "classic"
"""The preset that runs on any machine and downloads nothing."""

WITH_GPU = "mast3r"
"""The preset that `auto` takes where a GPU is, and its weights have been put where they are found."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What came out, and of what."""

    photos: Photos
    scenes: SparseModels
    summary: Mapping[str, Any]
    """The content of summary.json."""
    folder: Path | None
    """Where it was written, if anywhere."""

    def export(self, to: str, folder: str | Path, **options: Any) -> None:
        """Write it for another program: `to` is an export plugin, `options` are what that plugin can be told."""
        plugin: Any = build(Registry().find("export", to), options, f"export.{to}")
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is not empty: give a new folder")
        plugin(self.scenes, self.photos, folder)


def reconstruct(
    photos: str | Path,
    out: str | Path | None = None,
    *,
    preset: str | Path = "auto",
    settings: Iterable[str] | Mapping[str, Any] = (),
    cameras: Literal["auto", "single", "folder", "image"] | None = None,
    intrinsics: str | Path | None = None,
    poses: str | Path | None = None,
    masks: str | Path | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    require: float = 0.0,
    seed: int = 0,
    device: str = "auto",
    executor: str = "local",
    workers: int | None = None,
    ram_bytes: int | None = None,
    vram_bytes: int | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Reconstruction:
    """Find the cameras and 3D points of the photos in a folder, and write them to `out` if one is given.

    settings: `node.key=value`, or a mapping of `node.key` to value, on top of the preset.
    cameras: which photos share their intrinsics; a short form of the setting `cameras.grouping`.
    intrinsics, poses: files with those that are known, and then held; short forms of `cameras.intrinsics` and so on.
    require: share of the photos that must be placed, else NoReconstruction (what was found is written all the same).
    device, workers, ram_bytes, vram_bytes: what may be used; no result depends on it.
    executor: the plugin that spreads the work.
    cache: folder of stored results, by default the user's.
    Raises ConfigError, InputError, NoReconstruction, Interrupted; each says in one line what to do.
    """
    started = facts.Clock.now()
    resources, workplace = machine(device, workers, ram_bytes, vram_bytes), chosen_executor(executor)
    name = chosen_preset(preset, resources.device)
    store_folder = default_folder() if cache is None else Path(cache)
    with closing(progress or Quiet()) as shown:
        graph = checked_graph(name, settings, {"grouping": cameras, "intrinsics": intrinsics, "poses": poses})
        found = scan(photos, include=include, exclude=exclude, masks=masks)

        crashes: list[StageCrashed] = []

        def compute(watcher: Progress) -> Reconstruction:
            failure = None
            with Store(store_folder, report=watcher.note) as store:
                try:
                    done = run(graph, found, store, workplace, resources, watcher, seed)
                    scenes = done.scenes or SparseModels((), {})
                except (NoReconstruction, StageCrashed) as error:
                    failure, done, scenes = str(error), error.run, SparseModels((), {})
                    if isinstance(error, StageCrashed):
                        crashes.append(error)
                summary = {
                    **facts.origin(Path(photos), Path(masks) if masks else None, name, graph, seed, resources),
                    **facts.outcome(found, scenes, done, failure),
                    **started.elapsed(),
                }
            return Reconstruction(found, scenes, summary, None)

        if out is None:
            made = compute(shown)
        else:
            out = Path(out)
            with claimed(out) as new, RunLog(out / "run.log", shown) as log:
                log.write(f"{len(found)} photos in {photos}, preset {name}, seed {seed}")
                made = replace(compute(log), folder=out)
                _write(made, new, out)
                log.write(made.summary["failure"] or f"{made.summary['registered']} of {made.summary['total']} placed")
    if crashes:
        raise crashes[0]
    _check(made, require)
    return made


def load(out: str | Path, photos: str | Path | None = None) -> Reconstruction:
    """What `reconstruct` has written to `out`. `photos` says where the photos are, if they have moved."""
    import pycolmap

    out = Path(out)
    try:
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        models = [out / component["model"] for component in summary["models"]]
        folder, masks = Path(photos or summary["photos_folder"]), summary.get("masks_folder")
        reasons = summary["photos"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{out}: no finished reconstruction (summary.json) in it") from None
    if photos is None and not folder.is_dir():
        raise InputError(f"{out}: its photos are no longer in {folder}: say where they are (--photos DIR)")
    found = scan(folder, masks=masks if masks and Path(masks).is_dir() else None)
    try:
        scenes = tuple(from_colmap(pycolmap.Reconstruction(model), found) for model in models)
    except ValueError as error:
        raise InputError(f"{out}: the models in it cannot be read: {error}") from error
    placed = {index for scene in scenes for index in scene.photos.tolist()}
    left_out = {
        index: reasons.get(photo.name, {}).get("reason", "came later")
        for index, photo in enumerate(found.photos)
        if index not in placed
    }
    return Reconstruction(found, SparseModels(scenes, left_out, tuple(summary["warnings"])), summary, out)


def chosen_preset(preset: str | Path, device: str) -> str:
    """The name of the preset, `auto` resolved for this machine."""
    if preset != "auto":
        return str(preset)
    if not device.startswith("cuda"):
        return ANYWHERE
    try:
        checked_graph(WITH_GPU, ())
    except ConfigError:  # no weights
        return ANYWHERE
    return WITH_GPU


def chosen_executor(name: str) -> Executor:
    """The executor plugin of this name."""
    made: Executor = build(Registry().find("executor", name), {}, f"executor.{name}")
    return made


def checked_graph(
    preset: str, settings: Iterable[str] | Mapping[str, Any], cameras: Mapping[str, str | Path | None] | None = None
) -> Graph:
    """The whole graph, checked before any photo is read; `cameras` are settings of the node of that name, None is no
    setting."""
    lines = [f"{k}={json.dumps(v)}" for k, v in settings.items()] if isinstance(settings, Mapping) else list(settings)
    lines += [f"cameras.{key}={json.dumps(str(value))}" for key, value in (cameras or {}).items() if value is not None]
    graph = build_graph(apply_settings(read_preset(preset), lines), Registry())
    if graph.result is None:
        raise ConfigError(f"{preset}: no node gives SparseModels, so there would be no reconstruction")
    return graph


def _write(made: Reconstruction, new: Path, out: Path) -> None:
    """Aside first, so that a disk that fills up spoils nothing."""
    try:
        if made.scenes.models:
            write_components(made.scenes.models, made.photos, new / "sparse")
        text = json.dumps(made.summary, indent=1, ensure_ascii=False)
        # Names that are no UTF-8 were refused, and are named: as escapes, which JSON has as well.
        (new / "summary.json").write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        publish(new, out)
    except OSError as error:
        raise InputError(
            f"{out} cannot be written ({error.strerror or error}); run again when it can: what was computed is kept"
        ) from error


def _check(made: Reconstruction, require: float) -> None:
    where = f"; {made.folder}/summary.json says why, photo by photo" if made.folder else ""
    found, registered = made.summary["total"], made.summary["registered"]
    if made.summary["failure"]:
        raise NoReconstruction(f"{made.summary['failure']}{where}")
    if not made.scenes.models:
        raise NoReconstruction(
            f"none of the {found} photos could be placed: every spot has to be seen from two or more places{where}"
        )
    if registered < require * found:
        raise NoReconstruction(f"only {registered} of {found} photos were placed, {require:.0%} are required{where}")
