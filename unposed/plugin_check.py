"""Import every plugin in a process of its own: what ends or hangs there is named, and hides no other."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

from unposed.pipeline.registry import PluginInfo

PATIENCE_S = 60.0
"""How long one import may take."""

CHILD = """
import json, os, sys
channel = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever prints, in Python or not, does not disturb the channel
from unposed.pipeline.errors import UnposedError
from unposed.pipeline.registry import Registry
registry = Registry()
for slot, name in json.loads(sys.argv[1]):
    print(json.dumps(["begin", slot, name]), file=channel, flush=True)
    try:
        registry.find(slot, name)
        problem = None
    except UnposedError as error:
        problem = str(error)
    print(json.dumps(["end", problem]), file=channel, flush=True)
"""


def check_plugins(plugins: Sequence[PluginInfo]) -> dict[str, str | None]:
    """The problem of each plugin, by `slot.name`, or None."""
    found: dict[str, str | None] = {f"{each.slot}.{each.name}": each.problem for each in plugins}
    waiting = [each for each in plugins if each.problem is None]
    while waiting:
        done = 0
        for problem in _imported(waiting):
            each = waiting[done]
            found[f"{each.slot}.{each.name}"] = problem
            done += 1
        if done == 0:  # the process does not even begin
            return found | {f"{each.slot}.{each.name}": "no process could be started to import it" for each in waiting}
        waiting = waiting[done:]
    return found


def _imported(plugins: Sequence[PluginInfo]) -> Iterator[str | None]:
    """Problems of plugins, one after the other, up to one that ends the process or hangs."""
    names = json.dumps([[each.slot, each.name] for each in plugins])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, names],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_forward, args=(process, lines), daemon=True).start()
    begun = ended = 0
    try:
        while True:
            try:
                line = lines.get(timeout=PATIENCE_S)
            except queue.Empty:
                if begun > ended:
                    yield f"{_blame(plugins[begun - 1])} cannot be loaded: it has not ended after {PATIENCE_S:.0f} s"
                return
            if line is None:
                code = process.wait()
                if begun > ended:
                    yield f"{_blame(plugins[begun - 1])} cannot be loaded: it ends the process ({_ending(code)})"
                return
            said = json.loads(line)
            if said[0] == "begin":
                begun += 1
            else:
                ended += 1
                yield said[1]
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


def _blame(plugin: PluginInfo) -> str:
    return f"plugin {plugin.slot}.{plugin.name} of {plugin.distribution}"
