"""Options from plain data: what is taken, what is refused, and how that is said."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from unposed.pipeline.config import Option, Within, build, schema
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.yaml_text import read_yaml


@dataclass(frozen=True)
class Inner:
    """A part of a configuration."""

    weight: float = 1.0


@dataclass(frozen=True)
class Outer:
    """One field of each kind."""

    max_ratio: Annotated[float, Within("(0, 1]")] = 0.8
    """Best over second best,
    at most."""
    count: Annotated[int, Within("[1, inf)")] = 5
    limit: Annotated[int | None, Within("[0, 10]")] = None
    kind: Literal["huber", "cauchy"] = "huber"
    both: bool = True
    sizes: tuple[int, ...] = ()
    """In pixels."""
    box: tuple[int, float] = (1, 2.0)
    weights: Path | None = None
    name: str = ""
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.count > 100 and not self.both:
            raise ValueError("count above 100 needs both")


@dataclass(frozen=True)
class Needy:
    """Something without a default."""

    path: Path


@pytest.mark.parametrize(
    ("data", "field_name", "value"),
    [
        ({"max_ratio": 1}, "max_ratio", 1.0),
        ({"max_ratio": 1e-6}, "max_ratio", 1e-6),
        ({"limit": None}, "limit", None),
        ({"limit": 10}, "limit", 10),
        ({"kind": "cauchy"}, "kind", "cauchy"),
        ({"sizes": [1, 2, 3]}, "sizes", (1, 2, 3)),
        ({"box": [3, 4]}, "box", (3, 4.0)),
        ({"weights": "a/b.pt"}, "weights", Path("a/b.pt")),
        ({"inner": {"weight": 2}}, "inner", Inner(2.0)),
    ],
)
def test_taken(data: Any, field_name: str, value: Any) -> None:
    taken = getattr(build(Outer, data, "node"), field_name)
    assert taken == value and type(taken) is type(value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"max_ratio": "0.8x"}, "node.max_ratio: expected float in (0, 1], got '0.8x'"),
        ({"max_ratio": 0}, "node.max_ratio: expected float in (0, 1], got 0"),
        ({"max_ratio": True}, "node.max_ratio: expected float in (0, 1], got True"),
        ({"max_ratio": float("nan")}, "node.max_ratio: expected float in (0, 1], got nan"),
        ({"count": "20"}, "node.count: expected int in [1, inf), got '20'"),
        ({"count": 4.5}, "node.count: expected int in [1, inf), got 4.5"),
        ({"count": True}, "node.count: expected int in [1, inf), got True"),
        ({"limit": 11}, "node.limit: expected int or none in [0, 10], got 11"),
        ({"kind": "hubert"}, "node.kind: expected huber|cauchy, got 'hubert'"),
        ({"both": 1}, "node.both: expected bool, got 1"),
        ({"sizes": 3}, "node.sizes: expected list of int, got 3"),
        ({"sizes": [1, "2"]}, "node.sizes[1]: expected int, got '2'"),
        ({"box": [1]}, "node.box: expected [int, float], got [1]"),
        ({"inner": {"weigth": 1}}, "node.inner.weigth: no such option; did you mean weight?"),
        ({"max_ration": 1}, "node.max_ration: no such option; did you mean max_ratio?"),
        ({"count": 101, "both": False}, "node: count above 100 needs both"),
        ([], "node: expected a mapping of options, got []"),
    ],
)
def test_refused(data: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(Outer, data, "node")
    assert str(error.value) == message


def test_a_field_without_default_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"^fine\.path: missing, expected path$"):
        build(Needy, {}, "fine")


def test_schema_has_types_defaults_and_the_text_below_the_field() -> None:
    rows = {row.name: row for row in schema(Outer)}
    assert rows["max_ratio"] == Option("max_ratio", "float in (0, 1]", "0.8", "Best over second best, at most.")
    assert rows["sizes"].doc == "In pixels."
    assert rows["limit"].type == "int or none in [0, 10]"
    assert schema(Needy)[0].default == "required"


def test_schema_has_nested_options_by_dotted_names() -> None:
    rows = {row.name: row for row in schema(Outer)}
    assert "inner" not in rows
    assert rows["inner.weight"].type == "float"


@pytest.mark.parametrize("interval", ["0, 1", "(0 1)", "(a, b)"])
def test_a_wrong_interval_is_seen_where_it_is_written(interval: str) -> None:
    with pytest.raises(ValueError, match=r"interval|float"):
        Within(interval)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-6", 1e-6), ("-2E+3", -2000.0), ("1.5e3", 1500.0), ("'1e-6'", "1e-6"), ("1e", "1e"), ("0.5", 0.5), ("3", 3)],
)
def test_yaml_reads_floats_as_people_write_them(text: str, value: object) -> None:
    assert read_yaml(text, "test") == value and type(read_yaml(text, "test")) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "file line 3: not valid YAML: key 'a' is written twice"),
        ("n: {use: sift, use: orb}", "file line 1: not valid YAML: key 'use' is written twice"),
        ("a: [1", "file line"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
    ],
)
def test_yaml_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_yaml(text, "file")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_aliases_to_aliases_do_not_stand_for_billions() -> None:
    """Of a few hundred bytes; each is one object, until a message prints it or a merge walks it."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match=r"^bomb: its aliases stand for more than"):
        read_yaml("\n".join(lines), "bomb")
    with pytest.raises(ConfigError, match="its aliases stand for"):
        read_yaml("a: &a [*a]", "loop")
    assert read_yaml("a: &a [1, 2]\nb: *a", "fine") == {"a": [1, 2], "b": [1, 2]}


def test_large_values_are_quoted_in_part() -> None:
    with pytest.raises(ConfigError) as caught:
        build(Inner, {"weight": ["long"] * 50_000}, "node")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["? [a, b] : 1", "? {a: 1} : 2", "- - !!python/name:os.system", "[[[[", "&a"])
def test_strange_yaml_is_one_line_or_plain_data(text: str) -> None:
    try:
        assert read_yaml(text, "x") is None
    except ConfigError as error:
        assert "\n" not in str(error)
