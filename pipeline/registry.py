"""Plugins by name: the entry-point group `unposed.plugins`, entries `<slot>.<plugin>`, imported when first used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import Distribution, EntryPoint, entry_points

from .config import did_you_mean
from .errors import ConfigError
from .logs import module_logger
from .plugin_imports import load_plugin
from .ports import check_plugin
from .slots import SLOTS

GROUP = "unposed.plugins"

LOG = module_logger(__name__)


@dataclass(frozen=True)
class PluginInfo:
    """An entry point, known without importing it."""

    slot: str
    name: str
    distribution: str
    """Name and version of the distribution that brings it."""
    target: str
    """module:attribute."""
    problem: str | None = None
    """Why it cannot be used, as far as its name shows."""


class Registry:
    """Table of plugins: the installed ones, or given entry points for tests."""

    def __init__(self, entries: Iterable[EntryPoint] | None = None) -> None:
        found = entry_points(group=GROUP) if entries is None else entries
        # One distribution may be on the path twice (a checkout and its installation): the same entry is no duplicate.
        self._entries = {(e.name, e.value, _described(e.dist)): e for e in found}
        self._checked: dict[str, type] = {}

    def available(self) -> list[PluginInfo]:
        """All entries, sorted, with the problem of unusable ones; imports nothing."""
        return list(self._rows)

    @cached_property
    def _rows(self) -> tuple[PluginInfo, ...]:
        rows = []
        for name, value, distribution in sorted(self._entries):
            slot, _, plugin = name.partition(".")
            rivals = [d for n, _, d in self._entries if n == name]
            problem = None
            if not plugin or slot not in SLOTS:
                problem = f"{name!r} is not <slot>.<plugin>; slots are {', '.join(SLOTS)}"
            elif len(rivals) > 1:
                problem = f"brought by {' and '.join(sorted(rivals))}: uninstall one of them"
            rows.append(PluginInfo(slot, plugin, distribution, value, problem))
        return tuple(rows)

    def names(self, slot: str) -> list[str]:
        """Names of the plugins of a slot."""
        return sorted({info.name for info in self.available() if info.slot == slot})

    def find(self, slot: str, name: str) -> type:
        """Import and check the class of a plugin; ConfigError names the distribution of one that cannot be used."""
        if known := self._checked.get(f"{slot}.{name}"):
            return known
        if slot not in SLOTS:
            raise ConfigError(f"{slot}: no such slot{did_you_mean(slot, SLOTS)}")
        rows = [info for info in self.available() if (info.slot, info.name) == (slot, name)]
        if not rows:
            raise ConfigError(f"{slot}: no such plugin {name!r}{did_you_mean(name, self.names(slot))}")
        info = rows[0]
        blame = f"plugin {slot}.{name} of {info.distribution}"
        if info.problem:
            raise ConfigError(f"{slot}.{name}: {info.problem}")
        entry = self._entries[f"{slot}.{name}", info.target, info.distribution]
        cls = load_plugin(entry.load, blame)
        try:
            check_plugin(cls, slot)
        except ConfigError as error:
            raise ConfigError(f"{blame} is not fit: {info.target} {error}") from None
        LOG.debug("%s.%s is %s of %s", slot, name, info.target, info.distribution)
        self._checked[f"{slot}.{name}"] = cls
        return cls  # type: ignore[no-any-return]


@lru_cache
def _described(distribution: Distribution | None) -> str:
    """Name and version of a distribution, cached, as every access parses all its metadata."""
    return f"{distribution.name} {distribution.version}" if distribution else "an unknown distribution"
