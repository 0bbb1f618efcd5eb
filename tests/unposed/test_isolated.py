"""Plugins that end or hang while they are imported are named by `doctor`, and hide no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from unposed.cli import main

SOURCES = {
    "exits": "import sys; sys.exit(0)",
    "ends": "import os; os._exit(0)",
    "crashes": "import ctypes; ctypes.string_at(0)",
    "hangs": "import time; time.sleep(600)",
    "prints": "import os; print('hello'); os.write(1, b'hello')",
}


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Installs plugins of these names, and gives the exit code of `doctor`.

    They are of the slot that comes first: each process that they end has not loaded PyTorch yet, for seconds.
    """

    def install(*names: str) -> int:
        info = tmp_path / "hostile-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n")
        lines = [f"calibration.a-{name} = hostile_{name}:X" for name in names]
        (info / "entry_points.txt").write_text("\n".join(["[unposed.plugins]", *lines]))
        for name in names:
            (tmp_path / f"hostile_{name}.py").write_text(SOURCES[name])
        monkeypatch.syspath_prepend(str(tmp_path))
        return main(["doctor", "--json", "--cache", str(tmp_path / "cache")])

    return install


@pytest.mark.slow
def test_each_is_named_and_hides_no_other(
    hostile: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unposed.isolated.PATIENCE_S", 12.0)
    assert hostile(*SOURCES) == 2
    facts = json.loads(capsys.readouterr().out)  # nothing else was printed
    problems = {line.partition(" of ")[0].rpartition(".a-")[2]: line for line in facts["problems"] if ".a-" in line}
    assert set(problems) == set(SOURCES)
    assert "SystemExit: 0" in problems["exits"]
    assert "it ends the process (exit code 0)" in problems["ends"]
    assert "it ends the process (signal 11)" in problems["crashes"]
    assert "it has not ended after 12 s" in problems["hangs"]
    assert "has no attribute" in problems["prints"]
    assert {"features.sift", "view_graph.verified", "graph.knn"} <= set(facts["plugins"])
