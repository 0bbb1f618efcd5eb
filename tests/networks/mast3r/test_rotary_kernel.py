"""The kernel that rotates in place against the same in single operations; Triton's interpreter runs it on a CPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

INTERPRETED = """
import torch
import torch.testing
from unposed.networks.mast3r.croco import image_rotation
from unposed.networks.rotary_kernel import rotate_in_place
from unposed.networks.transformer import apply_rotary_embedding
random = torch.Generator().manual_seed(0)
for width, kind in ((64, torch.float32), (64, torch.bfloat16), (12, torch.float32), (16, torch.float16)):
    by = image_rotation((48, 112), width, 100.0, torch.device("cpu"))
    qkv = torch.randn(2, 21, 3 * 4 * width, generator=random).to(kind)
    parts = [part.view(2, 21, 4, width).transpose(1, 2) for part in qkv.chunk(3, dim=-1)]  # strided, as in a block
    expected, untouched = apply_rotary_embedding(parts[0], by), parts[1].clone()
    found = rotate_in_place(parts[0], *by)
    # The interpreter cuts numbers off where a GPU rounds them to 8 bits.
    torch.testing.assert_close(found, expected, rtol=2**-7 if kind == torch.bfloat16 else 1e-6, atol=1e-6)
    assert torch.equal(parts[1], untouched)
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton: pip install triton")
def test_tokens_are_rotated_as_in_single_operations() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
