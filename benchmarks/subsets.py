"""Some photos of a set with known poses, as benchmarks/photos.py reads them: what all make easy is hard with some.

    python benchmarks/subsets.py SET OUT PICK [PICK ...]
    python benchmarks/photos.py OUT --presets classic --peers stock-shared

A PICK of photos in order of their names is `every-K-FIRST`, `window-COUNT-FIRST` or `random-COUNT-SEED`. Each becomes
OUT/SET-PICK with links to the photos and its part of gt.json, or of ref_colmap.json.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

TRUTHS = ("gt.json", "ref_colmap.json")


def main() -> None:
    """Write one subset for each pick."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("picks", nargs="+", metavar="PICK")
    args = parser.parse_args()
    for pick in args.picks:
        print(write_subset(args.set, args.out / f"{args.set.name}-{pick}", pick))


def write_subset(photo_set: Path, out: Path, pick: str) -> Path:
    """Write the photos of a pick, as links, and what is known of them."""
    photos = picked(sorted((photo_set / "images").iterdir()), pick)
    (out / "images").mkdir(parents=True)
    for photo in photos:
        (out / "images" / photo.name).symlink_to(photo.resolve())
    truth = next(photo_set / name for name in TRUTHS if (photo_set / name).is_file())
    known = json.loads(truth.read_text(encoding="utf-8"))
    names = {photo.name for photo in photos}
    known["images"] = {name: entry for name, entry in known["images"].items() if name in names}
    (out / truth.name).write_text(json.dumps(known), encoding="utf-8")
    return out


def picked(photos: Sequence[Path], pick: str) -> list[Path]:
    """The photos of a pick."""
    kind, *numbers = pick.split("-")
    if kind not in ("every", "window", "random") or len(numbers) != 2 or not all(each.isdigit() for each in numbers):
        raise SystemExit(f"{pick} is no pick: every-K-FIRST, window-COUNT-FIRST or random-COUNT-SEED")
    count, which = map(int, numbers)
    if kind == "every":
        return list(photos[which :: max(count, 1)])
    if kind == "window":
        return list(photos[which : which + count])
    return sorted(random.Random(which).sample(list(photos), min(count, len(photos))))


if __name__ == "__main__":
    main()
