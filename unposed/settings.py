"""Options of a dataclass or a plugin from lines `key=value`, keys of nested options with dots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from unposed.pipeline.config import build
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.yaml_text import read_yaml

from .options import Settings

T = TypeVar("T")


def built_options(cls: type[T], settings: Settings, path: str) -> T:
    """The options after settings such as `partners=20` or `pose.min_inliers=30`; `path` is named in errors."""
    return build(cls, options_of(settings), path)


def options_of(settings: Settings) -> dict[str, Any]:
    """Options by name from lines `key=value`, or a mapping; `a.b=1` sets b of the options a."""
    values: dict[str, Any] = {}
    for key, value in settings.items() if isinstance(settings, Mapping) else map(key_and_value, settings):
        *groups, name = key.split(".")
        place = values
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{key}: {group} is set as a whole, too: say one or the other")
        place[name] = value
    return values


def key_and_value(setting: str) -> tuple[str, Any]:
    """Both sides of a setting."""
    key, equals, value = setting.partition("=")
    if not (equals and key.strip()):
        raise ConfigError(f"{setting!r}: expected key=value, e.g. cameras=true")
    return key.strip(), read_yaml(value, f"{key.strip()}=")
