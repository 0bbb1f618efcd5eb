"""Keys of stored values: hashes of everything a value depends on, and of nothing else.

A photo is its content, its mask's, and what was read from them; names, paths and indices of photos do not enter the
keys of per-photo and per-pair values. A stage over the collection may see names and indices, so they enter there. A
file named by an option (weights, given intrinsics) is its content. The versions of the libraries and the kind of CPU
enter every key, since they decide about bytes. Device, workers and budget are no part of any.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..artifacts import Photo, Photos
from ..environment import result_environment
from ..errors import ConfigError
from ..graph import Node
from .content import content_hash

PLACE = ("path", "mask", "decoding_bytes")
"""Facts about where and how a photo is kept, on which no result depends."""


_SORTED, _AS_IT_IS = (json.JSONEncoder(sort_keys=by_key, separators=(",", ":")).encode for by_key in (True, False))
"""Made once: there are ten thousands of keys, and an encoder takes longer to make than to write one."""


def digest(*parts: object) -> str:
    """128 bits in hexadecimal of any JSON-like value."""
    return hashlib.blake2b(_SORTED(parts).encode(), digest_size=16).hexdigest()


def digest_all(keys: Iterable[object]) -> str:
    """The same for a long sequence, without holding it."""
    state = hashlib.blake2b(digest_size=16)
    for key in keys:
        state.update(_AS_IT_IS(key).encode() + b"\n")
    return state.hexdigest()


def photo_key(photo: Photo) -> str:
    """What a per-item stage may see of a photo: content, size, orientation, EXIF, mask."""
    return digest("photo", _facts(photo, ("name", *PLACE)))


def photos_key(photos: Photos) -> str:
    """What a stage over the collection may see of the photos: all but where they lie."""
    return digest_all(_facts(photo, PLACE) for photo in photos.photos)


def stage_key(node: Node) -> str:
    """Which code with which configuration, in which environment."""
    cls = type(node.stage)
    config = {
        f.name: _plain(getattr(node.stage, f.name), f"{node.name}.{f.name}") for f in dataclasses.fields(node.stage)
    }
    return digest(f"{cls.__module__}:{cls.__qualname__}", getattr(cls, "version", 1), config, result_environment())


def _facts(photo: Photo, skipped: tuple[str, ...]) -> dict[str, Any]:
    return {
        f.name: _plain(getattr(photo, f.name), "photos") for f in dataclasses.fields(photo) if f.name not in skipped
    }


def _plain(value: Any, path: str) -> Any:
    if isinstance(value, Path):
        return ["file", _file_content(value, path)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name), f"{path}.{f.name}") for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return [[_plain(k, path), _plain(v, path)] for k, v in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(each, path) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(f"{path}: a {type(value).__name__} cannot be a part of a stage's configuration")


def _file_content(path: Path, option: str) -> str:
    try:
        return content_hash(path)
    except OSError as error:
        raise ConfigError(f"{option}: {path}: {error.strerror}") from error
