"""The rooms form a DAG, and only the packaged name is ever imported. Read from the syntax trees: nothing is run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED: dict[str, set[str]] = {
    "configs": set(),
    "optim": set(),
    "synthetic": set(),
    "pipeline": set(),
    "retrieval": {"optim"},
    "networks": set(),
    "surface": {"optim"},
    "plugins": {"pipeline", "retrieval", "optim", "networks", "surface"},
    "report": {"pipeline", "retrieval", "optim"},
    "unposed": {"configs", "pipeline", "report", "retrieval", "optim", "networks", "surface", "synthetic"},
}
DATA = {
    "pipeline": {
        "optim.view_graph",
        "optim.option_ranges",
        "optim.camera_turns",
        "optim.intrinsics_priors",
        "optim.rigs",
        "surface.stereo.view",
        "surface.gaussians.scene",
        "optim.alignment.metric_scale",
        "optim.arrays",
    }
}
"""Modules of plain data that a room may import from one it may not import otherwise."""
LINKED = ALLOWED.keys() - {"unposed"}
FILES = sorted(
    file
    for room in ALLOWED
    for file in (ROOT / room).rglob("*.py")  # links are not followed: those below unposed/ lead to the other rooms
)


def imported(source: str, package: tuple[str, ...]) -> set[str]:
    """Dotted names that a module of this package imports, with relative imports made absolute."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *filter(None, [node.module])))
            names |= {f"{stem}.{alias.name}" for alias in node.names}
    return names


def forbidden(room: str, names: set[str]) -> list[str]:
    """The imports among these that a module of the room may not have."""
    wrong = []
    for name in sorted(names):
        top, _, rest = name.partition(".")
        if any(f"{rest}.".startswith(f"{module}.") for module in DATA.get(room, ())):
            continue
        target = rest.partition(".")[0]
        if top in LINKED or (top == "unposed" and target in LINKED - ALLOWED[room] - {room}):
            wrong.append(name)
        elif top == "unposed" and target not in LINKED and room != "unposed":
            wrong.append(name)  # the face of the house is for people, not for its rooms
    return wrong


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_imports_follow_the_arrows(file: Path) -> None:
    room, *below = file.relative_to(ROOT).parts[:-1]
    package = ("unposed", *below) if room == "unposed" else ("unposed", room, *below)
    assert forbidden(room, imported(file.read_text(encoding="utf-8"), package)) == []


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("optim", "from unposed.pipeline.stage import Grain"),
        ("optim", "from ..pipeline import stage"),
        ("pipeline", "import unposed.plugins.features.sift"),
        ("unposed", "from unposed.plugins.features.sift import Sift"),
        ("plugins", "import pipeline.stage"),
        ("retrieval", "from unposed import __version__"),
    ],
)
def test_a_wrong_arrow_is_seen(room: str, line: str) -> None:
    assert len(forbidden(room, imported(line, ("unposed", room)))) == 1
