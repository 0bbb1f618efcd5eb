"""What the machine lends, and that importing the engine is cheap."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from unposed.pipeline.errors import ConfigError
from unposed.pipeline.resources import cores, machine
from unposed.pipeline.stage import Resources


def test_what_is_given_is_lent() -> None:
    assert machine("cpu", 3, 1 << 30, 0) == Resources("cpu", 3, 1 << 30, 0)


def test_the_rest_is_what_the_machine_has() -> None:
    lent = machine()
    assert lent.device == "cpu" and lent.threads == cores() >= 1 and lent.vram_bytes == 0
    assert 1 << 27 < lent.ram_bytes < 1 << 45


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="use --device cpu"):
        machine("cuda:1")
    assert machine("auto").device == "cpu"


def test_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unposed.pipeline.resources._driver_is_there", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (1000, 2000))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.device", str)
    free = {"cuda:0": 1000, "cuda:1": 400, "cuda": 1000}
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (free[device], 2000))
    both = machine("auto")
    assert both.device == "cuda" and both.devices == ("cuda:0", "cuda:1") and both.vram_bytes == 340  # of the fuller
    assert machine("cuda:0").vram_bytes == 850 and machine("cuda:0").devices == ()
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert machine("cuda").vram_bytes == 850 and machine("cuda").devices == ()
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert machine("cuda:1", vram_bytes=7).device == "cuda:1"
    for wrong in ("cuda:2", "cuda:", "cuda:first"):
        with pytest.raises(ConfigError, match="no such GPU here, but cuda:0 and cuda:1"):
            machine(wrong)


def test_reports_are_no_part_of_what_is_lent() -> None:
    heard: list[tuple[int, int, str]] = []
    lent = Resources("cpu", 1, 1, 0, lambda *step: heard.append(step))
    lent.report(1, 2, "points")
    assert heard == [(1, 2, "points")] and lent == Resources("cpu", 1, 1, 0)
    copy = pickle.loads(pickle.dumps(lent))
    copy.report(2, 2)
    assert copy == lent and len(heard) == 1


def test_importing_the_engine_imports_nothing_heavy() -> None:
    heavy = ("torch", "scipy", "cv2", "pycolmap", "rich", "PIL", "networkx", "faiss", "poselib")
    script = f"import sys, unposed.pipeline.engine; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
