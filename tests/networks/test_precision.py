"""TF32 is a setting of the process: who allows it gives it back, and who has no setting of their own does without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from unposed.networks.loading import cached_network
from unposed.networks.precision import forbid_tf32, tensor_cores

GPU = torch.device("cuda")
"""The setting is there without one, too."""


def allowed() -> tuple[bool, bool]:
    """Of products of matrices, and of convolutions."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture(autouse=True)
def _as_pytorch_has_it() -> Iterator[None]:
    before = allowed()
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_heads_that_may_round_leave_no_trace() -> None:
    forbid_tf32(GPU)
    with tensor_cores(GPU, allowed=True):
        assert allowed() == (True, True)
    assert allowed() == (False, False)


def test_a_cpu_leaves_the_setting_to_others() -> None:
    forbid_tf32(torch.device("cpu"))
    assert allowed() == (False, True)


def test_networks_that_are_loaded_for_another_device_forbid_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "weights.pth"
    weights.touch()
    monkeypatch.setattr(nn.Module, "to", lambda self, device: self)
    cached_network(lambda path: nn.Conv2d(1, 1, 1), weights, "cuda:7")
    assert allowed() == (False, False)
