"""Ask questions in a process of its own: one that ends it or hangs is named, and takes no other answer along.

One process answers all, since most of them import the same libraries for seconds.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 60.0
"""How long one answer may take."""

CHILD = """
import importlib, json, os, sys
channel = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever prints, in Python or not, does not disturb the channel
from unposed.pipeline.errors import UnposedError
for target, *words in json.loads(sys.argv[1]):
    print("begin", file=channel, flush=True)
    value = problem = None
    try:
        module, _, function = target.partition(":")
        value = getattr(importlib.import_module(module), function)(*words)
    except UnposedError as error:
        problem = str(error)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    print(json.dumps([value, problem]), file=channel, flush=True)
"""


@dataclass(frozen=True)
class Answer:
    """What a question gave, plain enough for JSON, or why it has no answer."""

    value: Any
    problem: str | None = None
    """One line; None if there is an answer."""
    ended: bool = False
    """Whether the process ended or hung meanwhile."""


def answers(questions: Sequence[tuple[str, ...]]) -> list[Answer]:
    """Answers to questions (`module:function`, followed by its arguments), in their order."""
    found: list[Answer] = []
    while len(found) < len(questions):
        more = list(_answered(questions[len(found) :]))
        found += more or [Answer(None, "no process could be started", True)] * (len(questions) - len(found))
    return found


def _answered(questions: Sequence[tuple[str, ...]]) -> Iterator[Answer]:
    """Answers, one after the other, up to a question that ends the process or hangs."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(questions)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_forward, args=(process, lines), daemon=True).start()
    waiting = False  # whether a question has begun and not ended
    try:
        while True:
            try:
                line = lines.get(timeout=PATIENCE_S)
            except queue.Empty:
                if waiting:
                    yield Answer(None, f"it has not ended after {PATIENCE_S:.0f} s", True)
                return
            if line is None:
                code = process.wait()
                if waiting:
                    yield Answer(None, f"it ends the process ({_ending(code)})", True)
                return
            waiting = not waiting
            if not waiting:
                yield Answer(*json.loads(line))
    finally:
        process.kill()
        process.wait()


def _forward(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout as stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
