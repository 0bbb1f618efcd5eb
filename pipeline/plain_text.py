"""Text of others on a terminal: it may not move the cursor, change colours, or end in an error of the encoding."""

from __future__ import annotations

import json
from typing import Any

LAYOUT = "\n\t"


def printable(text: str) -> str:
    """The same with everything that a terminal would not print as a character written as an escape, such as \\x1b.

    Names in files, messages of servers and plugins may hold control characters, marks that turn the direction of the
    text, and halves of characters that no encoding has.
    """
    return "".join(each if each.isprintable() or each in LAYOUT else _escaped(each) for each in text)


def printable_json(text: str) -> str:
    """The same of a text in JSON, which stays JSON of the same value."""
    return "".join(each if each.isprintable() or each in LAYOUT else json.dumps(each)[1:-1] for each in text)


def say(text: object = "", **options: Any) -> None:
    """Print a text of which parts may come from others; options are those of `print`."""
    print(printable(str(text)), **options)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
