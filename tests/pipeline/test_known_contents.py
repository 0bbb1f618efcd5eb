"""Content hashes that are remembered: what is read again, and what is not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from unposed.pipeline.images import known_contents
from unposed.pipeline.images.known_contents import RACY_NS, RECORD, KnownContents

OLD_NS = time.time_ns() - 10 * RACY_NS


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read."""
    seen: list[Path] = []
    read = known_contents.file_content

    def watched(path: Path) -> str:
        seen.append(path)
        return read(path)

    monkeypatch.setattr(known_contents, "file_content", watched)
    return seen


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that has lain there for a while."""
    (tmp_path / "photo.jpg").write_bytes(b"one")
    os.utime(tmp_path / "photo.jpg", ns=(OLD_NS, OLD_NS))
    later(monkeypatch, 10)
    return tmp_path / "photo.jpg"


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time_ns() + int(seconds * 1e9)
    monkeypatch.setattr(known_contents.time, "time_ns", lambda: now)


def content(folder: Path, file: Path, *, verify: bool = False) -> str:
    known = KnownContents(folder, verify=verify)
    found = known.content(file)
    known.save()
    return found


def test_an_unchanged_file_is_read_once(tmp_path: Path, file: Path, reads: list[Path]) -> None:
    first = content(tmp_path, file)
    assert content(tmp_path, file) == first
    assert reads == [file]


def test_without_a_folder_nothing_is_remembered(file: Path, reads: list[Path]) -> None:
    for _ in range(2):
        known = KnownContents()
        known.content(file)
        known.save()
    assert len(reads) == 2 and not (file.parent / f"{RECORD}.json").exists()


def test_verifying_reads_all_and_repairs_what_was_remembered(tmp_path: Path, file: Path, reads: list[Path]) -> None:
    first = content(tmp_path, file)
    record = tmp_path / f"{RECORD}.json"
    record.write_text(record.read_text().replace(first, "f" * len(first)))
    assert content(tmp_path, file) == "f" * len(first)
    assert content(tmp_path, file, verify=True) == first
    assert content(tmp_path, file) == first
    assert len(reads) == 2


@pytest.mark.parametrize("kept", ["nothing", "size", "time"])
def test_a_changed_file_is_read_again(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, kept: str, reads: list[Path]
) -> None:
    """Also with the size and the time of the old one: putting a time back is itself a change, of another time."""
    first, state = content(tmp_path, file), file.stat()
    file.write_bytes(b"two" if kept != "nothing" else b"three")
    if kept == "time":
        os.utime(file, ns=(state.st_mtime_ns, state.st_mtime_ns))
    assert content(tmp_path, file) != first
    assert len(reads) == 2


def test_another_file_under_the_same_name_is_read(tmp_path: Path, file: Path, reads: list[Path]) -> None:
    first = content(tmp_path, file)
    (tmp_path / "other").write_bytes(b"two")
    (tmp_path / "other").replace(file)
    assert content(tmp_path, file) != first


def test_a_file_that_may_change_within_the_same_tick_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[Path]
) -> None:
    """A coarse clock would show the second content under the stamp of the first."""
    file = tmp_path / "photo.jpg"
    monkeypatch.setattr(known_contents, "_stamp", lambda state: [3, 1, 1, 1])
    file.write_bytes(b"one")
    first = content(tmp_path, file)
    file.write_bytes(b"two")
    assert content(tmp_path, file) != first
    later(monkeypatch, 10)
    assert content(tmp_path, file) == content(tmp_path, file) != first
    assert len(reads) == 3


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(path: Path) -> str:
        path.write_bytes(b"other")
        return "torn"

    with monkeypatch.context() as patch:
        patch.setattr(known_contents, "file_content", changing)
        assert content(tmp_path, file) == "torn"
    assert content(tmp_path, file) != "torn"


def test_runs_at_once_keep_what_the_other_has_seen(tmp_path: Path, file: Path, reads: list[Path]) -> None:
    other = tmp_path / "other.jpg"
    other.write_bytes(b"three")
    one, two = KnownContents(tmp_path), KnownContents(tmp_path)
    one.content(file), two.content(other)
    one.save(), two.save()
    assert len(reads) == 2
    content(tmp_path, file), content(tmp_path, other)
    assert len(reads) == 2


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"a": 1}'])
def test_a_damaged_record_is_read_anew(tmp_path: Path, file: Path, damage: str) -> None:
    first = content(tmp_path, file)
    (tmp_path / f"{RECORD}.json").write_text(damage)
    assert content(tmp_path, file) == first
    assert content(tmp_path, file) == first


def test_where_nothing_can_be_written_all_is_read(file: Path, reads: list[Path]) -> None:
    for _ in range(2):
        content(file / "no-folder", file)
    assert len(reads) == 2
