"""Power cuts without a switch: a program's calls to the disk are recorded, and replayed up to a moment, incompletely.

What was synced is there. Of what was written after the last sync of a file any sectors may be there and any may not, in
any order; of changes to names, which file systems with a journal keep in order, any first part from the last sync of a
folder on. Calls are recorded by strace, so that those of SQLite count, too.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SECTOR_BYTES = 512
TRACED = (
    "openat,write,pwrite64,ftruncate,fsync,fdatasync,lseek,rename,renameat,renameat2,"
    "unlink,unlinkat,mkdir,mkdirat,rmdir"
)
"""Calls that change files or names."""
_CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
_ARGUMENT = re.compile(r'(?:(?P<number>-?\d+|AT_FDCWD)<(?P<of>[^>]*)>|"(?P<text>[^"]*)"|(?P<word>[\w|]+))(?:, |$)')


class Write(NamedTuple):
    """Bytes at an offset of a file; without bytes the file's new length."""

    file: int
    offset: int
    data: bytes | None


class Sync(NamedTuple):
    """A file's content is on the disk; without a file, the names of a folder are."""

    file: int | None


class Naming(NamedTuple):
    """A change of names: `create`, `mkdir`, `rename`, `remove`."""

    kind: str
    path: str
    to: str = ""
    file: int = -1


Event = Write | Sync | Naming


@dataclass
class _Recorder:
    """Files by their numbers, followed through renames."""

    root: str
    events: list[Event] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    at: dict[int, int] = field(default_factory=dict)
    count: int = 0

    def open(self, path: str, flags: str, descriptor: int) -> None:
        self.at[descriptor] = 0
        if "O_CREAT" in flags and path not in self.names:
            self.names[path] = self.count
            self.events.append(Naming("create", path, file=self.count))
            self.count += 1
        elif "O_TRUNC" in flags:
            self.events.append(Write(self.names[path], 0, None))
        assert "O_APPEND" not in flags

    def write(self, path: str, offset: int, data: bytes | None) -> None:
        if path in self.names:  # others were removed while they were open
            self.events.append(Write(self.names[path], offset, data))

    def rename(self, old: str, new: str) -> None:
        moved = {path: file for path, file in self.names.items() if path == old or path.startswith(old + "/")}
        for path, file in moved.items():
            del self.names[path]
            self.names[new + path.removeprefix(old)] = file
        self.events.append(Naming("rename", old, new))

    def remove(self, path: str) -> None:
        self.names.pop(path, None)
        self.events.append(Naming("remove", path))

    def sync(self, path: str) -> None:
        file = self.names.get(path)
        if file is not None or not path.endswith(" (deleted)"):
            self.events.append(Sync(file))


def recorded(program: str, root: Path, *arguments: str, environment: dict[str, str] | None = None) -> list[Event]:
    """What a Python program does below a folder that does not exist before. It must be of one thread."""
    log = root.with_name(root.name + ".strace")
    call = ["strace", "-f", "-y", "-xx", "-s", str(1 << 24), "-e", f"trace={TRACED}", "-o", str(log)]
    run = [*call, sys.executable, "-c", program, str(root), *arguments]
    subprocess.run(run, check=True, env=environment, capture_output=True, text=True)
    recorder = _Recorder(str(root))
    with log.open("r", encoding="ascii") as lines:
        for line in lines:
            if match := _CALL.match(line):
                _note(recorder, match[1], [found.groupdict() for found in _ARGUMENT.finditer(match[2])], int(match[3]))
            else:
                assert "<unfinished" not in line, f"two threads at once: {line[:200]}"
    log.unlink()
    return recorder.events


def _note(recorder: _Recorder, call: str, arguments: Sequence[dict[str, str | None]], result: int) -> None:
    """One call that succeeded, if it concerns the folder."""

    def path(number: int) -> str:
        own = arguments[number]
        if own["of"] is not None and own["text"] is None:
            return _bytes(own["of"]).decode()
        name = _bytes(own["text"] or "").decode()
        before = arguments[number - 1]["of"] if number else None
        return name if name.startswith("/") or before is None else f"{_bytes(before).decode()}/{name}"

    def word(number: int) -> str:
        return arguments[number]["word"] or ""

    if result < 0:
        return
    several = call.endswith(("at", "at2"))  # with a folder before every name
    first = path(1 if several else 0)
    if not first.startswith(recorder.root):
        return
    if call == "openat":
        recorder.open(first, word(2), result)
    elif call == "pwrite64":
        recorder.write(first, int(word(3)), _bytes(arguments[1]["text"] or "")[:result])
    elif call == "write":
        descriptor = int(arguments[0]["number"] or 0)
        recorder.write(first, recorder.at[descriptor], _bytes(arguments[1]["text"] or "")[:result])
        recorder.at[descriptor] += result
    elif call == "lseek":
        recorder.at[int(arguments[0]["number"] or 0)] = result
    elif call == "ftruncate":
        recorder.write(first, int(word(1)), None)
    elif call in ("fsync", "fdatasync"):
        recorder.sync(first)
    elif call.startswith("rename"):
        recorder.rename(first, path(3 if several else 1))
    elif call.startswith("mkdir"):
        recorder.events.append(Naming("mkdir", first))
    else:
        recorder.remove(first)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def power_cuts(events: Sequence[Event], root: Path, target: Path, count: int, seed: int) -> Iterator[tuple[int, Path]]:
    """Folders as a power cut may leave them, in `target`, each with the number of calls before it."""
    rng = random.Random(seed)
    for number in range(count):
        moment = rng.randrange(len(events) + 1)
        place = target / str(number)
        _restore(events[:moment], str(root), place, rng)
        yield moment, place


def _restore(events: Sequence[Event], root: str, place: Path, rng: random.Random) -> None:
    place.mkdir(parents=True)
    namings = [(index, event) for index, event in enumerate(events) if isinstance(event, Naming)]
    synced = max((index for index, event in enumerate(events) if event == Sync(None)), default=-1)
    certain = sum(index < synced for index, _ in namings)
    files: dict[int, Path] = {}
    for _, event in namings[: rng.randint(certain, len(namings))]:
        path = place / event.path.removeprefix(root).lstrip("/")
        if event.kind == "create":
            path.touch()
            files[event.file] = path
        elif event.kind == "mkdir":
            path.mkdir(exist_ok=True)
        elif event.kind == "rename":
            new = place / event.to.removeprefix(root).lstrip("/")
            path.replace(new)
            files = {
                file: new / old.relative_to(path) if old.is_relative_to(path) else old for file, old in files.items()
            }
        elif path.is_dir():
            path.rmdir()
        else:
            path.unlink()
            files = {file: old for file, old in files.items() if old != path}
    for file, path in files.items():
        path.write_bytes(_content(events, file, rng))


def _content(events: Sequence[Event], file: int, rng: random.Random) -> bytes:
    """Everything up to the last sync, and a random choice of sectors of what came after."""
    own = [event for event in events if isinstance(event, Write | Sync) and event.file == file]
    synced = max((index for index, event in enumerate(own) if isinstance(event, Sync)), default=-1)
    share = rng.choice((0.0, 0.5, 0.9, 1.0))
    content = bytearray()
    for index, event in enumerate(own):
        if isinstance(event, Sync):
            continue
        certain = index < synced
        if event.data is None:
            if certain or rng.random() < share:
                del content[event.offset :]
                content.extend(bytes(event.offset - len(content)))
            continue
        start = event.offset
        while start < event.offset + len(event.data):
            end = min(event.offset + len(event.data), (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
            if certain or rng.random() < share:
                content.extend(bytes(max(0, end - len(content))))
                content[start:end] = event.data[start - event.offset : end - event.offset]
            start = end
    return bytes(content)
