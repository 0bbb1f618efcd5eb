"""Parse YAML to plain data, with errors in one line."""

from __future__ import annotations

import re
from typing import Any

import yaml

from .errors import ConfigError

MOST_YAML_NODES = 100_000
"""Values of a preset or option; the largest that are shipped have some hundreds."""


class _Loader(yaml.SafeLoader):
    """Safe YAML with two repairs: `1e-6` is a number, and a key may be written only once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} is written twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _written_out(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a document has if every alias is replaced by what it stands for.

    A few lines of aliases to aliases stand for billions, which are one object until somebody walks or prints them.
    """
    if id(node) not in known:
        known[id(node)] = MOST_YAML_NODES + 1  # what contains itself never ends
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [each for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        known[id(node)] = 1 + sum(_written_out(each, known) for each in inner)
    return known[id(node)]


def read_yaml(text: str, where: str) -> Any:
    """Parse YAML to plain data, without executing anything in it. `where` names the text in messages."""
    try:
        loader = _Loader(text)  # a SafeLoader
        try:
            node = loader.get_single_node()
            if node is not None and _written_out(node, {}) > MOST_YAML_NODES:
                raise ConfigError(f"{where}: its aliases stand for more than {MOST_YAML_NODES} values: write them out")
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"{where}{line}: not valid YAML: {problem}") from error
