"""What unposed can do, as functions: one per command of the command line.

    import unposed
    scene = unposed.reconstruct("photos/", "result/")
    scene.export("ply", "points/")

Nothing here prints, and nothing is remembered between calls but what lies in the cache folder. The functions are
there as `unposed.reconstruct` and so on, too, without the cost of loading them beforehand.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unposed.pipeline import presets
from unposed.pipeline.config import Option, did_you_mean, schema
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.registry import PluginInfo, Registry
from unposed.pipeline.store.store import Store, default_folder
from unposed.pipeline.weights import download
from unposed.pipeline.weights.catalogue import CATALOGUE, Weights, entry
from unposed.pipeline.weights.files import find_weights
from unposed.synthetic.sample import sample_folder

from .diagnosis import Diagnosis, diagnose
from .evaluation import Evaluation, evaluate_model
from .pair_choice import pairs
from .pair_table import PairFacts, PairTable
from .photo_pair import Pair
from .plugin_template import write_plugin
from .reconstruction import Reconstruction, load, reconstruct
from .two_photos import pairwise

__all__ = [
    "Diagnosis",
    "Evaluation",
    "Pair",
    "PairFacts",
    "PairTable",
    "Plugin",
    "Reconstruction",
    "Weights",
    "accept_weights",
    "demo",
    "doctor",
    "evaluate",
    "export",
    "get_weights",
    "list_plugins",
    "list_presets",
    "list_weights",
    "load",
    "new_plugin",
    "open_cache",
    "pairs",
    "pairwise",
    "reconstruct",
    "show_plugin",
    "show_preset",
]


@dataclass(frozen=True)
class Plugin:
    """A plugin, looked into: what it says of itself and what it can be told."""

    info: PluginInfo
    about: str
    options: tuple[Option, ...]


def export(out: str | Path, to: str, folder: str | Path, photos: str | Path | None = None) -> None:
    """Write the finished reconstruction in `out` for another program; `to` is an export plugin."""
    load(out, photos).export(to, folder)


def evaluate(model: str | Path, gt: str | Path) -> Evaluation:
    """Measure a model (OUT of reconstruct, a COLMAP folder or transforms.json) against known camera poses."""
    return evaluate_model(Path(model), Path(gt))


def demo(out: str | Path = "unposed-demo", **how: Any) -> tuple[Reconstruction, Evaluation]:
    """Reconstruct the sample that comes along and measure the result; `how` are options of reconstruct."""
    sample = sample_folder()
    made = reconstruct(sample, out, **how)
    return made, evaluate(out, sample / "gt.json")


def list_plugins() -> list[PluginInfo]:
    """Every plugin that is installed, ours and others', sound or not; none of them is imported."""
    return Registry().available()


def show_plugin(name: str) -> Plugin:
    """One plugin by `slot.name`, or by its name alone where no other slot has the same."""
    registry = Registry()
    slot, dot, rest = name.partition(".")
    if not dot:
        slots = [info.slot for info in registry.available() if info.name == name]
        if len(slots) != 1:
            if not slots:
                raise ConfigError(f"{name}: no such plugin{did_you_mean(name, {i.name for i in registry.available()})}")
            raise ConfigError(f"{name}: several plugins have this name: {', '.join(f'{s}.{name}' for s in slots)}")
        slot, rest = slots[0], name
    cls = registry.find(slot, rest)
    info = next(info for info in registry.available() if (info.slot, info.name) == (slot, rest))
    return Plugin(info, inspect.getdoc(cls) or "", tuple(schema(cls)))


def new_plugin(folder: str | Path) -> list[Path]:
    """Begin a plugin distribution of one's own in a new folder; gives the files written."""
    return write_plugin(Path(folder))


def list_presets() -> list[tuple[str, str]]:
    """Name and description of the presets that come along."""
    return presets.list_presets()


def show_preset(name: str | Path) -> dict[str, Any]:
    """A preset, by name or file, with all that it inherits."""
    return presets.read_preset(name)


def list_weights() -> list[tuple[Weights, Path | None]]:
    """The published weights that are known by name, and where each is on this machine, if it is."""
    return [(weights, find_weights(weights.file)) for weights in CATALOGUE]


def accept_weights(name: str) -> Weights:
    """Accept the licence of published weights (`terms` says which); it is remembered in the user's cache folder."""
    weights = entry(name)
    download.accept(weights)
    return weights


def get_weights(name: str, watch: download.Watcher = lambda done, total: None) -> Path:
    """The file of published weights, fetched if this machine does not have it and the licence was accepted."""
    weights = entry(name)
    return find_weights(weights.file) or download.fetch(weights, watch)


def open_cache(folder: str | Path | None = None) -> Store:
    """The store of results in a folder, or in the user's cache folder: to list, prune or verify."""
    return Store(default_folder() if folder is None else Path(folder))


def doctor(cache: str | Path | None = None) -> Diagnosis:
    """What this machine has, and what is amiss with it."""
    return diagnose(default_folder() if cache is None else Path(cache))
