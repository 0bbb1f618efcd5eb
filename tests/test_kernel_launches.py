"""Triton launches a kernel on the current device of the thread, which is the first GPU, and not where its tensors are:
on a machine with several, the others would read addresses that they do not have. No GPU is needed to see that."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [file for room in ("optim", "networks", "plugins", "retrieval") for file in (ROOT / room).rglob("*_kernel.py")]


def launches(source: str) -> tuple[int, int]:
    """Calls of the form kernel[grid](...) in a module, and how many of them choose the device of a tensor."""

    def count(node: ast.AST) -> int:
        calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
        return sum(isinstance(each.func, ast.Subscript) for each in calls)

    tree = ast.parse(source)
    chosen = [
        node for node in ast.walk(tree) if isinstance(node, ast.With) and ".get_device())" in ast.unparse(node.items[0])
    ]
    return count(tree), sum(map(count, chosen))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_kernels_run_where_their_tensors_are(file: Path) -> None:
    every, chosen = launches(file.read_text("utf-8"))
    assert every == chosen > 0


def test_a_launch_elsewhere_is_seen() -> None:
    assert len(FILES) >= 3
    assert launches("kernel[grid](x)") == (1, 0)
    assert launches("with torch.cuda.device(x.get_device()):\n    kernel[grid](x)") == (1, 1)
