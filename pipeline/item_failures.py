"""Items of a run that gave nothing, and why, in words for the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .executor import is_out_of_memory
from .stage import Grain, InputUnavailable


@dataclass(frozen=True)
class Failure:
    """An item that gave nothing; what depends on it went without."""

    node: str
    photos: tuple[str, ...]
    """Names of the photo, or of the photos of the pair or group; empty for a stage over the collection."""
    reason: str


class BrokenRule(Exception):
    """A plugin has given a value that no stage can read; one line with the plugin and what is wrong."""


def is_bug(error: Exception) -> bool:
    """Whether a plugin is to blame, and neither a lack of memory nor a file that cannot be read now."""
    return not isinstance(error, InputUnavailable) and not is_out_of_memory(error)


def reason_of(error: Exception, node: str, device: str) -> str:
    """Why an item, or a stage over the collection, gave nothing in this run."""
    if isinstance(error, InputUnavailable):
        return f"{line_of(error)}; the next run tries it again"
    if isinstance(error, BrokenRule):
        return line_of(error)
    reason = f"{type(error).__name__}: {line_of(error)}"
    if not is_out_of_memory(error):
        return reason
    instead = "" if device == "cpu" else ", or use --device cpu"
    return f"not even one fits into memory: lower the sizes among the options of {node}{instead} ({reason})"


def reason_of_all(node: str, plugin: str, grain: Grain, reasons: Sequence[str]) -> str:
    """The line about a stage that failed for all of its items, by the most frequent of their reasons."""
    (reason, times), *others = Counter(reasons).most_common()
    every = f"its only {grain.value}" if len(reasons) == 1 else f"all {len(reasons)} {grain.value}s"
    more = "1 more reason" if len(others) == 1 else f"{len(others)} more reasons"
    some = f" ({times} of them; summary.json has {more})" if others else ""
    return f"{node} ({plugin}) failed for {every}: {reason}{some}"


def line_of(error: Exception) -> str:
    """The message of an error without line breaks, or its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
