"""What gets installed is everything the checkout holds: checked on the list of packages, and on their data files."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from fnmatch import fnmatch
from importlib.metadata import entry_points
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture
def packaged(monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Every package that setup.py names, with its folder."""
    said: dict[str, Any] = {}
    monkeypatch.setattr("setuptools.setup", lambda **options: said.update(options))
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    folders = {}
    for name in said["packages"]:
        known = max((p for p in said["package_dir"] if f"{name}.".startswith(f"{p}.")), key=len)
        folders[name] = ROOT / said["package_dir"][known] / name[len(known) :].lstrip(".").replace(".", "/")
    return folders


def test_every_module_is_in_a_package(packaged: dict[str, Path]) -> None:
    rooms = [folder for name, folder in packaged.items() if name.count(".") <= 1]
    modules = {file for room in rooms for file in room.rglob("*.py")}
    installed = {file for folder in packaged.values() for file in folder.glob("*.py")}
    assert modules == installed


def test_every_data_file_is_installed_with_its_package(packaged: dict[str, Path]) -> None:
    patterns: dict[str, list[str]] = PROJECT["tool"]["setuptools"]["package-data"]
    for room in ("configs", "report", "synthetic"):
        folder = packaged[f"unposed.{room}"]
        data = [f for f in folder.rglob("*") if f.is_file() and f.suffix not in (".py", ".pyc")]
        for file in data:
            name = file.relative_to(folder).as_posix()
            assert any(fnmatch(name, pattern) for pattern in patterns[f"unposed.{room}"]), name


def test_no_folder_of_data_could_be_taken_for_a_package(packaged: dict[str, Path]) -> None:
    """setuptools warns of such folders, and means to leave them out one day."""
    for room in ("configs", "report", "synthetic"):
        folder = packaged[f"unposed.{room}"]
        inner = {file.parent.name for file in folder.glob("*/*") if file.is_file() and file.suffix != ".pyc"}
        assert not any(name.isidentifier() for name in inner - {"__pycache__"})


@pytest.mark.skipif((ROOT / "PKG-INFO").exists(), reason="a source distribution has no links")
def test_every_room_is_linked_for_the_type_checkers(packaged: dict[str, Path]) -> None:
    for name in packaged:
        if name.count(".") == 1 and (ROOT / "unposed" / name.partition(".")[2]).is_symlink():
            room = name.partition(".")[2]
            assert (ROOT / "unposed" / room / "__init__.py").samefile(ROOT / room / "__init__.py")


def test_declared_plugins_are_the_installed_ones() -> None:
    declared = PROJECT["project"]["entry-points"]["unposed.plugins"]
    installed = {e.name: e.value for e in entry_points(group="unposed.plugins") if e.dist and e.dist.name == "unposed"}
    assert installed == declared, "run pip install -e . again: entry points are read when installing"


def test_the_commands_of_the_readme_are_pinned_and_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line for line in readme.splitlines() if line.startswith("python3 -m venv ")]
    assert [command.rpartition("/")[2] for command in commands] == ["unposed demo", "pytest -n auto"]
    assert all("-c constraints.txt" in command for command in commands)
    assert "torch==" in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def built(kind: str, source: Path, folder: Path) -> Path:
    """A distribution of the sources, made by the build backend itself: no network, no environment of its own."""
    script = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=source, check=False)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only git knows what belongs to the sources")
def test_the_source_distribution_is_the_repository_and_installs(tmp_path: Path, packaged: dict[str, Path]) -> None:
    """Built from what git tracks; a wheel built from it in turn has every package, and its command line answers."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    tracked = [Path(name) for name in listed.split("\0") if name and os.path.lexists(ROOT / name)]
    checkout = tmp_path / "checkout"
    for name in tracked:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name, follow_symlinks=False)
    with tarfile.open(built("sdist", checkout, tmp_path)) as archive:
        members = {str(PurePosixPath(*Path(m.name).parts[1:])) for m in archive.getmembers() if m.isfile()}
        archive.extractall(tmp_path / "unpacked", filter="data")
    expected = {name.as_posix() for name in tracked if not (ROOT / name).is_symlink()}
    assert expected - members == set()
    assert {m for m in members - expected if ".egg-info/" not in m} == {"PKG-INFO", "setup.cfg"}

    (source,) = (tmp_path / "unpacked").iterdir()
    target = tmp_path / "target"
    with zipfile.ZipFile(built("wheel", source, tmp_path)) as wheel:
        wheel.extractall(target)
    modules = {f"{name.replace('.', '/')}/{file.name}" for name, at in packaged.items() for file in at.glob("*.py")}
    assert modules == {file.relative_to(target).as_posix() for file in target.rglob("*.py")}
    line = [sys.executable, "-m", "unposed", "presets"]
    done = subprocess.run(
        line, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(target)}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "classic" in done.stdout
