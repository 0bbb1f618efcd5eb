"""Options of a dataclass from lines `key=value`, keys of nested options with dots."""

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
    pairs = settings.items() if isinstance(settings, Mapping) else map(key_and_value, settings)
    nested: dict[str, Any] = {}
    for key, value in pairs:
        *above, last = key.split(".")
        level = nested
        for part in above:
            level = level.setdefault(part, {})
            if not isinstance(level, dict):
                raise ConfigError(f"{key}: {part} is no group of options")
        level[last] = value
    return build(cls, nested, path)


def key_and_value(setting: str) -> tuple[str, Any]:
    """Both sides of a setting."""
    key, equals, value = setting.partition("=")
    if not (equals and key.strip()):
        raise ConfigError(f"{setting!r}: expected key=value, e.g. cameras=true")
    return key.strip(), read_yaml(value, f"{key.strip()}=")
