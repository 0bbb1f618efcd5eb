"""The self test of a GPU, run on a CPU, and what it concludes of cards that are only said to be there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

import unposed
from unposed import diagnosis, gpu_check
from unposed.cli import main
from unposed.gpu_check import DeviceCheck, _consequences, check_device, diagnose_gpu, made_up_network
from unposed.isolated import Answer
from unposed.networks.precision import usual_precision

CUDA = torch.device("cuda", 0)
GOOD = (DeviceCheck("attention", 1e-7, 1e-4),)


@pytest.fixture
def nothing_else_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor starts no process for cards, plugins and presets, 4 CPU s: `test_commands.py` is about those."""
    monkeypatch.setattr(diagnosis, "answers", lambda questions: [Answer([]) for _ in questions])


def test_every_check_passes_on_the_device_it_compares_with() -> None:
    checks = check_device(torch.device("cpu"))
    assert {"network in float32", "bundle adjustment", "dense matches that differ"} <= {each.name for each in checks}
    assert all(each.passed for each in checks)


def test_a_check_that_raises_is_named_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> float:
        raise RuntimeError("no kernel image is available for execution on the device\nCompile with ...")

    monkeypatch.setattr(gpu_check, "_attention_error", broken)
    first, *others = check_device(torch.device("cpu"))
    assert first.name == "attention (RuntimeError: no kernel image is available for execution on the device)"
    assert not first.passed
    assert all(each.passed for each in others)


def test_networks_of_made_up_parameters_differ_by_rounding_only() -> None:
    networks = [made_up_network(gpu_check.SMALL_NETWORK, torch.device("cpu"), kind) for kind in ("float64", "float32")]
    assert [network.stream_dtype for network in networks] == [torch.float64, torch.float32]
    images = gpu_check.smooth_images(1, gpu_check.SMALL_SIZE)
    wide, narrow = (network.encode(images) for network in networks)
    assert wide.dtype == torch.float64
    assert 0.0 < gpu_check.relative_error(narrow, wide) < 1e-5


@pytest.mark.parametrize(
    ("capability", "precision"), [((9, 0), "bfloat16"), ((8, 6), "bfloat16"), ((7, 5), "float16"), ((6, 1), "float32")]
)
def test_the_precision_follows_the_card(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert usual_precision(CUDA) == precision
    assert usual_precision(torch.device("cpu")) == "float32"


def test_a_good_card_runs_all_and_an_old_small_one_says_what_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "search_kernel_problem", lambda _: "")
    uses, fallbacks = _consequences(CUDA, "bfloat16", 24 << 30, GOOD)
    assert len(uses) == 3
    assert not fallbacks
    monkeypatch.setattr(gpu_check, "search_kernel_problem", lambda _: "Failed to find C compiler")
    wrong = DeviceCheck("convolution", 0.5, 1e-4)
    _, fallbacks = _consequences(CUDA, "float16", 2 << 30, (*GOOD, wrong))
    assert [line.partition(":")[0] for line in fallbacks] == [
        "convolution",
        "no bfloat16 before compute capability 8.0",
        "2 GiB are less than MASt3R needs (4)",
        "dense matching and networks without kernels of our own, more slowly",
    ]


@pytest.mark.usefixtures("nothing_else_asked")
def test_the_doctor_without_a_gpu_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["doctor", "--gpu", "--json", "--cache", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)["gpu_check"]
    assert found["device"] == "cpu"
    assert found["fallbacks"] == ["no GPU that PyTorch can use: everything runs on the CPU"]
    assert all(check["passed"] for check in found["checks"])
    assert main(["doctor", "--cache", str(tmp_path)]) == 0
    assert "GPU test" not in capsys.readouterr().out


@pytest.mark.usefixtures("nothing_else_asked")
def test_the_doctor_shows_what_the_test_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "SMALL_SIZE", (48, 64))
    plain = gpu_check.as_plain(diagnose_gpu(torch.device("cpu")))
    monkeypatch.setattr(diagnosis, "_gpu_check", lambda: (plain, []))
    assert main(["doctor", "--gpu", "--cache", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "5 of 5 checks agree with the CPU" in shown
    assert "fall-back" in shown


@pytest.mark.usefixtures("nothing_else_asked")
@pytest.mark.parametrize(
    ("stderr", "code", "line"),
    [("", 0, "a card differs from the CPU in: attention; use --device cpu"), ("CUDA error", 1, "(CUDA error)")],
)
def test_a_wrong_card_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, code: int, line: str
) -> None:
    found = {"name": "a card", "checks": [{"name": "attention", "passed": False}]}
    done = subprocess.CompletedProcess([], code, json.dumps(found), stderr)
    monkeypatch.setattr(subprocess, "run", lambda command, **more: done)
    problems = unposed.doctor(tmp_path, gpu=True).problems
    assert len(problems) == 1
    assert line in problems[0]
