"""Where a benchmark of rendered photos keeps them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory


def in_folder(description: str | None, measure: Callable[[Path], None]) -> None:
    """Call `measure` with the folder that the command line names, where photos stay for the next time, or with a
    temporary one."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where photos and results go; a temporary one if not given")
    folder = parser.parse_args().folder
    if folder is not None:
        measure(folder)
        return
    with TemporaryDirectory() as scratch:
        measure(Path(scratch))
