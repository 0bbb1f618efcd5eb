"""What programs of benchmarks/ import from each other, and from unposed, is there."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
PROGRAMS = sorted(FOLDER.glob("*.py"))


def defined(module: Path) -> set[str]:
    """Names at the top of a module."""
    names: set[str] = set()
    for node in ast.parse(module.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(each.asname or each.name for each in node.names)
        else:
            names.update(each.id for each in ast.walk(node) if isinstance(each, ast.Name))
    return names


def source_of(name: str) -> Path | None:
    """Of a program beside, or of a module of unposed that is no package."""
    if (beside := FOLDER / f"{name}.py").exists():
        return beside
    if not name.startswith("unposed."):
        return None
    spec = find_spec(name)
    assert spec is not None, f"{name} is gone"
    return Path(spec.origin) if spec.origin and not spec.origin.endswith("__init__.py") else None


@pytest.mark.parametrize("program", PROGRAMS, ids=[each.stem for each in PROGRAMS])
def test_what_a_benchmark_imports_exists(program: Path) -> None:
    for node in ast.walk(ast.parse(program.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and (source := source_of(node.module)) is not None:
            missing = {each.name for each in node.names} - defined(source)
            assert not missing, f"{program.name} imports from {node.module} what is not there: {sorted(missing)}"
