"""Weight files of networks: named by an option, or found by their published name; never downloaded unasked.

    @dataclass(frozen=True)
    class Aliked:
        model: Literal["n16", "n16rot"] = "n16rot"
        weights: Annotated[Path | None, WeightFile("aliked-{model}.pth")] = None

An annotated field holds an existing file when the stage is called, whether the user named one or not. The content of
the file enters the keys of the results. `{model}` is replaced by another field or property of the stage.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from ..errors import ConfigError
from ..logs import module_logger
from ..store.content import content_hash
from ..store.store import default_folder
from .catalogue import published

VARIABLE = "UNPOSED_WEIGHTS"

LOG = module_logger(__name__)


class WeightFile:
    """Annotation of a field: names under which its file may be in a folder of weights, best first."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def names_for(self, stage: object) -> list[str]:
        """The names with options of the stage filled in."""
        return [name.format_map(_Attributes(stage)) for name in self.names]


class _Attributes(dict[str, Any]):
    """Fields and properties by name."""

    def __init__(self, stage: object) -> None:
        self._stage = stage

    def __missing__(self, name: str) -> Any:
        return getattr(self._stage, name)


def weight_folders() -> list[Path]:
    """Folders that are searched: $UNPOSED_WEIGHTS if set, then weights/ in the user's cache folder."""
    own = default_folder() / "weights"
    return [Path(chosen).expanduser(), own] if (chosen := os.environ.get(VARIABLE)) else [own]


def find_weights(*names: str) -> Path | None:
    """The first of these files that is in one of the folders."""
    places = (folder / name for name in names for folder in weight_folders())
    return next((place for place in places if place.is_file()), None)


class MissingWeights(ConfigError):
    """Weights that a preset needs are not here."""

    def __init__(self, message: str, names: tuple[str, ...]) -> None:
        super().__init__(message)
        self.names = names
        """Those of them that are published under a name that `unposed weights` knows."""


def with_weights(stages: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the weight files of stages by node; MissingWeights says how to get those that are not here, all at once.

    A file named for one node is used for other nodes that look for a file of the same name.
    """
    named: dict[str, Path] = {}
    for stage in stages.values():
        for field, marker in _weight_fields(type(stage)).items():
            if (given := getattr(stage, field)) is not None:
                named |= {name: given for name in marker.names_for(stage) if name not in named}
    missing: dict[tuple[str, ...], str] = {}
    found = {node: _located(stage, node, named, missing) for node, stage in stages.items()}
    if missing:
        raise MissingWeights(
            "; ".join(missing.values()), tuple(known.name for names in missing if (known := published(list(names))))
        )
    return found


def ready_plugin(plugin: Any, prefix: str = "") -> Any:
    """A plugin outside of a graph with its weight files; `prefix` is what its options have before their names."""
    return with_weights({prefix: plugin})[prefix]


def _located(stage: Any, node: str, named: Mapping[str, Path], missing: dict[tuple[str, ...], str]) -> Any:
    """The stage with its files; what is not here is added to `missing`, by its names."""
    located: dict[str, Path | None] = {}
    for field, marker in _weight_fields(type(stage)).items():
        names, option = marker.names_for(stage), f"{node}.{field}" if node else field
        given = getattr(stage, field) or next((named[name] for name in names if name in named), None)
        if given is None:
            located[field] = find_weights(*names)
        elif given.is_dir():
            located[field] = next((given / name for name in names if (given / name).is_file()), None)
        elif given.is_file():
            located[field] = given
        else:
            raise ConfigError(f"{option}: no such file: {given}")
        if located[field] is None:
            missing.setdefault(tuple(names), f"{option}: {_remedy(names, given, option)}")
        LOG.debug("%s is %s", option, located[field])
    return dataclasses.replace(stage, **located) if located else stage


def needs_weights(stage: object) -> bool:
    """Whether a stage is a network with weight files."""
    return bool(_weight_fields(type(stage)))


def weights_used(stages: Mapping[str, object]) -> dict[str, dict[str, str]]:
    """`node.field` to file and hash, of stages with weight files."""
    return {
        f"{node}.{field}": {"file": str(path), "sha256": content_hash(path)}
        for node, stage in stages.items()
        for field in _weight_fields(type(stage))
        if (path := getattr(stage, field))
    }


def _remedy(names: list[str], folder: Path | None, option: str) -> str:
    known = published(names)
    searched = [folder] if folder else weight_folders()
    missing = f"no {' or '.join(names)} in {' or '.join(map(str, searched))}"
    get = f"run `unposed weights get {known.name}` ({known.licence}), or " if known else ""
    return f"{missing}: {get}put the file there, or name it with --set {option}=PATH"


def _weight_fields(cls: type) -> dict[str, WeightFile]:
    found: dict[str, WeightFile] = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if get_origin(hint) is Annotated:
            found.update((name, marker) for marker in get_args(hint)[1:] if isinstance(marker, WeightFile))
    return found
