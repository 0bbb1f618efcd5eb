"""What Windows, macOS and plain terminals lack or do otherwise, as far as it can be pretended here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from unposed import reproducible
from unposed.pipeline import durable, memory_limits, plugin_imports, regular_files, resources
from unposed.plugins.export.splat_files import link_colmap
from unposed.plugins.export.splat_images import RESERVED, plain_names
from unposed.process import _ends, end_as_by_ctrl_c
from unposed.synthetic.photos import PhotoSet


class Windows:
    """The module `os`, except for its name, which others (pathlib) must not see."""

    name = "nt"

    def __getattr__(self, attribute: str) -> Any:
        return getattr(os, attribute)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_names_that_the_output_has_no_letters_for_are_escaped(yard: PhotoSet, tmp_path: Path, encoding: str) -> None:
    """A pipe on Windows has the letters of one script; Python would end with an error."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, file in zip(("дом.jpg", "é😀.jpg"), sorted(yard.images.iterdir())[::6], strict=True):
        shutil.copy(file, photos / name)
    line = [sys.executable, "-m", "unposed", "check", str(photos), "--cache", str(tmp_path / "cache")]
    plain = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    if encoding == "cp1252":
        text = subprocess.run(line, env=plain, capture_output=True, check=True).stdout.decode(encoding)
        assert "\\u0434\\u043e\\u043c.jpg" in text and "é\\U0001f600.jpg" in text
        return
    found = subprocess.run([*line, "--json"], env=plain, capture_output=True, check=True).stdout.decode(encoding)
    assert set(json.loads(found)["partners"]) == {"дом.jpg", "é😀.jpg"}


def test_exported_names_are_files_on_windows() -> None:
    """No device, no two that differ in case alone, and no characters that a path may not have there."""
    names = plain_names(["con.jpg", "NUL.png", "aux/1.jpg", "COM1.jpg", "a:b?.jpg", "B.jpg", "b.jpg", "end. .jpg"])
    stems = [PureWindowsPath(name).stem.lower() for name in names]
    assert not RESERVED & set(stems) and len(set(stems)) == len(names)
    assert not any(set('<>:"/\\|?*') & set(name) for name in names)
    assert names[:4] == ["con_.jpg", "NUL_.jpg", "aux_1.jpg", "COM1_.jpg"]


def test_folders_are_not_synced_where_they_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("content", encoding="utf-8")
    opened: list[Path] = []
    real = os.open

    def without_folders(path: Path, flags: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        opened.append(path)
        return real(path, flags)

    monkeypatch.setattr(os, "open", without_folders)
    with pytest.raises(PermissionError):
        durable.sync_tree(tmp_path)
    monkeypatch.setattr(durable, "os", Windows())
    durable.sync_tree(tmp_path)
    assert opened == [file, file]


def test_files_are_read_without_the_flags_of_unix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a\r\nb")
    monkeypatch.delattr(os, "O_NONBLOCK")
    assert regular_files.read_bytes(file) == b"a\r\nb"


def test_memory_and_cores_are_known_without_linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import psutil  # whose own module for this system needs it

    assert psutil.virtual_memory().available > 0
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(memory_limits, "GROUPS", tmp_path / "none")
    monkeypatch.setattr(memory_limits, "MEMBERSHIP", tmp_path / "none")
    monkeypatch.delattr(os, "sched_getaffinity")
    assert memory_limits.free_bytes() > 0
    assert resources.cores() == os.cpu_count()


def test_signals_that_a_system_lacks_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP")
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert _ends() == [signal.SIGTERM]
        end_as_by_ctrl_c()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_import_that_hangs_is_ended_without_pthreads(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted: list[bool] = []
    monkeypatch.delattr(signal, "pthread_kill")
    monkeypatch.setattr("_thread.interrupt_main", lambda: interrupted.append(True))
    watch = plugin_imports._Interrupts()
    watch._ring()
    assert interrupted == [True] and watch.by_clock


def test_a_process_that_cannot_be_replaced_starts_another(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        started.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(reproducible, "os", Windows())
    monkeypatch.setattr(reproducible, "reproducible_environment", dict)
    monkeypatch.setattr(subprocess, "run", run)
    assert reproducible.start_again(["demo"]) == 3
    assert started == [[sys.executable, "-m", "unposed", "demo"]]


def test_models_are_copied_where_links_are_not_possible(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sparse" / "0").mkdir(parents=True)
    (tmp_path / "sparse" / "0" / "cameras.bin").write_bytes(b"1")

    def refused(*given: object, **options: object) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refused)
    link_colmap(tmp_path)
    copied = tmp_path / "colmap" / "sparse"
    assert not copied.is_symlink() and (copied / "0" / "cameras.bin").read_bytes() == b"1"
