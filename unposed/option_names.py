"""Names of the fields of a dataclass, read from its source, since importing a plugin may take seconds."""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path


def option_names(target: str) -> list[str]:
    """Fields of the class `module:name`, `field.inner` for nested options; empty where there is no source."""
    module, _, name = target.partition(":")
    return list(dict.fromkeys(_fields(module, name))) if name else []


def _fields(module: str, name: str) -> list[str]:
    tree = _tree(module)
    if tree is None:
        return []
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            inherited = [
                field for base in statement.bases if isinstance(base, ast.Name) for field in _fields(module, base.id)
            ]
            return inherited + [field for each in statement.body for field in _declared(module, each)]
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name and (source := _source(module, statement)) is not None:
                    return _fields(source, alias.name)
    return []


def _declared(module: str, statement: ast.stmt) -> list[str]:
    if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
        return []
    kind = ast.unparse(statement.annotation)
    if kind.startswith(("ClassVar", "typing.ClassVar")):
        return []
    field = statement.target.id
    inner = _fields(module, kind) if kind.isidentifier() and kind[0].isupper() else []
    return [f"{field}.{each}" for each in inner] or [field]


def _source(module: str, statement: ast.ImportFrom) -> str | None:
    """The module that an import reads, if it is one of ours or of the plugin's own package."""
    name = "." * statement.level + (statement.module or "")
    full = resolve_name(name, module.rpartition(".")[0]) if statement.level else name
    return full if full.partition(".")[0] == module.partition(".")[0] else None


@cache
def _tree(module: str) -> ast.Module | None:
    try:
        spec = find_spec(module)
        return ast.parse(Path(spec.origin).read_text(encoding="utf-8")) if spec and spec.origin else None
    except (ImportError, OSError, SyntaxError, ValueError):
        return None
