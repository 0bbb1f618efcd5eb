"""Presets: graphs in YAML, shipped with the package or written by the user, and settings on top of them.

    about: SIFT on any machine          # one line for `unposed presets`
    extends: classic                    # begin with another preset (a name, or a file next to this one)
    outputs: [ranking]                  # nodes to compute although no other node reads them
    features: {use: sift, max_features: 2048}
    fine: null                          # drops an inherited node

Everything but `about`, `extends` and `outputs` is a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from .config import did_you_mean, quoted
from .errors import ConfigError
from .regular_files import read_text
from .yaml_text import read_yaml

RESERVED = ("about", "extends", "outputs")

Preset = dict[str, Any]


def read_preset(name_or_path: str | Path, configs: Traversable | None = None) -> Preset:
    """The preset with everything it extends merged in. A name means a packaged one, a path a file."""
    return _read(str(name_or_path), None, files("unposed.configs") if configs is None else configs, ())


def list_presets(configs: Traversable | None = None) -> list[tuple[str, str]]:
    """Name and one-line description of the packaged presets, sorted by name."""
    shipped = _shipped(files("unposed.configs") if configs is None else configs)
    return [(name, str(_load(file).get("about", ""))) for name, file in sorted(shipped.items())]


def apply_settings(preset: Mapping[str, Any], settings: Iterable[str]) -> Preset:
    """A copy with `node.key=value` settings applied (values are YAML); `node.use=plugin` may add a node.

    `node=null` drops one, as in a file. It does not matter which setting comes first.
    """
    layer: Preset = {}
    dropped: Preset = {}
    for setting in settings:
        target, equals, value = setting.partition("=")
        node, dot, key = target.strip().partition(".")
        if node in RESERVED:
            raise ConfigError(f"{setting!r}: {node!r} is no node")
        if node and not dot and value.strip() == "null":
            dropped[node] = None
            continue
        if not (equals and dot and node and key):
            named = node in preset and not dot and value.strip().replace("-", "_").isidentifier()
            hint = f"; a plugin is chosen by {node}.use={value.strip()}" if named else ""
            raise ConfigError(f"{setting!r}: expected node.key=value, e.g. matching.max_ratio=0.8, or node=null{hint}")
        inner = layer.setdefault(node, {})
        *parents, last = key.split(".")
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{setting!r}: {parent!r} is also set to a plain value")
        inner[last] = read_yaml(value, f"{target.strip()}=")
    known = [name for name in preset if name not in RESERVED]
    for node in (*layer, *dropped):
        if node in layer and node in dropped:
            raise ConfigError(f"{node}: dropped by {node}=null and set by another setting")
        if node not in known and "use" not in layer.get(node, {}):
            raise ConfigError(f"{node}: no such node{did_you_mean(node, known)}")
    return _merge(preset, layer | dropped)


def _read(name: str, beside: Path | None, configs: Traversable, seen: tuple[str, ...]) -> Preset:
    file: Traversable
    if name.endswith((".yaml", ".yml")) or "/" in name or "\\" in name:
        file = path = (beside / name if beside else Path(name).expanduser()).resolve()
        if not path.exists():
            raise ConfigError(f"{name}: no such preset file")
        beside, identity = path.parent, str(path)
    else:
        shipped = _shipped(configs)
        if name not in shipped:
            raise ConfigError(f"{name}: no such preset{did_you_mean(name, shipped)} (a file needs its .yaml)")
        file, beside, identity = shipped[name], None, name
    if identity in seen:
        raise ConfigError(f"preset extends itself: {' -> '.join((*seen, identity))}")
    preset = _load(file)
    base = preset.pop("extends", None)
    if base is None:
        return _merge({}, preset)
    if not isinstance(base, str):
        raise ConfigError(f"{name}: extends: expected the name of a preset, got {quoted(base)}")
    inherited = _read(base, beside, configs, (*seen, identity))
    about = {"about": preset["about"]} if "about" in preset else {}  # its own or none, and first, for those who read it
    return about | _merge({key: value for key, value in inherited.items() if key != "about"}, preset)


def _shipped(configs: Traversable) -> dict[str, Traversable]:
    return {f.name.removesuffix(".yaml"): f for f in configs.iterdir() if f.name.endswith(".yaml")}


def _load(file: Traversable) -> Preset:
    try:
        text = read_text(file) if isinstance(file, Path) else file.read_text(encoding="utf-8")
        data = deepcopy(_parsed(text, file.name))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file.name}: cannot be read: {error}") from error
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ConfigError(f"{file.name}: expected a mapping of node names to options")
    return data


@lru_cache
def _parsed(text: str, name: str) -> Any:
    """Once per text: many presets extend the same one. Callers change what they are given, so they take copies."""
    return read_yaml(text, name)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Preset:
    """Nodes are merged option by option; another plugin begins afresh, since options belong to a plugin."""
    merged: Preset = {key: dict(value) if isinstance(value, dict) else value for key, value in base.items()}
    for key, value in over.items():
        old = merged.get(key)
        if key not in RESERVED and value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(old, dict) and value.get("use", old.get("use")) == old.get("use"):
            merged[key] = _merge_options(old, value)
        else:
            merged[key] = dict(value) if isinstance(value, dict) else value
    return merged


def _merge_options(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(old)
    for key, value in new.items():
        nested = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = _merge_options(both[key], value) if nested else value
    return both
