"""A few photos added to hundreds of a rendered walk, and localized among them, beside doing it anew.

    python benchmarks/grow_many.py [--photos 310] [--added 10] [--work DIR]

Prints CPU seconds and AUC at 5 degrees of the grown model and of one made anew; and CPU seconds of the Python
localizer: until it is ready, of its first answer, and of each other one, features included. Features, matches and so on
of the photos that were there come from a cache, those of the others from none.
"""

from __future__ import annotations

import argparse
import shutil
import time
from itertools import pairwise
from pathlib import Path

import clips

import unposed
from unposed.synthetic.photos import write_set


def main() -> None:
    """Render, reconstruct, add and localize; what is there of an earlier run is taken, but for what is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=310)
    parser.add_argument("--added", type=int, default=10)
    parser.add_argument("--work", type=Path, default=Path("grow-work"), metavar="DIR")
    args = parser.parse_args()
    if not 1 <= args.added <= args.photos // 2:
        parser.error(f"--added is from 1 to half of --photos, got {args.added} of {args.photos}")
    photos = args.work / f"walk-{args.photos}"
    if not (photos / "gt.json").exists():
        write_set(clips.walk(args.photos), photos)
    files, step = sorted((photos / "images").iterdir()), args.photos // args.added
    left = files[step // 2 :: step][: args.added]
    kept = [file for file in files if file not in left]
    for name, own in (("anew", files), ("kept", kept)):
        if not (photos / name / "summary.json").exists():
            unposed.reconstruct(own, photos / name, cache=photos / f"{name}-cache", device="cpu", preset="classic")
    for name in ("grown", "grown-cache"):
        shutil.rmtree(photos / name, ignore_errors=True)
        shutil.copytree(photos / name.replace("grown", "kept"), photos / name)
    before_s = time.process_time()
    unposed.add(photos / "grown", left, cache=photos / "grown-cache", device="cpu")
    print(f"{args.added} added to {len(kept)}: {time.process_time() - before_s:.1f} CPU s, ", end="")
    grown_s, anew_s = (unposed.load(photos / name).summary["cpu_s"] for name in ("grown", "anew"))
    print(f"{grown_s:.1f} of these before report and files, {anew_s:.1f} anew ({100 * grown_s / anew_s:.1f} %)")
    for name in ("grown", "anew"):
        made = unposed.load(photos / name)
        area = unposed.evaluate(photos / name, photos / "gt.json").errors.auc[5]
        print(f"{name}: {made.summary['registered']} of {len(files)}, AUC@5 {100 * (area or 0.0):.1f}")
    _localize(photos, left)


def _localize(photos: Path, left: list[Path]) -> None:
    model = unposed.load(photos / "kept")
    laps = [time.process_time()]
    localizer = model.localizer(cache=photos / "kept-cache", device="cpu")
    laps.append(time.process_time())
    found = 0
    for file in left:
        found += localizer(file).pose is not None
        laps.append(time.process_time())
    ready_s, first_s, *others_s = (after - before for before, after in pairwise(laps))
    print(
        f"{found} of {len(left)} localized: {ready_s:.2f} CPU s until ready, {first_s:.2f} for the first, "
        f"{sum(others_s) / max(len(others_s), 1):.2f} for each other one"
    )


if __name__ == "__main__":
    main()
