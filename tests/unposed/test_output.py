"""The output folder: killed at any call that changes it, the old result or the new one is there, and whole."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from unposed import output
from unposed.output import locked_folder, publish, settled

OLD = {"summary.json": "old", "sparse/0/points.bin": "old", "sparse/1/points.bin": "old"}
NEW = {"summary.json": "new", "sparse/0/points.bin": "new"}
FAILED = {"summary.json": "no model"}


class PowerCut(BaseException):
    """Ends everything at once, as no handler would."""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def result(out: Path) -> dict[str, str]:
    """What a reader finds."""
    files = (file for file in out.rglob("*") if file.is_file() and not file.relative_to(out).parts[0].startswith("."))
    return {file.relative_to(out).as_posix(): file.read_text() for file in files}


def test_a_new_folder_that_nothing_was_written_to_goes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(PowerCut), locked_folder(out):
        raise PowerCut
    assert not out.exists()
    out.mkdir()
    with locked_folder(out):
        pass
    assert out.exists()  # somebody else's
    with locked_folder(tmp_path / "log"):
        (tmp_path / "log" / "run.log").touch()
    assert (tmp_path / "log" / "run.log").exists()


def failing_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call number `calls` of all that change names or wait for the disk is the last one."""
    left = [calls]

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise PowerCut
            return function(*arguments, **options)

        return call

    for owner, name in (
        (Path, "rename"),
        (Path, "replace"),
        (Path, "touch"),
        (Path, "mkdir"),
        (os, "fsync"),
        (output.shutil, "rmtree"),
    ):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))


@pytest.mark.parametrize("new", [NEW, FAILED], ids=["models", "no models"])
@pytest.mark.parametrize("old", [OLD, {}], ids=["an older result", "nothing"])
def test_cut_short_at_every_call_the_old_or_the_new_result_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: dict[str, str], new: dict[str, str]
) -> None:
    seen = []
    for calls in range(100):
        out = tmp_path / str(calls)
        write(out, {**old, ".unposed": ""})
        write(out / ".new", new)
        with monkeypatch.context() as patch:
            failing_after(calls, patch)
            try:
                publish(out / ".new", out)
                finished = True
            except PowerCut:
                finished = False
        now = result(out)
        if "summary.json" in now:  # where it stands, the rest belongs to it and is whole
            assert now in (old, new)
        again = result(settled(out))
        assert again in (old, new)
        with locked_folder(out):  # the next run
            assert result(out) == again
        seen.append(again)
        if finished:
            assert now == new
            break
    else:
        pytest.fail("it never ends")
    assert seen[0] == old and seen[-1] == new and len(seen) > 8
    assert seen == sorted(seen, key=lambda each: each == new)  # once new, always new


def test_cut_short_twice_while_it_is_moved_into_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for calls in range(40):
        out = tmp_path / str(calls)
        write(out, {**OLD, ".unposed": ""})
        write(out / ".ready", NEW)
        for again in range(3):
            with monkeypatch.context() as patch:
                failing_after(calls if again == 0 else again, patch)
                try:
                    settled(out)
                except PowerCut:
                    continue
        assert result(settled(out)) == NEW


def test_a_result_reaches_the_disk_before_its_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system may write names before contents: summary.json would stand beside empty models."""
    order: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: order.append(str(Path(f"/proc/self/fd/{fd}").readlink())) or fsync(fd))
    for name in ("rename", "replace"):
        call = getattr(Path, name)
        monkeypatch.setattr(
            Path, name, lambda self, to, call=call: order.append(f"rename {self.name}") or call(self, to)
        )
    out = tmp_path / "out"
    write(out / ".new", NEW)
    publish(out / ".new", out)
    moved = order.index("rename .new")
    synced = {Path(path).relative_to(out / ".new").as_posix() for path in order[:moved]}
    assert synced == {".", "sparse", "sparse/0", *NEW}
    last = order.index("rename summary.json")
    assert order[last - 1] == order[last + 1] == str(out)


def test_a_file_system_that_cannot_sync_folders_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some of networks are; one that fails to write is."""
    fsync, said = os.fsync, [errno.EINVAL]

    def refusing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(said[0], os.strerror(said[0]))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refusing)
    write(tmp_path / ".new", NEW)
    publish(tmp_path / ".new", tmp_path)
    assert result(tmp_path) == NEW
    said[0] = errno.EIO
    write(tmp_path / ".new", FAILED)
    with pytest.raises(OSError, match="Input/output"):
        publish(tmp_path / ".new", tmp_path)
