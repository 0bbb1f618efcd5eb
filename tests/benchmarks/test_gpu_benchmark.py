"""The proof of a GPU, on machines without one: all parts in small sizes, also where little is installed."""

from __future__ import annotations

import faulthandler
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pretended_gpu import on_both

from unposed.gpu_check import device_speed, relative_error

ROOT = Path(__file__).resolve().parents[2]
BARE = ("torch", "numpy", "scipy", "safetensors")
ABSENT = ("PIL", "cv2", "pycolmap", "poselib", "faiss", "kornia", "threadpoolctl")


def with_requirements(names: tuple[str, ...]) -> set[str]:
    """These distributions and what they need themselves, as far as it is installed."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        if name.lower() not in found:
            found.add(name.lower())
            waiting += [re.split(r"[ ;<>=!~\[(]", each)[0] for each in needed if "extra ==" not in each]
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with nothing but these."""
    folder = tmp_path_factory.mktemp("packages")
    for name in with_requirements(BARE):
        for file in importlib.metadata.files(name) or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(
                    Path(str(file.locate())).parents[len(file.parts) - 2] if len(file.parts) > 1 else file.locate()
                )
    return folder


def run(folder: Path, packages: Path) -> dict[str, Any]:
    command = [sys.executable, "-S", str(ROOT / "benchmarks/gpu.py")]
    command += ["--cpu", "--minutes", "20", "--out", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    content: dict[str, Any] = json.loads((folder / "gpu.json").read_text())
    assert (folder / "gpu.md").read_text() in done.stdout
    return content


@pytest.mark.slow
def test_all_parts_run_where_little_is_installed(bare: Path, tmp_path: Path) -> None:
    content = run(tmp_path, bare)
    assert set(ABSENT) <= set(content["facts"]["absent"])
    rows = content["rows"]
    assert {row["part"] for row in rows} == set("abcdefg")
    for row in rows:
        assert row["finding"] or row["problem"].startswith("not run: "), row
        assert row["finding"] is None or row["finding"]["passed"] is not False, row
    not_run = {row["case"]: row["problem"] for row in rows if row["finding"] is None}
    assert not_run["ALIKED"] == "not run: kornia not installed"
    compared = [row for row in rows if row["finding"] and row["finding"]["passed"]]
    assert {row["part"] for row in compared} == set("adef")
    predicted = [row for row in rows if row["part"] in "bc" and row["finding"]]
    assert all(row["finding"]["predicted"] for row in predicted)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from gpu import setting

    return setting


def test_what_is_installed_is_used(parts: Any, tmp_path: Path) -> None:
    """The cases that ask for a library, and matching, which takes what it finds."""
    from gpu import adjustment, matching, parity

    cpu = torch.device("cpu")
    setting = parts.Setting(cpu, True, tmp_path, device_speed(cpu, small=True))
    asking = {"ALIKED": parity, "2 thousand observations, Ceres": adjustment}
    chosen = [case for name, part in asking.items() for case in part.cases(setting) if case[0] == name]
    rows = {row.case: row for row in parts.run_cases("x", [*chosen, *matching.cases(setting)], time.monotonic() + 600)}
    for name, row in rows.items():
        if name == "one round of seeds, the kernel":
            continue  # needs a GPU
        assert row.finding is not None and row.finding.passed is not False, row
    assert set(asking) < rows.keys() and len(rows) == 2 + len(list(matching.cases(setting)))


def test_a_failed_case_is_named_and_the_others_go_on(parts: Any) -> None:
    def fails() -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")

    def absent() -> Any:
        parts.needs("a_library_that_nobody_has")

    def cases() -> Iterator[Any]:
        yield "first", fails
        yield "second", absent
        yield "third", lambda: parts.Finding({"error": 0.5}, passed=True)

    rows = list(parts.run_cases("x", cases(), time.monotonic() + 60))
    assert [row.finding is not None for row in rows] == [False, False, True]
    assert rows[0].problem == "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert rows[1].problem == "not run: a_library_that_nobody_has not installed"
    late = list(parts.run_cases("x", cases(), time.monotonic() - 1))
    assert {row.problem for row in late} == {"not run: the time of this part is up"}


def test_between_cases_nothing_stops_the_others_either(parts: Any) -> None:
    def cases() -> Iterator[Any]:
        yield "first", lambda: parts.Finding({})
        yield "second", lambda: parts.Finding({})
        raise ValueError("no room for what is third")

    rows = list(parts.run_cases("x", cases(), time.monotonic() + 60, known=["first"]))
    assert [row.case for row in rows] == ["second", "further cases"]
    assert rows[1].problem == "ValueError: no room for what is third"


def test_a_case_that_hangs_is_given_up_as_it_hangs(parts: Any) -> None:
    given_up = threading.Event()
    seen: list[Any] = []

    def give_up(row: Any) -> None:
        seen.append(row)
        given_up.set()

    cases = iter([("quick", lambda: parts.Finding({})), ("hangs", lambda: parts.Finding({"freed": given_up.wait(60)}))])
    rows = list(parts.run_cases("x", cases, time.monotonic() + 60, patience=parts.Patience(0.5, give_up)))
    assert rows[-1].finding.figures == {"freed": True}
    assert [(row.case, row.problem) for row in seen] == [("hangs", "hangs: no end after 0 s")]


class Begun(Exception):
    """In place of a new process, with its command."""


@pytest.fixture
def command(parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """gpu.py with one part of three cases, of which the second fails."""
    spec = importlib.util.spec_from_file_location("gpu_command", ROOT / "benchmarks/gpu.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def cases(setting: Any) -> Iterator[Any]:
        yield "first", lambda: parts.Finding({}, passed=True)
        yield "second", lambda: 1 // 0
        yield "third", lambda: parts.Finding({}, passed=True)

    def begin(_: str, line: list[str]) -> None:
        raise Begun(*line[line.index(str(ROOT / "benchmarks/gpu.py")) + 1 :])

    monkeypatch.setitem(module.PARTS, "a", ("made_up", 1.0))
    monkeypatch.setitem(sys.modules, "gpu.made_up", SimpleNamespace(cases=cases))
    monkeypatch.setattr(os, "execv", begin)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--cpu", "--parts", "a", "--out", str(tmp_path)])
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)
    faulthandler.cancel_dump_traceback_later()


def test_a_device_that_is_lost_is_asked_again_by_a_new_process(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which goes on with the case after the one that lost it."""
    monkeypatch.setattr(command, "_alive", lambda device: False)
    with pytest.raises(Begun) as begun:
        command.main()
    monkeypatch.setattr(sys, "argv", ["gpu.py", *begun.value.args])
    assert command.main() == 1
    rows = {row["case"]: row for row in json.loads((tmp_path / "gpu.json").read_text())["rows"]}
    assert list(rows) == ["first", "second", "third"]
    assert rows["second"]["problem"].startswith("ZeroDivisionError") and rows["third"]["finding"]["passed"]


def test_a_card_whose_speed_cannot_be_measured_is_compared_all_the_same(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unmeasured(*_: Any) -> Any:
        raise RuntimeError("no room for a product")

    monkeypatch.setattr(command, "device_speed", unmeasured)
    assert command.main() == 1
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [row["case"] for row in rows] == ["speed of plain operations", "first", "second", "third"]
    assert "TFLOP/s of plain products: float64 nan" in (tmp_path / "gpu.md").read_text()


def test_without_a_gpu_one_line_says_so(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match=r"finds no GPU here: --cpu runs small sizes"):
        command.main()


def test_photos_in_rigs_are_where_their_rigs_put_them(parts: Any) -> None:
    """In the truth and at the start, which is off by pixels and not by more."""
    from gpu.adjustment import bundle_of

    from unposed.optim.bundle.problem import errors_px
    from unposed.optim.rigs import frame_poses, photo_poses

    bundle = bundle_of(21, 800, "rigs")
    assert bundle.rigs is not None
    frames = frame_poses(bundle.rigs, bundle.cam_from_world).reshape(7, 3, 3, 4)
    np.testing.assert_allclose(frames, np.broadcast_to(frames[:, :1], frames.shape), atol=1e-12)
    again = photo_poses(bundle.rigs, frame_poses(bundle.rigs, bundle.cam_from_world))
    np.testing.assert_allclose(again, bundle.cam_from_world, atol=1e-12)
    assert 5.0 < np.median(errors_px(bundle)) < 50.0
    with pytest.raises(ValueError, match="whole frames of 3, got 20"):
        bundle_of(20, 100, "rigs")


@pytest.mark.parametrize("network", ["Depth Anything 3", "VGGT", "Pi3"])
def test_groups_are_predicted_there_as_here(parts: Any, network: str) -> None:
    """On a device that is none; with more views than are together in the heads there."""
    from gpu import network_parity

    here, there = on_both(lambda device: network_parity._said(network, torch.device(device), "float32"))
    for name, values in here.items():
        assert relative_error(there[name], values) < 1e-5, name


def test_cameras_are_fitted_there_as_here(parts: Any) -> None:
    from gpu import network_parity

    here, there = on_both(lambda device: network_parity._fitted(torch.device(device)))
    for name, values in here.items():
        assert relative_error(there[name], values) < 1e-12, name


def test_the_table_says_what_failed(parts: Any) -> None:
    from gpu.report import as_markdown

    rows = [
        parts.Row("a", "network", parts.Finding({"error": 0.25}, {"limit": 0.1}, False), seconds=1.5),
        parts.Row("b", "adjustment", None, "OutOfMemoryError: too large"),
    ]
    table = as_markdown({"card": "a card", "absent": ["triton", "PIL"]}, rows)
    assert "| a | network | error 0.25 | limit 0.1 | differs | 1.5 |" in table
    assert "| b | adjustment | OutOfMemoryError: too large |  | failed |  |" in table
    assert table.startswith("- card: a card\n- absent: triton, PIL\n")


@pytest.mark.parametrize("config", ["small", "full"])
def test_operations_are_those_of_the_formula(parts: Any, config: str) -> None:
    """A block of width c has 12 c^2 multiplications per token, and attention 2 n c; the decoder's 16 c^2 and 4 n c."""
    from gpu.work import encoder_work

    from unposed.gpu_check import SMALL_NETWORK
    from unposed.networks.mast3r.config import Mast3rConfig

    architecture = SMALL_NETWORK if config == "small" else Mast3rConfig()
    stack, tokens = architecture.encoder, 24 * 32
    blocks = 2 * stack.depth * tokens * (12 * stack.width**2 + 2 * tokens * stack.width)
    patches = 2 * tokens * 3 * 16**2 * stack.width
    assert encoder_work(architecture, (384, 512)).operations == pytest.approx(blocks + patches, rel=1e-3)
