"""The toy stages, as a module: test files cannot import their neighbours."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def toys() -> ModuleType:
    """tests/pipeline/toys.py."""
    spec = importlib.util.spec_from_file_location("unposed_toys", Path(__file__).with_name("toys.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class CallLog:
    """What the toy stages were called with since the last look."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self) -> dict[str, int]:
        """Calls per node, and forget them."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.path.unlink(missing_ok=True)
        counts: dict[str, int] = {}
        for line in lines:
            node = line.partition(" ")[0]
            counts[node] = counts.get(node, 0) + 1
        return counts


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CallLog:
    """The log of calls of the toy stages."""
    log = CallLog(tmp_path / "calls.log")
    monkeypatch.setenv("UNPOSED_TOY_LOG", str(log.path))
    return log
