"""Read the ports of a stage from its class (grain, inputs, result), and check them against its slot."""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, Union, get_args, get_origin, get_type_hints

from .artifacts import Photo, Photos
from .errors import ConfigError
from .slots import PROTOCOLS, SLOTS
from .stage import Grain, PerGroup, PerPair, PerPhoto, Resources, Sides

GRAIN_TABLE: Mapping[Grain, Mapping[Grain, type | None]] = {
    Grain.PHOTO: {Grain.PHOTO: None, Grain.COLLECTION: None},
    Grain.PAIR: {Grain.PHOTO: Sides, Grain.PAIR: None, Grain.COLLECTION: None},
    Grain.GROUP: {Grain.PHOTO: Sequence, Grain.GROUP: None, Grain.COLLECTION: None},
    Grain.COLLECTION: {Grain.PHOTO: PerPhoto, Grain.PAIR: PerPair, Grain.GROUP: PerGroup, Grain.COLLECTION: None},
}
"""Container by grain of the stage, then of the node it reads; None is the bare value. The table of stage.py."""

CONTAINERS = (Sides, Sequence, PerPhoto, PerPair, PerGroup)
GRAIN_TEXT = {Grain.PHOTO: "photos", Grain.PAIR: "pairs", Grain.GROUP: "groups", Grain.COLLECTION: "the collection"}


@dataclass(frozen=True)
class Port:
    """One parameter of a stage that a node feeds."""

    name: str
    container: type | None
    item: Any
    default: Any = inspect.Parameter.empty

    @property
    def optional(self) -> bool:
        """Whether the parameter has a default, so that no node needs to feed it."""
        return self.default is not inspect.Parameter.empty

    def __str__(self) -> str:
        return port_text(self.container, self.item)


@dataclass(frozen=True)
class Ports:
    """The wiring of a stage: `inputs` in signature order, `lent` parameters that receive the Resources, and both in
    `signature`."""

    grain: Grain
    inputs: tuple[Port, ...]
    lent: frozenset[str]
    signature: tuple[str, ...]
    result: Any


def port_text(container: type | None, item: Any) -> str:
    """`PerPhoto[Features]`, `Features`."""
    text = " | ".join(getattr(t, "__name__", str(t)) for t in _alternatives(item))
    name = "Members" if container is Sequence else getattr(container, "__name__", "")
    return f"{name}[{text}]" if name else text


def fits(given: Any, wanted: Any) -> bool:
    """Whether every value of type `given` is a `wanted`."""
    if wanted in (Any, object):
        return True
    wanted_types = tuple(get_origin(t) or t for t in _alternatives(wanted))
    return all(
        isinstance(origin := get_origin(t) or t, type) and issubclass(origin, wanted_types)
        for t in _alternatives(given)
    )


def part_type(collection: Any) -> Any:
    """What `of_photo` of a collection's value gives (see stage.PerPhotoParts), or None where it has no such parts."""
    of_photo = getattr(collection, "of_photo", None)
    return None if of_photo is None else get_type_hints(of_photo).get("return")


def wants_parts(port: Port, grain: Grain, given: Any) -> bool:
    """Whether a port of a stage of this grain reads the value `given` of a collection node photo by photo."""
    if grain is Grain.COLLECTION or (part := part_type(given)) is None:
        return False
    return port.container is GRAIN_TABLE[grain][Grain.PHOTO] and fits(part, port.item)


def read_ports(cls: type) -> Ports:
    """Read the ports of a stage class; ConfigError (without the plugin's name) if it is not a stage."""
    grain = getattr(cls, "grain", None)
    if not isinstance(grain, Grain):
        raise ConfigError("has no `grain: ClassVar[Grain]`")
    parameters, hints = _signature(cls)
    inputs, lent = [], set()
    for name, parameter in parameters.items():
        hint = hints[name]
        if hint is Resources:
            lent.add(name)
            continue
        if parameter.default is not inspect.Parameter.empty:
            hint = reduce(or_, [t for t in _alternatives(hint) if t is not type(None)])
        origin, args = get_origin(hint), get_args(hint)
        known = origin in CONTAINERS and len(args) == 1
        inputs.append(Port(name, origin if known else None, args[0] if known else hint, parameter.default))
    return Ports(grain, tuple(inputs), frozenset(lent), tuple(parameters), hints["return"])


def check_plugin(cls: object, slot: str) -> None:
    """ConfigError (without the plugin's name) if this object cannot serve in the slot."""
    options = getattr(cls, "__dataclass_params__", None)  # only here do dataclasses keep `frozen`
    if not (isinstance(cls, type) and options and options.frozen):
        raise ConfigError("is no frozen dataclass")
    wanted = SLOTS[slot]
    if not wanted.grains and "__call__" in vars(PROTOCOLS[slot]):
        parameters, expected = (", ".join(_signature(each)[0]) for each in (cls, PROTOCOLS[slot]))
        if parameters != expected:
            raise ConfigError(f"is called with ({parameters}), but {slot} with ({expected})")
        return
    if not wanted.grains:
        for name in (name for name, member in vars(PROTOCOLS[slot]).items() if callable(member) and name[0] != "_"):
            if not callable(getattr(cls, name, None)):
                raise ConfigError(f"has no method `{name}`")
        return
    ports = read_ports(cls)
    if not isinstance(version := getattr(cls, "version", 1), int):
        raise ConfigError(f"has version {version!r}, but a version is an int")
    if ports.grain not in wanted.grains:
        over = " or ".join(GRAIN_TEXT[grain] for grain in wanted.grains)
        raise ConfigError(f"runs over {GRAIN_TEXT[ports.grain]}, but {slot} runs over {over}")
    if not fits(ports.result, wanted.gives):
        raise ConfigError(f"gives {port_text(None, ports.result)}, but {slot} gives {port_text(None, wanted.gives)}")


def photos_port(grain: Grain) -> tuple[type | None, Any]:
    """Container and type in which the node `photos` reaches a stage of this grain."""
    return (None, Photos) if grain is Grain.COLLECTION else (GRAIN_TABLE[grain][Grain.PHOTO], Photo)


def _signature(cls: type) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    call = cls.__dict__.get("__call__") or next(
        (b.__dict__["__call__"] for b in cls.__mro__[1:] if "__call__" in b.__dict__), None
    )
    if call is None:
        raise ConfigError("has no `__call__`")
    parameters = dict(list(inspect.signature(call).parameters.items())[1:])
    try:
        hints = get_type_hints(call)
    except Exception as error:  # evaluating annotations may raise anything
        raise ConfigError(f"has an annotation that cannot be resolved: {error}") from error
    for name, parameter in parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigError(f"has {parameter} in its call: parameters are wiring, so each needs a name")
        if name not in hints:
            raise ConfigError(f"does not annotate its parameter {name!r}")
    if "return" not in hints:
        raise ConfigError("does not annotate what it returns")
    return parameters, hints


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
