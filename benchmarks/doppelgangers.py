"""Places that look alike, the front and back of a building for instance: with doubts about pairs, and without.

    python benchmarks/doppelgangers.py [SCENE:PHOTOS:WIDTH:SEED ...]

Photos are rendered; the AUC@5 is that of `classic`, against the cameras they were rendered with: without doubts, with
doubts that do not look at the order of the names, as if these were shuffled, and as it is. CPU seconds are those of the
nodes `doubts` and `verification`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from unposed.evaluation import evaluate
from unposed.reconstruction import Reconstruction
from unposed.runs import reconstruct
from unposed.synthetic.look_alikes import LOOK_ALIKES
from unposed.synthetic.photos import PhotoSet, write_set
from unposed.synthetic.scenes import SCENES

ALIKE = {**LOOK_ALIKES, **{name: SCENES[name] for name in ("repeated_facade", "symmetric_hall")}}
"""Scenes of places that look alike."""

CASES = (
    "repeated_facade:40:640:0",
    "repeated_facade:36:960:0",
    "repeated_facade:24:1280:0",
    *(f"repeated_facade:24:640:{seed}" for seed in range(4)),
    *(f"symmetric_hall:36:640:{seed}" for seed in range(8)),
    "equal_sides:28:420:0",
    "equal_houses:30:420:0",
    "lockers:32:420:0",
)


def main() -> None:
    """Print the table row by row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="SCENE:PHOTOS:WIDTH:SEED", default=CASES)
    headings = ("scene", "seed", "photos", "pixels", "without", "names shuffled", "with", "pairs doubted", "trusted")
    print(f"| {' | '.join((*headings, 'CPU s, doubts', 'verification'))} |")
    print("| --- " * (len(headings) + 2) + "|")
    for case in parser.parse_args().cases:
        name, photos, width, seed = case.split(":")
        with tempfile.TemporaryDirectory(prefix="unposed-benchmark-") as folder:
            album = write_set(ALIKE[name](photos=int(photos), width=int(width), seed=int(seed)), Path(folder))
            print(_row(name, seed, photos, album, Path(folder)), flush=True)


def _row(name: str, seed: str, photos: str, album: PhotoSet, folder: Path) -> str:
    made, with_doubts = _judged(album, folder / "with", ())
    _, shuffled = _judged(album, folder / "shuffled", ("doubts.min_walk_sigmas=1e6",))
    _, without = _judged(album, folder / "without", ("doubts=null",))
    lens = album.scene.shots[0].lens
    doubts, verification = (made.summary["stages"][node]["cpu_s"] for node in ("doubts", "verification"))
    cells = [name, seed, photos, f"{lens.width} x {lens.height}"]
    cells += [f"{100 * auc:.1f}" for auc in (without, shuffled, with_doubts)]
    verdict = made.summary["models"][0]["refinement"]["verdict"] if made.summary["models"] else {"trusted": False}
    cells += [str(len(made.summary["doubts"])), "yes" if verdict["trusted"] else "no"]
    cells += [f"{doubts:.1f}", f"{verification:.1f}"]
    return f"| {' | '.join(cells)} |"


def _judged(album: PhotoSet, out: Path, settings: tuple[str, ...]) -> tuple[Reconstruction, float]:
    """The reconstruction and its AUC@5; all but the first take what comes before doubts from the cache of the first."""
    made = reconstruct(album.images, out, preset="classic", settings=settings, cache=out.parent / "cache")
    return made, evaluate(out, album.truth).errors.auc[5] or 0.0


if __name__ == "__main__":
    main()
