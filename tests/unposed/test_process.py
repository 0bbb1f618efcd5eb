"""What the command line does to its own process."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

SCRIPT = """
from unposed.process import configure_process
configure_process()
import numpy, threadpoolctl
print(max(each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"))
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="with one core there is nothing to leave alone")
@pytest.mark.parametrize(("said", "threads"), [({}, 1), ({"OPENBLAS_NUM_THREADS": "2"}, 2)], ids=["unsaid", "said"])
def test_products_have_no_idle_threads_unless_the_user_wants_them(said: dict[str, str], threads: int) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=plain | said, capture_output=True, text=True, check=True)
    assert int(done.stdout) == threads


def test_python_looks_for_unused_objects_less_often_unless_the_user_has_said_how_often() -> None:
    begin, end = "import gc, unposed.process", "unposed.process.configure_process()\nprint(gc.get_threshold()[0])"
    for said, objects in (("0", 10_000), ("gc.set_threshold(50_000)", 50_000), ("gc.disable()", gc.get_threshold()[0])):
        done = subprocess.run(
            [sys.executable, "-c", f"{begin}\n{said}\n{end}"], capture_output=True, text=True, check=True
        )
        assert int(done.stdout) == objects
