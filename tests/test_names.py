"""One concept has one name, and a name is defined once: what docs/glossary.md promises, read from the syntax trees."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("optim", "retrieval", "networks", "surface", "plugins", "report", "synthetic")
FILES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))


def public_definitions(source: str) -> list[str]:
    """Functions and classes at the top level of a module that do not begin with an underscore."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node.name for node in ast.parse(source).body if isinstance(node, kinds) and node.name[0] != "_"]


def array_kinds(source: str) -> list[str]:
    """Names that a module gives to kinds of arrays which have a name already."""
    named = set(re.findall(r"^\w+ = (NDArray\[.+\])$", (ROOT / "optim" / "arrays.py").read_text("utf-8"), re.MULTILINE))
    assert len(named) > 3
    found = re.findall(r'^(\w+) = (NDArray\[.+\])$(?!\n""")', source, re.MULTILINE)
    return [name for name, kind in found if kind in named]


def test_every_public_name_is_defined_once() -> None:
    places = defaultdict(list)
    for file in FILES:
        for name in public_definitions(file.read_text("utf-8")):
            places[name].append(file.relative_to(ROOT).as_posix())
    assert len(places) > 300
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("room", ["optim", "retrieval", "surface", "plugins"])
def test_kinds_of_arrays_are_named_in_one_file(room: str) -> None:
    """Others may only name what they also describe, such as pairs of photos."""
    for file in (ROOT / room).rglob("*.py"):
        if file != ROOT / "optim" / "arrays.py":
            assert array_kinds(file.read_text("utf-8")) == [], file


def test_the_checks_find_what_they_look_for() -> None:
    assert public_definitions("def a(): ...\nclass B: ...\ndef _c(): ...\nd = 1\n") == ["a", "B"]
    assert array_kinds("Rows = NDArray[np.float64]\n") == ["Rows"]
    assert array_kinds('Rows = NDArray[np.float64]\n"""(n, 3)."""\n') == []


def test_every_module_of_the_glossary_exists() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    paths = re.findall(r"`((?:optim|retrieval|pipeline|surface|synthetic|plugins)/[\w/]*(?:\.py)?)`", text)
    dotted = re.findall(r"`((?:optim|retrieval|pipeline|surface|synthetic)(?:\.\w+)+)`", text)
    assert len(paths) > 10 and len(dotted) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
    for name in dotted:
        *module, last = name.split(".")
        whole, holder = ROOT.joinpath(*module, f"{last}.py"), ROOT.joinpath(*module).with_suffix(".py")
        assert whole.exists() or re.search(rf"^(class |def )?{last}\b", holder.read_text("utf-8"), re.MULTILINE), name


@pytest.mark.parametrize(
    "word", ["belief", "believe", "believed", "lookalike", "look-alike", "damned", "gave_up", "evidence_of", "likeness"]
)
def test_words_that_the_glossary_replaced_are_gone(word: str) -> None:
    product = [*FILES, *(file for room in ("pipeline", "unposed") for file in (ROOT / room).rglob("*.py"))]
    found = [file for file in product if re.search(rf"(?<![a-z]){word}(?![a-z])", file.read_text("utf-8").lower())]
    assert found == []
