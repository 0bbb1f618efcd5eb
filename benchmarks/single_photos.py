"""What single photos say of their focal length, against photos with known cameras, set by set.

    python benchmarks/single_photos.py DATA_DIR [--sets A,B] [--photos N]

N photos of each set, evenly spread. z is the error over the deviation that the estimate has of itself.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from truth import read_truth

from unposed.pipeline.images.photos import single_photos
from unposed.plugins.calibration.vanishing_points import VanishingPoints


def main() -> None:
    """Print the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", type=lambda text: text.split(","))
    parser.add_argument("--photos", type=int, default=14)
    args = parser.parse_args()
    print("| set | photos that tell | median error of the logarithm, % | largest, % | largest z | CPU s a photo |")
    print("|---|---|---|---|---|---|")
    for folder in sorted(args.data.iterdir()):
        truth = next((folder / name for name in ("gt.json", "ref_colmap.json") if (folder / name).is_file()), None)
        if truth is not None and (not args.sets or folder.name in args.sets):
            row(folder, truth, args.photos)


def row(folder: Path, truth_file: Path, most: int) -> None:
    """Calibrate the photos of one set one by one, and print what comes out."""
    files = sorted(each for each in (folder / "images").rglob("*") if each.is_file())
    truth = read_truth(truth_file, [each.relative_to(folder / "images").as_posix() for each in files])
    known = np.flatnonzero(truth.known)
    chosen = known[np.unique(np.linspace(0, len(known) - 1, min(most, len(known))).astype(int))]
    before, error, z = time.process_time(), [], []
    for index in chosen.tolist():
        found = VanishingPoints()(single_photos(files[index])[0])
        if np.isfinite(found.focal_px):
            error.append(np.log(found.focal_px / truth.intrinsics[index, :2].mean()))
            z.append(error[-1] / found.log_sigma)
    spent = (time.process_time() - before) / max(len(chosen), 1)
    size = 100.0 * np.abs(error)
    figures = f"{np.median(size):.1f} | {size.max():.0f} | {np.abs(z).max():.1f}" if error else " | | "
    print(f"| {folder.name} | {len(error)} of {len(chosen)} | {figures} | {spent:.2f} |", flush=True)


if __name__ == "__main__":
    main()
