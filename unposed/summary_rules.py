"""What summary.json must be like before anything of it is used: it may be anybody's, or have been edited.

A shape is a function of a value, or a table of shapes by key, or a list with the shape of its entries, or `Each` of a
table with any keys. Keys that a table does not have are not looked at, and may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any


@dataclass(frozen=True)
class Each:
    """The shape of all values of a table."""

    shape: Shape


Shape = Callable[[Any], bool] | dict[str, Any] | list[Any] | Each


def misfit(value: Any, shape: Shape, place: str = "") -> str | None:
    """Where a value is not of that shape; None if it is."""
    if callable(shape):
        return None if shape(value) else place
    if not isinstance(value, list if isinstance(shape, list) else dict):
        return place
    return next((found for part in _parts(value, shape, place) if (found := misfit(*part)) is not None), None)


def _parts(value: Any, shape: Shape, place: str) -> Iterator[tuple[Any, Shape, str]]:
    """Values within a value, their shapes and places."""
    if isinstance(shape, list):
        yield from ((each, shape[0], f"{place}[{number}]") for number, each in enumerate(value))
    elif isinstance(shape, dict):
        yield from ((value[key], shape[key], f"{place}.{key}".lstrip(".")) for key in shape if key in value)
    elif isinstance(shape, Each):
        yield from ((each, shape.shape, f"{place}[{key!r}]") for key, each in value.items())


def is_below(name: object) -> bool:
    """Whether a relative path stays below the folder that it is relative to."""
    if not isinstance(name, str) or "\0" in name:
        return False
    path = PurePath(name)
    return not (path.is_absolute() or path.drive or ".." in path.parts)


def _text(value: Any) -> bool:
    return isinstance(value, str) and value.encode(errors="ignore").decode() == value  # no half of a character


def _path(value: Any) -> bool:
    return _text(value) and "\0" not in value


def _number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**53)


def _count(value: Any) -> bool:
    return isinstance(value, int) and _number(value) and value >= 0


def _pair(value: Any) -> bool:
    """Two names, and perhaps figures of them: null is what could not be measured, as the error of no matches."""
    named = isinstance(value, list) and len(value) >= 2 and all(map(_text, value[:2]))
    return named and all(figure is None or _number(figure) for figure in value[2:])


def _or_none(shape: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or shape(value)


def _or_nothing(shape: Shape) -> Callable[[Any], bool]:
    return lambda value: value is None or misfit(value, shape) is None


VERDICT: dict[str, Any] = {
    "probability": _number,
    "trusted": lambda value: isinstance(value, bool),
    "reasons": [_text],
    "evidence": Each(_or_none(_number)),
}
MODEL: Shape = {
    "model": is_below,
    "refinement": {"verdict": _or_nothing(VERDICT), "pairs": [_pair]},
    "alignment": _or_nothing({"steps": [{"to": _text}]}),
    "scale": _or_nothing({"metres_per_unit": _number, "sigma": _or_none(_number), "from": _text}),
}
PHOTO: Shape = {"reason": _or_none(_text), "file": _or_none(_path), "sigma_deg": _or_none(_number)}
SUMMARY: Shape = {
    "registered": _count,
    "total": _count,
    "photos_folder": _path,
    "photos_given": [_path],
    "exports": [_text],
    "masks_folder": _or_none(_path),
    "models": [MODEL],
    "photos": Each(PHOTO),
    "warnings": [_text],
    "failure": _or_none(_text),
    "effort": _number,
    "settings": {},
    "doubts": [{"photos": _pair, "reason": _text}],
    "grown": _or_nothing({"since_refined": _count}),
}
"""Of all that is read of a finished result; what is only shown is escaped where it is shown."""
REQUIRED = ("photos_folder", "masks_folder", "models", "photos", "warnings", "registered", "total")


def summary_problem(summary: Any) -> str | None:
    """What is wrong with the content of summary.json, in words that follow the file's name; None if nothing is."""
    if not isinstance(summary, dict) or any(key not in summary for key in REQUIRED):
        return "not as a reconstruction is summed up: run unposed reconstruct again"
    place = misfit(summary, SUMMARY)
    if place is not None:
        return f"{place[:100]} is not as a reconstruction sums it up: run unposed reconstruct again"
    for name in summary["photos"]:
        if not (is_below(name) and _text(name)):
            return f"{name[:100]!r} is no photo of the folder"
    for each in summary["models"]:
        if "model" not in each:
            return "a model has no folder"
        verdict = each.get("refinement", {}).get("verdict")
        if verdict is not None and "probability" not in verdict:
            return "the verdict about a model has no probability"
    return None
