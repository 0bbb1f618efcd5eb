"""Our presets and their peers side by side on sets of photos with known poses.

    python benchmarks/photos.py DATA_DIR [--sets A,B] [--presets classic,fast] [--peers stock,tuned|none]
                                [--rounds N] [--seed N] [--json FILE] [--reuse FILE]

A set is a folder of DATA_DIR with `images/` and gt.json, or ref_colmap.json where nobody measured poses: figures
against the latter tell agreement, not accuracy. Every run has a process of its own and starts without a cache; round r
runs with seed + r. The tables give medians over the rounds; CPU time is that of the process and its children.
`--reuse` takes the peers' runs from the JSON of an earlier benchmark and measures only what is missing there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from measure import Run, judged, last_line, measured, stages_of
from peers import PEERS
from table import report

DEFAULT_PEERS = ("stock", "stock-shared", "stock-global", "tuned-shared")
LIBRARIES = ("unposed", "numpy", "opencv-python-headless", "poselib", "pycolmap")


@dataclass(frozen=True)
class PhotoSet:
    """A folder of photos and what is known of their poses."""

    name: str
    photos: Path
    truth: Path
    one_camera: bool
    """Whether the truth gives all photos the same intrinsics."""


def main() -> None:
    """Run what is missing, print the tables."""
    args = _arguments()
    sets = list(_sets(args.data, args.sets))
    if not sets:
        sys.exit(f"{args.data}: no set with images/ and gt.json or ref_colmap.json")
    done = {run.key: run for run in _read(args.reuse) if run.runner in PEERS} if args.reuse else {}
    several = [photo_set.name for photo_set in sets if not photo_set.one_camera]
    standing = {(name, asked): peer.otherwise for name in several for asked, peer in PEERS.items() if peer.otherwise}
    runs: dict[tuple[str, str, int, int], Run] = {}
    for number in range(args.rounds):
        for photo_set in sets:
            # Runners take turns within a set, so that a busy or hot machine is unfair to none of them.
            for asked in (*args.presets, *args.peers):
                runner = standing.get((photo_set.name, asked), asked)
                key = (photo_set.name, runner, number, args.seed + number)
                if key in runs:
                    continue
                runs[key] = done.get(key) or _run(photo_set, runner, number, args.seed + number)
                _say(runs[key], reused=key in done)
                if args.json:
                    _write(args.json, list(runs.values()))
    names = [photo_set.name for photo_set in sets]
    print(report(list(runs.values()), names, [*args.presets, *args.peers], standing))
    print("\n" + "\n".join(f"- {name}: {PEERS[name].about}" for name in args.peers))


def _run(photo_set: PhotoSet, runner: str, number: int, seed: int) -> Run:
    with tempfile.TemporaryDirectory(prefix="unposed-benchmark-") as folder:
        out, log = Path(folder) / "out", Path(folder) / "log"
        if runner in PEERS:
            script = Path(__file__).with_name("peers.py")
            command = [sys.executable, str(script), runner, str(photo_set.photos), str(out), "--seed", str(seed)]
        else:
            command = [sys.executable, "-m", "unposed", "reconstruct", str(photo_set.photos), "-o", str(out)]
            command += ["--preset", runner, "--seed", str(seed), "--cache", str(Path(folder) / "cache"), "--quiet"]
        cost = measured(command, log)
        figures = judged(out, photo_set.truth)
        relative = figures.get("ate_rmse_rel")
        return Run(
            set=photo_set.name,
            runner=runner,
            round=number,
            seed=seed,
            registered=figures["registered"],
            total=figures["total"],
            auc=figures["AUC"],
            ate_mm=figures.get("ate_rmse_mm"),
            ate_percent=None if relative is None else 100 * relative,
            focal_error=figures.get("focal_rel_error_median"),
            cpu_s=cost.cpu_s,
            wall_s=cost.wall_s,
            peak_mb=cost.peak_mb,
            stages=stages_of(out),
            problem=last_line(log) if cost.exit_code else figures.get("problem", ""),
        )


def _sets(data: Path, wanted: Sequence[str] | None) -> Iterator[PhotoSet]:
    for folder in sorted(data.iterdir()):
        truth = next((folder / name for name in ("gt.json", "ref_colmap.json") if (folder / name).is_file()), None)
        if truth is None or not (folder / "images").is_dir() or (wanted and folder.name not in wanted):
            continue
        intrinsics = {
            json.dumps(entry.get("K")) for entry in json.loads(truth.read_text(encoding="utf-8"))["images"].values()
        }
        yield PhotoSet(folder.name, folder / "images", truth, len(intrinsics) == 1)


def _read(file: Path) -> list[Run]:
    return [Run(**run) for run in json.loads(file.read_text(encoding="utf-8"))["runs"]]


def _write(file: Path, runs: Sequence[Run]) -> None:
    machine = {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}
    about = {**machine, "python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    content = {"when": time.strftime("%Y-%m-%d"), "about": about, "runs": [asdict(run) for run in runs]}
    file.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _say(run: Run, reused: bool) -> None:
    what = "reused" if reused else f"{run.wall_s:.0f} s"
    print(f"{run.set}: {run.runner}, round {run.round}: {run.registered}/{run.total} ({what})", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("--sets", type=_names)
    parser.add_argument("--presets", type=_names, default=("classic",))
    parser.add_argument("--peers", type=_names, default=DEFAULT_PEERS, help="of " + ", ".join(PEERS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep all figures, written after every run")
    parser.add_argument("--reuse", type=Path, metavar="FILE", help="take the peers' runs from there")
    args = parser.parse_args()
    unknown = set(args.peers) - set(PEERS)
    if unknown:
        parser.error(f"no such peer: {', '.join(sorted(unknown))} (there are {', '.join(PEERS)})")
    return args


def _names(text: str) -> tuple[str, ...]:
    """Comma-separated; `none` is the empty list."""
    return () if text == "none" else tuple(name for name in text.split(",") if name)


if __name__ == "__main__":
    main()
