"""What must hold after a power cut: programs that write, and what is wrong with what they may leave."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from power_cuts import power_cuts, recorded

from unposed.output import settled
from unposed.pipeline.store.store import Store

STORE = """
import sys
from pathlib import Path
import numpy as np
from unposed.pipeline.store import store
store.FILE_BYTES, store.LOG_PAGES = 20_000, 12  # values in files, and the log folded in, as in long runs
opened = store.Store(Path(sys.argv[1]) / "cache")
for turn in range(2):
    for number in range(12):
        opened.put(f"{number:064x}", np.arange(400 * number), stage="a")
    opened.put_failure(f"{99:064x}", "it is blank", stage="a")
    if turn == 0:
        opened.prune(keep_bytes=40_000)
        opened.close()
        opened = store.Store(Path(sys.argv[1]) / "cache")
opened.close()
"""

PUBLISH = """
import json, sys
from pathlib import Path
from unposed import output
out = Path(sys.argv[1]) / "out"
for turn in ("old", "new"):
    with output.locked_folder(out) as new:
        (new / "sparse" / "0").mkdir(parents=True)
        (new / "sparse" / "0" / "points.bin").write_bytes(turn.encode() * 3000)
        (new / "cameras.txt").write_text(turn * 50)
        (new / "summary.json").write_text(json.dumps({"turn": turn}))
        output.publish(new, out)
    print(turn, "is published", flush=True)
"""


def caches(folder: Path, count: int, seed: int, program: str = STORE) -> Iterator[tuple[int, str | None]]:
    """Of every power cut how many of twelve values were kept, and what is wrong: every value is the one that was
    written or none, the file is never given up, and the cache goes on being one."""
    calls = recorded(program, folder / "root")
    for moment, place in power_cuts(calls, folder / "root", folder / "cut", count, seed):
        said: list[str] = []
        kept = 0
        problem = None
        with Store(place / "cache", said.append) as store:
            for number in range(12):
                value = store.get(f"{number:064x}", np.ndarray)
                kept += value is not None
                if value is not None and not np.array_equal(value, np.arange(400 * number)):
                    problem = f"after {moment} calls value {number} is another"
            store.put("f" * 64, np.arange(5), stage="a")
        if any("moved to" in line for line in said):
            problem = f"after {moment} calls: {said}"
        yield kept, problem


def results(folder: Path, count: int, seed: int, program: str = PUBLISH) -> Iterator[tuple[str, str | None]]:
    """Of every power cut which result is there, and what is wrong: it is whole, and there is one from the moment on
    at which the first was published."""
    calls = recorded(program, folder / "root")
    published = [place for place, call in enumerate(calls) if getattr(call, "to", "").endswith("/.ready")]
    for moment, place in power_cuts(calls, folder / "root", folder / "cut", count, seed):
        out = settled(place / "out")
        if not (out / "summary.json").exists():
            # The rename is followed by the sync that makes it last.
            yield "none", f"after {moment} calls no result is left" if moment > published[0] + 1 else None
            continue
        try:
            turn = json.loads((out / "summary.json").read_text("utf-8"))["turn"]
            whole = (out / "sparse/0/points.bin").read_bytes() == turn.encode() * 3000
            whole = whole and (out / "cameras.txt").read_text("utf-8") == turn * 50
        except (OSError, ValueError) as error:
            yield "torn", f"after {moment} calls: {error}"
            continue
        yield turn, None if whole else f"after {moment} calls {turn} is not whole"


def tally(found: Iterator[tuple[object, str | None]]) -> tuple[Counter[object], list[str]]:
    """How often what was found, and everything that is wrong."""
    pairs = list(found)
    return Counter(kind for kind, _ in pairs), [problem for _, problem in pairs if problem]
