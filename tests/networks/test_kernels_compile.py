"""Triton's compiler makes machine code of every kernel for cards that are not here: it refuses what its interpreter
takes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

COMPILED = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from unposed.networks import rotary_kernel
from unposed.optim.pair import nearest_kernel

capability = int(sys.argv[1])
tables = {"queries": "*fp32", "targets": "*fp32", "out": "*i64"}
tile = {"block_q": nearest_kernel.QUERIES, "block_t": nearest_kernel.TARGETS}
kernels = [
    (nearest_kernel._nearest_point, tables, tile),
    *((rotary_kernel._rotate, {"x": f"*{kind}", "cos": "*fp32", "sin": "*fp32"}, {"padded": 32, "block": 32})
      for kind in ("bf16", "fp16", "fp32")),
    *((nearest_kernel._nearest, tables, {"padded": 32, "precision": precision, **tile})
      for precision in (nearest_kernel.PRECISION, "tf32", "ieee")),
]
for kernel, pointers, constants in kernels:
    types = {name: pointers.get(name, "constexpr" if name in constants else "i32") for name in kernel.arg_names}
    made = triton.compile(
        ASTSource(fn=kernel, signature=types, constexprs=constants), target=GPUTarget("cuda", capability, 32)
    )
    assert made.asm["cubin"], kernel
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton: pip install triton")
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile(capability: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", COMPILED, str(capability)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
