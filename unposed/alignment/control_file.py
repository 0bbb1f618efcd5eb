"""Files of ground control points: text with a row for each mark.

    point,photo,x,y,X,Y,Z,sigma_m,sigma_px
    gate,IMG_0001.jpg,1034.2,511.8,370011.204,5813220.118,34.402,0.02,1.0

Columns are found by their names; the last two may be missing, and cells of them empty. The centre of the first pixel of
a photo is (0.5, 0.5). Commas, semicolons or tabs are between the cells, and rows that begin with # are remarks.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unposed.pipeline.artifacts import Photo
from unposed.pipeline.config import did_you_mean
from unposed.pipeline.errors import InputError
from unposed.pipeline.regular_files import read_text

COLUMNS = ("point", "photo", "x", "y", "X", "Y", "Z")
SIGMAS = ("sigma_m", "sigma_px")


@dataclass(frozen=True)
class ControlMark:
    """A row of the file."""

    point: str
    photo: str
    xy: tuple[float, float]
    position: tuple[float, float, float]
    sigma_m: float | None
    sigma_px: float | None


def read_control_marks(path: Path, photos: Sequence[Photo]) -> list[ControlMark]:
    """Read the marks of a file; InputError names the row that is wrong."""
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    lines = [(k, line) for k, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#")]
    if not lines:
        raise InputError(f"{path}: is empty; expected a row of names, {','.join(COLUMNS)}, and one for each mark")
    delimiter = max(",;\t", key=lines[0][1].count)
    names = _cells(lines[0][1], delimiter, f"{path}, line {lines[0][0]}")
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise InputError(f"{path}: its first row names no column {missing[0]}; expected {','.join(COLUMNS)}")
    known = {photo.name: photo for photo in photos}
    marks = []
    for number, line in lines[1:]:
        where = f"{path}, line {number}"
        marks.append(_mark(dict(zip(names, _cells(line, delimiter, where), strict=False)), known, where))
    _check_together(marks, path)
    return marks


def _cells(line: str, delimiter: str, where: str) -> list[str]:
    try:
        (row,) = csv.reader([line], delimiter=delimiter, strict=True)
    except csv.Error as error:
        raise InputError(f"{where}: {error}") from error
    return [cell.strip() for cell in row]


def _mark(row: Mapping[str, str], photos: Mapping[str, Photo], where: str) -> ControlMark:
    x, y, *position = (_number(row, name, where) for name in COLUMNS[2:])
    point, name = row.get("point", ""), row.get("photo", "")
    if not point:
        raise InputError(f"{where}: the point has no name")
    photo = photos.get(name)
    if photo is None:
        raise InputError(f"{where}: {name or 'nothing'} is no photo of the reconstruction{did_you_mean(name, photos)}")
    if not (0.0 <= x <= photo.width and 0.0 <= y <= photo.height):
        raise InputError(f"{where}: ({x:g}, {y:g}) is outside {name}, which has {photo.width} x {photo.height} pixels")
    sigma_m, sigma_px = (_number(row, each, where) if row.get(each) else None for each in SIGMAS)
    if any(sigma is not None and sigma <= 0.0 for sigma in (sigma_m, sigma_px)):
        raise InputError(f"{where}: a standard deviation must be above 0")
    return ControlMark(point, name, (x, y), (position[0], position[1], position[2]), sigma_m, sigma_px)


def _number(row: Mapping[str, str], name: str, where: str) -> float:
    try:
        value = float(row.get(name, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {name} is {row.get(name, '')!r}, expected a number")
    return value


def _check_together(marks: Sequence[ControlMark], path: Path) -> None:
    """Every point has one position, and one mark in a photo."""
    first: dict[str, ControlMark] = {}
    seen = set[tuple[str, str]]()
    for mark in marks:
        one = first.setdefault(mark.point, mark)
        if (one.position, one.sigma_m) != (mark.position, mark.sigma_m):
            raise InputError(f"{path}: {mark.point} has other coordinates in {mark.photo} than in {one.photo}")
        if (mark.point, mark.photo) in seen:
            raise InputError(f"{path}: {mark.point} is marked twice in {mark.photo}")
        seen.add((mark.point, mark.photo))
