"""What commands share: options from the command line, and printing."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from unposed.pipeline.plain_text import printable_json
from unposed.pipeline.progress import progress_for

from ..options import RunOptions


def given_options(arguments: argparse.Namespace, function: Callable[..., Any]) -> dict[str, Any]:
    """Options of the command line as keyword arguments of the function, run options included."""
    keywords = {
        name
        for name, each in inspect.signature(function).parameters.items()
        if each.default is not inspect.Parameter.empty
    } | {each.name for each in fields(RunOptions)}
    said = {name: value for name, value in vars(arguments).items() if name in keywords}
    return {**said, "progress": progress_for(arguments.quiet, arguments.json)}


def photo_source(paths: Sequence[Path]) -> Path | Sequence[Path]:
    """Folders, photos and videos of a command line as a Python parameter."""
    return paths[0] if len(paths) == 1 else paths


def print_json(value: Any) -> int:
    """Print a value as JSON, in ASCII where the output has no other characters; exit code 0."""
    for ascii_only in (False, True):
        text = printable_json(json.dumps(value, indent=2, ensure_ascii=ascii_only, default=str))
        with suppress(UnicodeEncodeError):
            text.encode(sys.stdout.encoding or "utf-8")
            break
    print(text)
    return 0
