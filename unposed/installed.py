"""Plugins, presets, published weights and stored results on this machine."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unposed.pipeline import presets
from unposed.pipeline.config import Option, did_you_mean, schema
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.registry import PluginInfo, Registry
from unposed.pipeline.store.overlay import is_writable
from unposed.pipeline.store.store import Store, default_folder
from unposed.pipeline.weights import download
from unposed.pipeline.weights.catalogue import CATALOGUE, Weights, entry
from unposed.pipeline.weights.files import MissingWeights, find_weights

from .plugin_template import write_plugin
from .run_setup import checked_graph


@dataclass(frozen=True)
class Plugin:
    """A plugin with its documentation and options."""

    info: PluginInfo
    about: str
    options: tuple[Option, ...]


def list_plugins() -> list[PluginInfo]:
    """List every installed plugin, usable or not; none is imported."""
    return Registry().available()


def show_plugin(name: str) -> Plugin:
    """Describe a plugin by `slot.name`, or by its name alone where it is unique."""
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
    """Write the template of a plugin distribution to a new folder; returns the written files."""
    return write_plugin(Path(folder))


def list_presets() -> list[tuple[str, str]]:
    """List names and descriptions of the packaged presets."""
    return presets.list_presets()


def show_preset(name: str | Path) -> dict[str, Any]:
    """Read a preset, by name or file, with everything that it extends."""
    return presets.read_preset(name)


def list_weights() -> list[tuple[Weights, Path | None]]:
    """List the published weights in the catalogue, and the file of each on this machine, if it is here."""
    return [(weights, find_weights(weights.file)) for weights in CATALOGUE]


def accept_weights(name: str) -> Weights:
    """Accept the licence of published weights (see `terms`); remembered in the user's cache folder."""
    weights = entry(name)
    download.accept(weights)
    return weights


def get_weights(name: str, watch: download.Watcher = lambda done, total: None) -> Path:
    """Find the file of published weights, or download it if the licence was accepted."""
    weights = entry(name)
    return find_weights(weights.file) or download.fetch(weights, watch)


def missing_weights(preset: str | Path) -> tuple[str, ...]:
    """Names of the published weights that a preset needs and that are not here; none if it can run."""
    try:
        checked_graph(str(preset), ())
    except MissingWeights as missing:
        return missing.names
    return ()


def open_cache(folder: str | Path | None = None) -> Store:
    """Open the store of results in a folder, or in the user's cache folder, to list, prune or verify it."""
    chosen = default_folder() if folder is None else Path(folder)
    return Store(chosen, read_only=not is_writable(chosen))
