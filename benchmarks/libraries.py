"""Pieces of ours beside the library that could take their place: medians of CPU seconds, one thread.

    python benchmarks/libraries.py [--rounds N] [--parts vectors,words,signatures,distances,graphs]

The results of both are the same unless the last column says otherwise.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import faiss
import networkx
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from unposed.optim.mapping.spanning_forest import path, rooted
from unposed.retrieval.asmk import CodeSimilarity, Kernel
from unposed.retrieval.scene_graph import (
    bridge_augmentation,
    components_and_bridges,
    nearest_pairs,
    spanning_forest,
    to_networkx,
)
from unposed.retrieval.words import _by_bytes, _by_faiss, _distances, codebook_of, nearest_words

CALLS = 100
"""Of pieces that take too little time to be measured once."""


class Row(NamedTuple):
    """One line of the table."""

    piece: str
    size: str
    library: str
    ours_s: float
    library_s: float
    same: str


def main() -> None:
    """Run the parts asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", default=",".join(PARTS))
    args = parser.parse_args()
    with threadpool_limits(1):
        table(args.parts.split(","), args.rounds)


def table(parts: list[str], rounds: int) -> None:
    """Print the rows of these parts."""
    faiss.omp_set_num_threads(1)
    print("| piece | size | library | ours, s | library, s | library / ours | same result |")
    print("|---|---|---|---|---|---|---|")
    for name in parts:
        for row in PARTS[name](rounds):
            ratio = row.library_s / max(row.ours_s, 1e-9)
            print(
                f"| {row.piece} | {row.size} | {row.library} | {row.ours_s:.4f} | {row.library_s:.4f} | {ratio:.2f} | "
                f"{row.same} |",
                flush=True,
            )


def timed(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Median CPU seconds and the result."""
    seconds, result = [], None
    for _ in range(rounds):
        clock = time.process_time()
        result = work()
        seconds.append(time.process_time() - clock)
    return statistics.median(seconds), result


def repeated(work: Callable[..., Any], *args: Any) -> Any:
    """The last result of CALLS calls."""
    for _ in range(CALLS):
        result = work(*args)
    return result


def share(ours: NDArray[Any], theirs: NDArray[Any]) -> str:
    """How many entries are equal."""
    return f"{100.0 * float((ours == theirs).mean()):.3f} %"


def vectors(rounds: int) -> Iterator[Row]:
    """Nearest global descriptors: a blocked product and argpartition against IndexFlatIP, which took its place."""
    rng = np.random.default_rng(0)
    for count, dims in ((1000, 128), (1000, 2048), (10_000, 128), (10_000, 512)):
        rows = rng.normal(size=(count, dims)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)

        def by_product(rows: NDArray[np.float32] = rows) -> NDArray[np.int64]:
            parts = []
            for start in range(0, len(rows), 1600):
                cosine = rows[start : start + 1600] @ rows.T
                best = np.argpartition(-cosine, 101, axis=1)[:, :101]
                order = np.argsort(-np.take_along_axis(cosine, best, axis=1), axis=1)
                parts.append(np.take_along_axis(best, order, axis=1))
            return np.concatenate(parts)

        def by_index(rows: NDArray[np.float32] = rows) -> NDArray[np.int64]:
            index = faiss.IndexFlatIP(rows.shape[1])
            index.add(rows)
            return np.asarray(index.search(rows, 101)[1])

        ours_s, ours = timed(by_product, rounds)
        theirs_s, theirs = timed(by_index, rounds)
        yield Row(
            "nearest vectors (was ours)", f"{count} x {dims}", "IndexFlatIP", ours_s, theirs_s, share(ours, theirs)
        )


def words(rounds: int) -> Iterator[Row]:
    """Five nearest words of each descriptor: products of bytes, then exact distances, against faiss indexes."""
    rng = np.random.default_rng(0)
    for count, words, dims in ((4800, 4096, 1024), (2000, 20_000, 1024), (16_000, 4096, 128), (20_000, 65_536, 128)):
        rows = rng.normal(size=(count, dims)).astype(np.float32)
        plain = codebook_of(rng.normal(size=(words, dims)).astype(np.float32))
        moved = plain.centroids - plain.centre
        size = f"{count} x {words} x {dims}"
        by_bytes = type(plain)(plain.centroids, plain.centre, _by_bytes(moved))
        by_faiss = type(plain)(plain.centroids, plain.centre, _by_faiss(moved))
        ours_s, ours = timed(lambda book=by_bytes, rows=rows: nearest_words(book, rows, 5), rounds)
        exact_s, exact = timed(lambda book=by_faiss, rows=rows: nearest_words(book, rows, 5), rounds)
        yield Row("nearest words by bytes", size, "IndexFlatL2, checked", ours_s, exact_s, share(ours, exact))
        flat = faiss.IndexFlatL2(dims)
        flat.add(plain.centroids)
        flat_s, found = timed(lambda index=flat, rows=rows: index.search(rows, 5)[1], rounds)
        yield Row("nearest words by bytes", size, "IndexFlatL2", ours_s, flat_s, share(ours, found))
        inverted = faiss.index_factory(dims, f"IVF{int(2 * words**0.5)},Flat")
        inverted.cp.min_points_per_centroid = 1
        inverted.train(plain.centroids)
        inverted.add(plain.centroids)
        inverted.nprobe = 16
        ivf_s, found = timed(lambda index=inverted, rows=rows: index.search(rows, 5)[1], 1)
        yield Row("nearest words by bytes", size, "IndexIVFFlat, 16 probes", ours_s, ivf_s, share(ours, found))


def signatures(rounds: int) -> Iterator[Row]:
    """Similarities of all binary signatures of a word: `faiss.hammings` against the documented calls."""
    rng = np.random.default_rng(0)
    for a, b, width in ((75, 75, 128), (300, 75, 128), (100, 100, 16)):
        left, right = (rng.integers(0, 256, (n, width), dtype=np.uint8) for n in (a, b))
        alike = CodeSimilarity(Kernel(alpha=1.0), 8 * width)

        def by_index(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float64]:
            index = faiss.IndexBinaryFlat(8 * right.shape[1])
            index.add(right)
            distance, order = index.search(left, len(right))
            table = np.empty_like(distance)
            np.put_along_axis(table, order, distance, axis=1)
            return np.maximum(1.0 - table / (4.0 * right.shape[1]), 0.0)

        ours_s, ours = timed(lambda f=alike, a=left, b=right: repeated(f, a, b), rounds)
        theirs_s, theirs = timed(lambda f=by_index, a=left, b=right: repeated(f, a, b), rounds)
        size = f"{CALLS} x ({a} x {b}), {8 * width} bits"
        yield Row("faiss.hammings", size, "IndexBinaryFlat", ours_s, theirs_s, share(ours, theirs))


def distances(rounds: int) -> Iterator[Row]:
    """Distances of rows to their candidates: `faiss.pairwise_indexed_L2sqr` against numpy."""
    rng = np.random.default_rng(0)
    for count, dims in ((2000, 1024), (16_000, 128)):
        rows, centroids = (rng.normal(size=(n, dims)).astype(np.float32) for n in (count, 4096))
        chosen = rng.integers(0, 4096, (count, 16))

        def by_numpy(
            rows: NDArray[np.float32] = rows,
            centroids: NDArray[np.float32] = centroids,
            chosen: NDArray[np.int64] = chosen,
        ) -> NDArray[np.float32]:
            out = np.empty(chosen.shape, np.float32)
            step = max(1, (1 << 17) // (16 * rows.shape[1]))
            for start in range(0, len(rows), step):
                part = slice(start, start + step)
                difference = centroids[chosen[part]] - rows[part, None]
                out[part] = np.einsum("nmd,nmd->nm", difference, difference)
            return out

        ours_s, ours = timed(lambda r=rows, c=centroids, w=chosen: _distances(r, c, w), rounds)
        theirs_s, theirs = timed(by_numpy, rounds)
        error = float(np.abs(theirs / ours - 1.0).max())
        yield Row("pairwise_indexed_L2sqr", f"{count} x 16 x {dims}", "numpy", ours_s, theirs_s, f"within {error:.0e}")


def graphs(rounds: int) -> Iterator[Row]:
    """A ranking with 100 partners a photo: spanning forest, bridge augmentation, traversals."""
    for photos in (100, 1000):
        rng = np.random.default_rng(0)
        first = np.repeat(np.arange(photos), 100)
        step = rng.integers(1, min(200, photos), len(first))
        pairs = np.unique(np.sort(np.stack([first, (first + step) % photos], axis=1), axis=1), axis=0)
        pairs = pairs[pairs[:, 0] < pairs[:, 1]].astype(np.int32)
        gap = np.minimum(np.diff(pairs)[:, 0], photos - np.diff(pairs)[:, 0])
        similarity = (rng.random(len(pairs)) / (1.0 + gap / 10.0)).astype(np.float32)
        size = f"{photos} photos, {len(pairs)} pairs"
        forest_s, forest = timed(lambda p=pairs, s=similarity: spanning_forest(p, s), rounds)
        graph_s, graph = timed(lambda n=photos, p=pairs, s=similarity: to_networkx(n, p, s), rounds)
        tree_s, tree = timed(lambda g=graph: networkx.maximum_spanning_tree(g, weight="similarity"), rounds)
        same = f"{100.0 * float(similarity[forest].sum()) / tree.size(weight='similarity'):.3f} % of the weight"
        yield Row("spanning_forest (csgraph)", size, "networkx", forest_s, graph_s + tree_s, same)
        everything = np.ones(len(pairs), bool)
        ways_s, ways = timed(
            lambda p=pairs, s=similarity, f=forest, e=everything: bridge_augmentation(p, s, f, e), rounds
        )
        if photos <= 100:
            bare = to_networkx(photos, pairs[forest])
            free = ~forest
            price = {
                (a, b): 1.01 - s for (a, b), s in zip(pairs[free].tolist(), similarity[free].tolist(), strict=True)
            }
            augment_s, added = timed(
                lambda g=bare, p=price: list(networkx.k_edge_augmentation(g, 2, avail=p, partial=True)), 1
            )
            yield Row(
                "bridge_augmentation",
                size,
                "k_edge_augmentation",
                ways_s,
                augment_s,
                f"no: {len(added)} for {ways.sum()}",
            )
        kept = nearest_pairs(pairs, similarity, neighbours=12, min_similarity=0.0, all_below=0, per_photo=10.0)
        yield from traversals(photos, pairs[kept], rounds)


def traversals(photos: int, pairs: NDArray[np.int32], rounds: int) -> Iterator[Row]:
    """Components, bridges, a breadth-first forest and paths in it. Those of networkx include making its graph."""
    size = f"{photos} photos, {len(pairs)} pairs"

    def by_networkx() -> tuple[int, set[tuple[int, int]]]:
        graph = to_networkx(photos, pairs)
        components = [part for part in networkx.connected_components(graph) if len(part) > 1]
        return len(components), {(min(pair), max(pair)) for pair in networkx.bridges(graph)}

    ours_s, ours = timed(lambda: components_and_bridges(photos, pairs), rounds)
    theirs_s, theirs = timed(by_networkx, rounds)
    same = (len(ours.components), {(a, b) for a, b, _ in ours.bridges}) == theirs
    yield Row("components_and_bridges", size, "networkx", ours_s, theirs_s, "" if same else "no")

    def forest_by_networkx() -> NDArray[np.int64]:
        graph, depth = to_networkx(photos, pairs), np.zeros(photos, np.int64)
        for part in networkx.connected_components(graph):
            for parent, child in networkx.bfs_edges(graph, min(part)):
                depth[child] = depth[parent] + 1
        return depth

    ours_s, (parent, depth, tree) = timed(lambda: rooted(photos, pairs), rounds)
    theirs_s, depth_of_networkx = timed(forest_by_networkx, rounds)
    same = bool((depth == depth_of_networkx).all())
    yield Row("spanning_forest.rooted (csgraph)", size, "networkx bfs_edges", ours_s, theirs_s, "" if same else "no")
    links = np.array([(photo, above) for photo, above in enumerate(parent.tolist()) if photo != above])
    forest = to_networkx(photos, links)
    ends = [(a, b) for a, b in np.random.default_rng(1).integers(0, photos, (CALLS, 2)).tolist() if tree[a] == tree[b]]
    ours_s, paths = timed(lambda: [path(parent, a, b) for a, b in ends], rounds)
    theirs_s, walks = timed(lambda: [networkx.shortest_path(forest, a, b) for a, b in ends], rounds)
    same = [len(each) for each in paths] == [len(each) - 1 for each in walks]
    yield Row(f"spanning_forest.path, {len(ends)} times", size, "shortest_path", ours_s, theirs_s, "" if same else "no")


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    "vectors": vectors,
    "words": words,
    "signatures": signatures,
    "distances": distances,
    "graphs": graphs,
}

if __name__ == "__main__":
    sys.exit(main())
