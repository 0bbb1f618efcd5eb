"""The command line's grammar: what it accepts, how it refuses, and that it answers at once."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from unposed.cli import main, parser

VERBS = ("reconstruct", "export", "dense", "splat", "eval", "demo", "plugins", "presets", "cache", "doctor")


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line to stderr with which a command line is refused as bad usage."""
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_options_of_a_run_reach_the_command() -> None:
    line = (
        "reconstruct in -o out --preset classic --set a.b=1 --set c.d=x --device cuda:1 --workers 3 --seed 7"
        " --cameras folder --masks m --include *.jpg --exclude bad* --require 0.5 --ram 1.5G --json"
    )
    arguments = parser().parse_args(line.split())
    assert arguments.photos == [Path("in")]
    assert arguments.settings == ["a.b=1", "c.d=x"]
    assert (arguments.device, arguments.workers, arguments.seed) == ("cuda:1", 3, 7)
    assert (arguments.include, arguments.exclude) == (["*.jpg"], ["bad*"])
    assert (arguments.require, arguments.ram_bytes) == (0.5, 3 * 2**29)
    assert "vram_bytes" not in arguments


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    assert f"usage: unposed {verb}" in capsys.readouterr().out


def test_the_commands_stand_beside_what_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert "  reconstruct  estimate the cameras and 3D points of a folder of photos" in lines


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ("reconstruct in -o out --presett classic", "unknown argument '--presett', did you mean --preset?"),
        ("merge a b more", "one argument too many: 'more'"),
        ("reconstruct in -o out --seed x", "argument --seed: expected a whole number, got 'x'"),
        ("reconstruct in -o out --nosuch", "unknown argument '--nosuch' (see"),
        ("reconstruct in -o out extra", "one argument too many: 'extra', paths stand side by side"),
        ("reconstruct in", "required: -o/--out"),
        ("reconstruct in -o out --require 7", "expected a number from 0 to 1, got '7'"),
        ("reconstruct in -o out --require many", "expected a number from 0 to 1, got 'many'"),
        ("reconstruct in -o out --workers 0", "expected a whole number above 0, got '0'"),
        ("reconstruct in -o out --ram 8X", "expected a size such as 8G or 500M, got '8X'"),
        ("reconstruct in -o out --device tpu", "expected auto, cpu, cuda or cuda:1, got 'tpu'"),
        ("reconstruct in -o out --device cpu:1", "got 'cpu:1'"),
        ("reconstruct in -o out --cameras one", "choose from"),
        ("reconstruct in -o out --cameras sngle", "no such cameras: 'sngle', did you mean single?"),
        ("recnstruct in -o out", "no such command: 'recnstruct', did you mean reconstruct?"),
        ("plugins shwo", "no such action: 'shwo', did you mean show?"),
        ("find in -o out", "invalid choice: 'find' (choose from"),
        ("", "required: COMMAND"),
    ],
)
def test_bad_usage_is_one_line(argv: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert reason in refused(capsys, *argv.split())


@pytest.mark.parametrize(
    ("text", "value"), [("8G", 2**33), ("1.5 GiB", 3 * 2**29), ("500MB", 500 * 2**20), ("10k", 10240), ("12", 12)]
)
def test_sizes(text: str, value: int) -> None:
    assert parser().parse_args(["cache", "prune", "--keep", text]).keep == value


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from unposed.cli import parser; parser().format_help();"
        "print(sorted({'torch', 'numpy', 'cv2', 'pycolmap', 'scipy', 'rich', 'yaml'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_on_any_machine_waits_for_nothing_that_it_has_no_use_for() -> None:
    script = (
        "import sys, unposed.runs; from unposed.run_setup import checked_graph; checked_graph('classic', ());"
        "print(sorted({'torch', 'faiss', 'networkx', 'kornia', 'matplotlib', 'pycolmap'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_module_runs_like_the_script() -> None:
    done = subprocess.run([sys.executable, "-m", "unposed", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("unposed ")


def test_a_reader_that_leaves_is_no_mistake() -> None:
    line = [sys.executable, "-m", "unposed", "plugins"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == ""
    assert run.returncode == 0


def test_a_bug_of_ours_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: argparse.Namespace) -> int:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("unposed.commands.presets", broken)
    assert main(["presets"]) == 1
    assert capsys.readouterr().err == "unposed: unexpected RuntimeError: two lines (--debug shows where)\n"
    assert main(["presets", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_resumable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("unposed.commands.presets", interrupted)
    assert main(["presets"]) == 4
    assert "goes on where" in capsys.readouterr().err
