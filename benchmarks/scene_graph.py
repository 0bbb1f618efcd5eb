"""What a scene graph loses against matching every pair, and what it saves.

    python benchmarks/scene_graph.py DATA_DIR [--sets A,B] [--preset classic] [--cache DIR]

For every set (a folder of DATA_DIR with `images/` and gt.json or ref_colmap.json) all pairs are matched and verified
once. Against that each way to choose pairs is told: pairs per photo; the share of photos that keep their best partner,
of those that have one with 30 verified matches; into how many parts its verified pairs fall, beside those of all
pairs; and the AUC@5 of the reconstruction.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from unposed.evaluation import evaluate
from unposed.retrieval.scene_graph import components_and_bridges
from unposed.runs import reconstruct
from unposed.view_graph.pair_table import PairTable
from unposed.view_graph.pairs import pairs

ENOUGH = 30
"""Verified matches of a pair that should not be missed."""

EXPANDED = """\
extends: {preset}
seed_graph: {{use: graph.knn, neighbours: 4, all_below: 0}}
seed_matching: {{like: matching, from: {{graph: seed_graph}}}}
seed_verification: {{like: verification, from: {{graph: seed_graph, matching: seed_matching}}}}
graph: {{use: expand}}
"""

WAYS: Mapping[str, tuple[str, ...]] = {
    "every pair": ("graph.use=exhaustive", "retrieval=null"),
    "the preset's": (),
    "knn 12": ("graph.use=knn", "graph.neighbours=12", "graph.all_below=0"),
    "knn 6": ("graph.use=knn", "graph.neighbours=6", "graph.all_below=0"),
    "knn 4, expanded": (),
    "key frames": ("graph.use=key-frames",),
}
"""Name to settings; the expanded one is a preset of its own."""


def main() -> None:
    """Run what is missing, print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", type=lambda text: text.split(","))
    parser.add_argument("--preset", default="classic")
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="unposed-benchmark-") as folder:
        own = Path(folder) / "expanded.yaml"
        own.write_text(EXPANDED.format(preset=args.preset))
        for name, images, truth in sets_in(args.data, args.sets):
            rows = []
            everything: PairTable | None = None
            for way, settings in WAYS.items():
                preset = own if way.endswith("expanded") else args.preset
                cache = args.cache or Path(folder) / "cache"
                found = pairs(images, preset=preset, settings=settings, cache=cache)
                everything = everything or found
                reconstruct(images, Path(folder) / "out", preset=preset, settings=settings, cache=cache)
                auc = evaluate(Path(folder) / "out", truth).errors.auc[5]
                rows.append([way, *figures(found, everything), f"{100 * auc:.1f}"])
                print(name, *rows[-1], file=sys.stderr)
            head = ["", "pairs per photo", "best partner kept", "parts", "AUC@5"]
            print(f"\n### {name}, {len(found.photos)} photos\n\n{markdown(head, rows)}", flush=True)


def figures(found: PairTable, everything: PairTable) -> list[str]:
    """Pairs per photo, share of photos with their best partner, parts."""
    names = {photo.name: index for index, photo in enumerate(found.photos.photos)}
    chosen = {pair.photos for pair in found.pairs if pair.chosen}
    best: dict[str, tuple[int, tuple[str, str]]] = {}
    for pair in everything.pairs:
        for photo in pair.photos:
            best[photo] = max(best.get(photo, (ENOUGH - 1, ("", ""))), (pair.verified, pair.photos))
    kept = [pair in chosen for verified, pair in best.values() if verified >= ENOUGH]
    verified = [[names[name] for name in pair.photos] for pair in found.pairs if pair.kind != "none"]
    parts = components_and_bridges(len(names), np.array(verified, np.int64).reshape(-1, 2)).components
    lonely = len(names) - sum(map(len, parts))
    return [
        f"{len(chosen) / max(len(names), 1):.1f}",
        f"{100 * float(np.mean(kept)):.0f} %" if kept else "-",
        f"{len(parts)}" + (f" and {lonely} alone" if lonely else ""),
    ]


def sets_in(data: Path, wanted: Sequence[str] | None) -> Iterator[tuple[str, Path, Path]]:
    """Name, photos and poses of each set."""
    for folder in sorted(data.iterdir()):
        truth = next((folder / file for file in ("gt.json", "ref_colmap.json") if (folder / file).is_file()), None)
        if (folder / "images").is_dir() and truth and (not wanted or folder.name in wanted):
            yield folder.name, folder / "images", truth


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


if __name__ == "__main__":
    main()
