"""Build frozen dataclasses from plain YAML data: exact types, no unknown keys, errors that name the option.

build(MutualNearest, {"max_ratio": "0.8x"}, "matching")
ConfigError: matching.max_ratio: expected float in (0, 1], got '0.8x'
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import itertools
import math
import reprlib
import textwrap
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from unposed.optim.option_ranges import Within as Within

from .errors import ConfigError

T = TypeVar("T")


def build(cls: type[T], data: object, path: str) -> T:
    """Build an instance of a dataclass from a mapping. `path` is its name in messages, e.g. that of the node."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path}: expected a mapping of options, got {quoted(data)}")
    hints = get_type_hints(cls, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise ConfigError(f"{path}.{key}: no such option{did_you_mean(str(key), fields)}")
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in data:
            raise ConfigError(f"{path}.{name}: missing, expected {type_text(hints[name])}")
    values = {key: _convert(hints[key], value, f"{path}.{key}") for key, value in data.items()}
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:  # what __post_init__ has to say of options that do not go together
        raise ConfigError(f"{path}: {error}") from error


def quoted(value: object) -> str:
    """A value as messages quote it: in part, if it is large."""
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = 200
    shown.maxlist = shown.maxdict = shown.maxtuple = 8
    shown.maxlevel = 3
    return shown.repr(value)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """End of an error about an unknown name: near names if there are any, else all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; there are: {', '.join(known)}" if known else "; there are none"


class _Mismatch(Exception):
    """The value does not have the type; the caller knows path and type text."""


def _convert(hint: Any, value: object, path: str) -> Any:
    try:
        return _fit(hint, value, path)
    except _Mismatch:
        raise ConfigError(f"{path}: expected {type_text(hint)}, got {quoted(value)}") from None


def _fit(hint: Any, value: Any, path: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        result = _fit(args[0], value, path)
        # An optional number carries its limits too; None has none.
        if result is not None and not all(result in limit for limit in args[1:] if isinstance(limit, Within)):
            raise _Mismatch
        return result
    if origin in (Union, types.UnionType):
        for option in args:
            try:
                return _fit(option, value, path)
            except _Mismatch:
                continue
        raise _Mismatch
    if origin is Literal:
        for option in args:
            if type(value) is type(option) and value == option:
                return option
        raise _Mismatch
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _Mismatch
        each = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
        if len(each) != len(value):
            raise _Mismatch
        return tuple(_convert(one, v, f"{path}[{i}]") for i, (one, v) in enumerate(zip(each, value, strict=True)))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else build(hint, value, path)
    if hint is Path and isinstance(value, str | Path):
        return Path(value).expanduser()
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    if hint in (None, type(None)) and value is None:
        return None
    raise _Mismatch


def type_text(hint: Any) -> str:
    """A type as messages and tables show it: `float in (0, 1]`, `int or none`, `a|b`."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return " in ".join([type_text(args[0]), *(a.interval for a in args[1:] if isinstance(a, Within))])
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(option) for option in args)
    if origin is Literal:
        return "|".join(str(option) for option in args)
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return f"list of {type_text(args[0])}"
        return f"[{', '.join(type_text(option) for option in args)}]"
    if hint in (None, type(None)):
        return "none"
    return "path" if hint is Path else getattr(hint, "__name__", str(hint))


class Option(NamedTuple):
    """One option of a plugin, as a row of its documentation."""

    name: str
    type: str
    default: str
    doc: str


def schema(cls: type) -> list[Option]:
    """The options of a dataclass, with the text written below each field; those of nested ones by dotted names."""
    hints, docs = get_type_hints(cls, include_extras=True), _field_docs(cls)
    rows: list[Option] = []
    for f in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[f.name]):
            rows += [row._replace(name=f"{f.name}.{row.name}") for row in schema(hints[f.name])]
            continue
        if f.default is not dataclasses.MISSING:
            default = repr(f.default)
        elif f.default_factory is not dataclasses.MISSING:
            default = repr(f.default_factory())
        else:
            default = "required"
        rows.append(Option(f.name, type_text(hints[f.name]), default, docs.get(f.name, "")))
    return rows


def _field_docs(cls: type) -> dict[str, str]:
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError, SyntaxError):  # built-in, or without source
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for statement, following in itertools.pairwise(body):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
                and isinstance(following.value.value, str)
            ):
                docs[statement.target.id] = " ".join(following.value.value.split())
    return docs
