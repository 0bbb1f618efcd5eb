"""What the command line does to its own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from unposed.cli import main
from unposed.pipeline.plugin_imports import load_plugin

INTERRUPTED = "unposed: interrupted: the same command goes on where this one stopped\n"
SCRIPT = """
from unposed.process import configure_process
configure_process()
import numpy, threadpoolctl
print(max(each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"))
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="with one core there is nothing to leave alone")
@pytest.mark.parametrize(("said", "threads"), [({}, 1), ({"OPENBLAS_NUM_THREADS": "2"}, 2)], ids=["unsaid", "said"])
def test_products_have_no_idle_threads_unless_the_user_wants_them(said: dict[str, str], threads: int) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=plain | said, capture_output=True, text=True, check=True)
    assert int(done.stdout) == threads


@pytest.mark.parametrize(
    ("said", "change"),
    [("0", "max(10_000, before)"), ("gc.set_threshold(50_000)", "50_000"), ("gc.disable()", "before")],
    ids=["nothing", "a number", "never"],
)
def test_python_looks_for_unused_objects_less_often_unless_the_user_has_said_how_often(said: str, change: str) -> None:
    script = f"import gc, unposed.process; before = gc.get_threshold()[0]; {said}; unposed.process.configure_process();"
    script += f"print(gc.get_threshold()[0] == {change})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


ENDED = """
import dataclasses, sys
import unposed.commands
from unposed.cli import main

def command(arguments):
    {stop}

unposed.commands.doctor = command
sys.exit(main(["doctor"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize(
    "stop",
    [
        "exec('import os, signal; os.kill(os.getpid(), signal.{name})')",
        "from unposed.pipeline.plugin_imports import load_plugin; import os, signal; "
        "load_plugin(lambda: os.kill(os.getpid(), signal.{name}), 'a plugin')",
    ],
    ids=["while a dataclass is made", "while a plugin is imported"],
)
def test_a_run_that_is_told_to_end_leaves_with_exit_code_4(tmp_path: Path, name: str, stop: str) -> None:
    """Without the class of its own of the interrupt, Python ended `-m` programs by SIGINT; and plugins were blamed."""
    (tmp_path / "ended.py").write_text(ENDED.format(stop=stop.format(name=name)))
    done = subprocess.run([sys.executable, "-m", "ended"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (4, INTERRUPTED)


def test_ctrl_c_while_arguments_are_read_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    monkeypatch.setattr("unposed.cli.parser", interrupted)
    try:
        assert main(["doctor"]) == 4
    finally:
        for number, handler in before.items():
            if handler is not signal.getsignal(number):
                signal.signal(number, handler)
    assert capsys.readouterr().err == INTERRUPTED


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
def test_a_plugin_is_imported_though_a_signal_that_is_ignored_arrives() -> None:
    """As in a script's background, where Ctrl-C is for others."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        load_plugin(lambda: os.kill(os.getpid(), signal.SIGINT), "a plugin")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
