"""The match kernel beside the PyPI package `asmk`, and how the cost of a photo grows with their number.

    python benchmarks/retrieval.py [--peer FOLDER] [--cases tokens,many-words,sift] [--scale 1000,10000,100000]
                                   [--rounds N] [--json FILE]

The cases compare everything with everything on the same made-up descriptors and the same words, one thread each, in
processes of their own, ours and the peer's in turn; times are CPU seconds without loading libraries, best of the
rounds. FOLDER is where `asmk` is, if it is not installed (pip install --target FOLDER --no-deps asmk).

The scale has photos that share their surroundings with those before and after them. Their descriptors are made anew
whenever they are asked for, so that the memory is that of the retrieval; the time to make them is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Case:
    """Descriptors and words to compare on."""

    photos: int
    descriptors: int
    dims: int
    words: int
    bytes_: bool = False
    """Whether descriptors are bytes, as SIFT's are."""


CASES = {
    "tokens": Case(1000, 300, 1024, 4096),
    "many-words": Case(200, 300, 1024, 20000),
    "sift": Case(500, 1000, 128, 4096, bytes_=True),
}
ASSIGNED = 5
SCALE_DESCRIPTORS, SCALE_DIMS, SCALE_LATENT, SCALE_WORDS = 64, 64, 16, 32768
SCALE_RAM = 4 << 30


def main() -> None:
    """Run what is asked for, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, default=Path())
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--scale", default="1000,10000,100000")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        what, which = args.run
        run = {"ours": ours, "peer": lambda name: peers(name, args.peer), "scale": lambda name: scale(int(name))}[what]
        print(json.dumps(run(which)))
        return

    results: dict[str, Any] = {}
    if args.cases:
        print(
            "| case | photos x descriptors x dims, words | peer, s | ours, s | ratio | largest difference of a score |"
        )
        print("|---|---|---|---|---|---|")
    for name in filter(None, args.cases.split(",")):
        results[name] = compared(name, args.peer, args.rounds)
    if args.scale:
        print("\n| photos | CPU per photo, ms | of 1000 photos | peak memory, MB | recall@20 |")
        print("|---|---|---|---|---|")
    first = None
    for name in filter(None, args.scale.split(",")):
        row = results[name] = separately("scale", name, args.peer)
        first = first or row["ms"]
        print(
            f"| {name} | {row['ms']:.1f} | {row['ms'] / first:.2f} | {row['peak_mb']:.0f} | {row['recall']:.3f} |",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


def compared(name: str, peer: Path, rounds: int) -> dict[str, Any]:
    """Both on one case, in turn."""
    runs = {
        who: [separately(who, name, peer) for _ in range(rounds)] if who == "ours" else [] for who in ("ours", "peer")
    }
    runs["peer"] = [separately("peer", name, peer) for _ in range(rounds)]
    best = {who: min(own, key=lambda run: sum(run["seconds"].values())) for who, own in runs.items()}
    total = {who: sum(run["seconds"].values()) for who, run in best.items()}
    tables = [np.load(best[who]["scores"]) for who in ("ours", "peer")]
    difference = np.abs(tables[0] - tables[1])
    case = CASES[name]
    seconds = {
        who: " + ".join(f"{value:.1f}" for value in run["seconds"].values()) + f" = {total[who]:.1f}"
        for who, run in best.items()
    }
    print(
        f"| {name} | {case.photos} x {case.descriptors} x {case.dims}, {case.words} | {seconds['peer']} | "
        f"{seconds['ours']} | {total['peer'] / total['ours']:.1f} | {difference.max():.1e} "
        f"({(difference > 1e-6).mean():.2%} above 1e-6) |",
        flush=True,
    )
    return {"seconds": seconds, "ratio": total["peer"] / total["ours"], "difference": float(difference.max())}


def separately(what: str, which: str, peer: Path) -> dict[str, Any]:
    """The answer of a process of its own, with one thread."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--run", what, which, "--peer", str(peer)]
    answer = subprocess.run(command, env=os.environ | one, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def descriptors_of(case: Case) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """All descriptors, photo after photo, the photo of each, and the words. Neighbours share three quarters."""
    rng = np.random.default_rng(0)
    step = case.descriptors // 4
    world = rng.normal(size=(case.photos * step + case.descriptors, case.dims)).astype(np.float32)
    words = rng.normal(size=(case.words, case.dims)).astype(np.float32)
    seen = (np.arange(case.photos)[:, None] * step + np.arange(case.descriptors)).ravel()
    rows = world[seen]
    for part in np.array_split(rows, max(1, len(rows) // 10000)):
        part += 0.5 * rng.normal(size=part.shape).astype(np.float32)
    if case.bytes_:
        np.clip(np.rint(45.0 + 30.0 * rows), 0, 255, out=rows)
        words = np.clip(45.0 + 30.0 * words, 0, 255)
    return rows, np.repeat(np.arange(case.photos), case.descriptors), words


def ours(name: str) -> dict[str, Any]:
    """Everything against everything."""
    from unposed.retrieval.asmk import Kernel, Signatures, aggregate
    from unposed.retrieval.inverted import index_of, scores
    from unposed.retrieval.search import PHOTOS_AT_ONCE
    from unposed.retrieval.words import codebook_of, nearest_words

    case = CASES[name]
    rows, photo, centroids = descriptors_of(case)
    codebook_of(centroids)  # loads what it needs
    seconds, clock = {}, time.process_time()
    codebook = codebook_of(centroids)
    database, queries = [], []
    for start in range(0, case.photos, PHOTOS_AT_ONCE):
        part = slice(start * case.descriptors, (start + PHOTOS_AT_ONCE) * case.descriptors)
        words = nearest_words(codebook, rows[part], ASSIGNED)
        database.append(aggregate(codebook, rows[part], photo[part], words[:, :1], binary=True))
        queries.append(aggregate(codebook, rows[part], photo[part], words, binary=True))
    both = [Signatures(*map(np.concatenate, zip(*parts, strict=True))) for parts in (database, queries)]
    with tempfile.TemporaryDirectory() as folder:
        index = index_of(
            both[0], case.photos, case.words, case.dims, Kernel(), limit_bytes=1 << 33, folder=Path(folder)
        )
        seconds["build"], clock = time.process_time() - clock, time.process_time()
        table = scores(index, both[1], case.photos)
    seconds["query"] = time.process_time() - clock
    return {"seconds": seconds, "scores": _kept(table, f"ours-{name}")}


def peers(name: str, folder: Path) -> dict[str, Any]:
    """The same by the package `asmk`."""
    sys.path.insert(0, str(folder))
    from asmk import codebook, index  # type: ignore[import-not-found]
    from asmk.asmk_method import ASMKMethod  # type: ignore[import-not-found]

    case = CASES[name]
    rows, photo, centroids = descriptors_of(case)
    learnt = codebook.Codebook(index.initialize_index(None), size=case.words)
    learnt.index(centroids)
    database = {"kernel": {"binary": True}, "ivf": {"use_idf": False}, "quantize": {"multiple_assignment": 1}}
    query = {"quantize": {"multiple_assignment": ASSIGNED}, "search": {"topk": None}}
    parameters = {
        "build_ivf": database | {"aggregate": {}},
        "query_ivf": query | {"aggregate": {}, "similarity": {"similarity_threshold": 0.0, "alpha": 3.0}},
    }
    method = ASMKMethod(parameters, {}, codebook=learnt)
    clock = time.process_time()
    method = method.build_ivf(rows, photo.copy())
    built = time.process_time()
    _, _, ranks, scores = method.query_ivf(rows, photo.copy())
    seconds = {"build": built - clock, "query": time.process_time() - built}
    table = np.zeros((case.photos, case.photos))
    table[np.arange(case.photos)[:, None], ranks] = scores
    return {"seconds": seconds, "scores": _kept(table, f"peer-{name}")}


def scale(photos: int) -> dict[str, Any]:
    """A walk of so many photos."""
    import resource

    from unposed.retrieval.search import SearchOptions, best_partners_by_words
    from unposed.retrieval.words import codebook_of

    rng = np.random.default_rng(1)
    spread = rng.normal(size=(SCALE_LATENT, SCALE_DIMS)).astype(np.float32)
    words = rng.normal(size=(SCALE_WORDS, SCALE_LATENT)).astype(np.float32) @ spread
    making = 0.0

    def load(photo: int) -> NDArray[np.generic]:
        """Half of what is around photo k: places k to k + 19, ten points at each; seen in slightly other ways."""
        nonlocal making
        clock = time.thread_time()
        around = [
            np.random.default_rng((2, place)).standard_normal((10, SCALE_LATENT)) for place in range(photo, photo + 20)
        ]
        own = np.random.default_rng((3, photo))
        seen = own.permutation(np.concatenate(around))[:SCALE_DESCRIPTORS]
        rows = (seen + 0.5 * own.standard_normal(seen.shape)).astype(np.float32) @ spread
        making += time.thread_time() - clock
        return rows

    codebook_of(words)  # loads what it needs
    clock = time.process_time()
    pairs, similarity = best_partners_by_words(
        load, range(photos), codebook_of(words), SearchOptions(assigned=ASSIGNED, partners=20), limit_bytes=SCALE_RAM
    )
    seconds = time.process_time() - clock - making
    del similarity
    near = np.abs(pairs[:, 0] - pairs[:, 1]) <= 5
    expected = sum(photos - offset for offset in range(1, 6))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"ms": 1e3 * seconds / photos, "recall": int(near.sum()) / expected, "peak_mb": peak_mb}


def _kept(table: NDArray[np.float64], name: str) -> str:
    file = Path(tempfile.gettempdir()) / f"unposed-benchmark-{name}.npy"
    np.save(file, table)
    return str(file)


if __name__ == "__main__":
    main()
