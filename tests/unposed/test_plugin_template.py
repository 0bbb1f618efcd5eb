"""`unposed plugins new`: a stranger's distribution that installs, passes its own test and replaces our matcher."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from unposed.cli import main


def run(*argv: str | Path, path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A Python process for which the distributions in `path` are installed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, *map(str, argv)], capture_output=True, text=True, env=environment, cwd=cwd, check=False
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sources of a new plugin, and the folder it was installed in, as pip installs: without network."""
    folder = tmp_path_factory.mktemp("stranger")
    source, target = folder / "Fancy Matcher", folder / "site"
    assert main(["plugins", "new", str(source)]) == 0
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*pip, "--disable-pip-version-check", "--target", target, source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return source, target


def test_its_own_test_passes(installed: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = installed
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", source / "tests", path=target, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_it_replaces_our_matcher_by_name(
    installed: tuple[Path, Path], toys: str, photos: Callable[..., Path], tmp_path: Path
) -> None:
    _, target = installed
    out = tmp_path / "out"
    line = ["-m", "unposed", "reconstruct", photos("a.png", "b.png", "c.png"), "-o", out, "--preset", toys]
    line += ["--set", "matching.use=fancy-matcher", "--set"]
    done = run(*line, "matching.max_ratio=0.7", path=target, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"plugin": "matching.fancy-matcher"' in (out / "summary.json").read_text()
    assert '"fancy-matcher": "0.1.0"' in (out / "summary.json").read_text()
    wrong = run(*line, "matching.max_ratio=0", path=target, cwd=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr == "unposed: matching.max_ratio: expected float in (0, 1], got 0\n"


@pytest.mark.parametrize("name", ["3d", "été", "class"])
def test_names_that_make_no_module(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "new", str(tmp_path / name)]) == 2
    assert "makes no module name" in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.py").write_text("precious")
    assert main(["plugins", "new", str(tmp_path / "mine")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["work.py"]
