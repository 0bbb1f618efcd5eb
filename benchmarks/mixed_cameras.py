"""Rendered photos of one size by one camera, a few, or one for each: what is found when nothing is said, as a table.

    python benchmarks/mixed_cameras.py [--folder DIR]

Rings around the courtyard. A camera for each photo is what most of them need, and what ruins those of one long lens.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rendered import in_folder

import unposed
from unposed.synthetic.photos import write_set
from unposed.synthetic.scenes import Scene, turntable
from unposed.synthetic.wide_scenes import internet_photos, long_lenses, ring_of_lenses


def main() -> None:
    """Print the table row by row."""
    in_folder(__doc__, measure)


def measure(folder: Path) -> None:
    """Render the scenes that are not there, and print a row for each run."""
    print("| photos | told | registered | cameras | AUC@1 / 5 | CPU s |\n|---|---|---|---|---|---|")
    for number, (words, scene) in enumerate(scenes().items()):
        place = folder / str(number)
        if not (place / "gt.json").exists():
            write_set(scene, place)
        row(words, "nothing", place, {})
        row("", "a camera each", place, {"cameras.grouping": "image"})


def scenes() -> Mapping[str, Scene]:
    """Scenes by what a reader should know of them."""
    sides = np.exp(np.random.default_rng(2).uniform(np.log(2.0), np.log(8.0), 40))
    zoomed = np.random.default_rng(1).random(24) < 0.35
    return {
        "70, each by a lens of its own of 1.9 to 3.6 sides": long_lenses(),
        "40, each by a lens of its own of 2 to 8 sides, from further off the longer it is": ring_of_lenses(
            np.degrees(2.0 * np.arctan(0.5 / sides)).tolist(), (2.3 * sides).tolist()
        ),
        "24, three cameras in turn (62, 45 and 30 degrees)": ring_of_lenses((62.0, 45.0, 30.0) * 8),
        "24, a zoom at two focal lengths (55 and 32 degrees)": ring_of_lenses(np.where(zoomed, 32.0, 55.0).tolist()),
        "24, a zoom at as many focal lengths (30 to 65 degrees)": ring_of_lenses(
            np.random.default_rng(3).uniform(30.0, 65.0, 24).tolist()
        ),
        "24, one camera (58 degrees)": ring_of_lenses((58.0,) * 24),
        "24, one long lens (20 degrees)": ring_of_lenses((20.0,) * 24),
        "10, strangers: size, zoom, distortion and exposure differ": internet_photos(),
        "20, the rendered turntable (18 degrees)": turntable(),
    }


def row(words: str, told: str, place: Path, settings: Mapping[str, str]) -> None:
    """Reconstruct, judge, and print."""
    with TemporaryDirectory() as scratch:
        before, out = time.process_time(), Path(scratch) / "out"
        cache = Path(scratch) / "cache"
        made = unposed.reconstruct(
            place / "images", out, preset="classic", cache=cache, device="cpu", settings=dict(settings)
        )
        cpu_s = time.process_time() - before
        errors = unposed.evaluate(out, place / "gt.json").errors
    auc = [100.0 * (errors.auc[limit] or 0.0) for limit in (1, 5)]
    cameras = len(made.models[0].cameras) if made.models else 0
    count = f"{errors.registered} of {errors.photos}"
    print(f"| {words} | {told} | {count} | {cameras} | {auc[0]:.1f} / {auc[1]:.1f} | {cpu_s:.0f} |", flush=True)


if __name__ == "__main__":
    main()
