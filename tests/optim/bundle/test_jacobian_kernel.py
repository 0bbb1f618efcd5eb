"""Products with Jacobians by Triton kernels against the same in torch; Triton's interpreter runs them on a CPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

INTERPRETED = """
from types import SimpleNamespace
import numpy as np
import torch
from unposed.optim.bundle import torch_layout
from unposed.optim.bundle.jacobian_kernel import photo_products_by_kernel, point_products_by_kernel
from unposed.optim.bundle.torch_jacobians import Jacobians, photo_products, point_products
random, cpu = np.random.default_rng(0), torch.device("cpu")
counts = np.array([1, 64, 65, 130, 7])  # photos with one part, whole parts, and parts of few
photo, m = np.repeat(np.arange(5), counts), counts.sum()
point = random.permutation(m) % 40
layout = torch_layout.TorchLayout.__new__(torch_layout.TorchLayout)
layout.device, layout._photo_counts = cpu, counts
layout.photo, layout.point = torch.from_numpy(photo), torch.from_numpy(point)
layout.point_sums = torch_layout.TorchSegmentSums(point, 40, cpu)
layout.chunks = layout._chunks(photo, 5)
for residuals, unknowns, stored in ((2, 8, torch.float32), (3, 6, torch.float64)):
    camera, of_point = (
        torch.from_numpy(random.standard_normal((residuals, n, m))).to(stored) for n in (unknowns, 3)
    )
    jacobians = Jacobians(camera, of_point)
    x, y = (torch.from_numpy(random.standard_normal(shape)) for shape in ((5, unknowns), (40, 3)))
    by_point = point_products_by_kernel(jacobians, x, layout.photo, layout.by_point)
    torch.testing.assert_close(
        layout.point_sums.of_sorted(by_point), layout.point_sums(point_products(jacobians, x.T, layout)), rtol=1e-13,
        atol=1e-13)
    parts = photo_products_by_kernel(jacobians, y, layout.point, layout.photo_parts)
    assert len(parts) == 8
    torch.testing.assert_close(
        layout.photo_parts.sums(parts), photo_products(jacobians, y.T, layout), rtol=1e-13, atol=1e-13)
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton: pip install triton")
def test_products_are_those_of_torch() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
