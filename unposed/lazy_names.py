"""Names of a module that are imported from elsewhere at first use (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(
    module: str, names: Mapping[str, str], modules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of `module`.

    names: each public name and the module that defines it, which is imported when the name is first used.
    modules: public sub-modules, likewise.
    """

    def get(name: str) -> Any:
        if name in modules:
            return import_module(f"{module}.{name}")
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(import_module(names[name]), name)
        setattr(sys.modules[module], name, value)  # the next look-up is an ordinary one
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[module]), *names, *modules})

    return get, listed, sorted([*names, *modules])
