"""On a GPU heads may round to TF32, cameras may not, whatever another batch allows at the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from many_view_networks import hashed_network

from unposed.networks.manyview import vit


@pytest.mark.parametrize(
    ("name", "camera", "head"),
    [("da3_tinyA", "cam_dec", "head"), ("vggt_tiny", "camera_head", "depth_head"), ("pi3_tiny", "camera_head", "")],
)
def test_cameras_are_read_without_tf32(name: str, camera: str, head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [True]  # as another batch has it

    @contextmanager
    def recorded(_: torch.device, *, allowed: bool) -> Iterator[None]:
        seen.append(allowed)
        try:
            yield
        finally:
            seen.pop()

    monkeypatch.setattr(vit, "tensor_cores", recorded)
    network = hashed_network(name, torch.float32)
    network.tf32 = True
    at: dict[str, bool] = {}

    def noted(part: str) -> Any:
        def note(*_: Any) -> None:
            at.setdefault(part, seen[-1])

        return note

    network.get_submodule(camera).register_forward_pre_hook(noted("camera"))
    if head:
        network.get_submodule(f"{head}.norm").register_forward_pre_hook(noted("head"))
    network(torch.randn(1, 3, 3, 28, 42))
    assert at["camera"] is False
    assert at.get("head", True) is True
