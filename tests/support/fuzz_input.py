"""Hostile input for readers of untrusted files: what a reader promises, and mutants of sound files."""

from __future__ import annotations

import copy
import json
import random
import re
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """A reader, and sound input of it."""

    read: Callable[[bytes], object]
    promised: tuple[type[Exception], ...]
    """What it may raise, with one line."""
    seeds: Callable[[], list[bytes]]
    thinned: int = 1
    """How many times fewer mutants are tried than of others: of folders, all is read for each."""

    def __call__(self, data: bytes) -> None:
        """Reads the bytes. Raises whatever was not promised."""
        try:
            self.read(data)
        except self.promised as error:
            line = str(error)
            if not line or len(line.splitlines()) != 1:
                raise AssertionError(f"not one line: {line!r}") from error


@cache
def scratch_folder() -> Path:
    """A folder of this process for the files of its targets."""
    return Path(tempfile.mkdtemp(prefix="unposed-fuzz-"))


def scratch_file(name: str, data: bytes) -> Path:
    """A file of that name and content."""
    path = scratch_folder() / name
    path.write_bytes(data)
    return path


NUMBERS = [
    *(struct.pack(kind, value) for kind in ("<I", "<Q", ">I") for value in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF)),
    *(struct.pack("<Q", 1 << 40), struct.pack("<d", float("nan")), b"1e999", b"-1", b"null", b"[[", b"&a *a"),
]
"""Numbers that readers of binary files may believe, and openings that are never closed."""
VALUES: list[Any] = [
    *(None, True, -1, 0, 0.5, 1e308, float("nan"), float("inf"), 10**400, -(2**63), 2**31),
    *("", "x", "../x", "/x", "\x1b[31m\u202e", "\ud800", [], {}, [[]], [None], {"": []}, [0] * 300),
]
"""What may stand in JSON where something else is expected."""
WORDS = ["", "-1", "0", "nan", "1e999", "99999999999999999999", "x", "\x00", "\x1b[31m", "1,1", "#", '"', "1" * 5000]
"""What may stand in a line of text."""


def mutants(seeds: list[bytes], count: int, seed: int = 0) -> Iterator[bytes]:
    """Sound files with bits turned, pieces cut, repeated or moved, and numbers that readers may believe; half of those
    of JSON and of text stay such, and have other values at random places."""
    rng = random.Random(seed)
    for number in range(count):
        data = rng.choice(seeds)
        changed = _as_json(data, rng) or _as_text(data, rng) if number % 2 else None
        yield changed if changed is not None else _as_bytes(data, rng)


def _as_bytes(sound: bytes, rng: random.Random) -> bytes:
    data = bytearray(sound)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 32, 200))
        kind = rng.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            data[at:at] = data[at : at + length]
        elif kind == 5:
            number = rng.choice(NUMBERS)
            data[at : at + len(number)] = number
        else:
            data[at:at] = bytes(rng.randrange(256) for _ in range(length))
    return bytes(data)


def _as_json(data: bytes, rng: random.Random) -> bytes | None:
    """JSON with a value replaced, removed, or moved to where another was; None of what is no JSON."""
    try:
        content = json.loads(data)
    except ValueError:
        return None
    whole = [content]
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(whole))
        holder, key = rng.choice(places)
        kind = rng.randrange(4)
        if kind < 2:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
        elif kind == 2 and holder is not whole:
            del holder[key]
        else:
            other, at = rng.choice(places)
            holder[key] = copy.deepcopy(other[at])
    return json.dumps(whole[0]).encode()


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in lists and tables, as what holds it and where."""
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    for key in keys:
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _places(holder[key])


def _as_text(data: bytes, rng: random.Random) -> bytes | None:
    """Text with words replaced, and lines removed or repeated; None of what is no text."""
    if not re.fullmatch(rb"[\t\n -~]+", data):
        return None
    lines = data.decode().split("\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, kind = rng.randrange(len(lines)), rng.randrange(6)
        if kind == 0 and len(lines) > 1:
            del lines[at]
        elif kind == 1:
            lines.insert(at, rng.choice(lines))
        else:
            words = re.split(r"([\s,]+)", lines[at])
            words[rng.randrange(len(words))] = rng.choice(WORDS)
            lines[at] = "".join(words)
    return "\n".join(lines).encode()
