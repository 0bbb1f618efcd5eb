"""Visual words: train a codebook on a sample of a collection's descriptors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Array32

from .known_counts import content_number

Load = Callable[[int], NDArray[np.generic]]
"""Descriptors (n, d) of a photo; n may be 0."""


def sample_rows(load: Load, photos: Sequence[int], count: int, seed: int) -> NDArray[np.generic]:
    """Sample at most `count` descriptors, from each photo in proportion to its number; photos are loaded one at a time.

    Rows that are not finite are left out. ValueError if none is left.
    """
    rng = np.random.default_rng(seed)
    share = -(-count // max(1, len(photos)))
    chosen = photos if share > 1 else sorted(rng.choice(photos, count, replace=False).tolist())
    parts = []
    for photo in chosen:
        rows = load(photo)
        kept = rng.permutation(len(rows))[
            :share
        ]  # drawn for every photo, so that results do not depend on which have too many
        parts.append(rows[np.sort(kept)])
    filled = [part for part in parts if len(part)]
    if not filled:
        raise ValueError("no photo has a descriptor to learn visual words from")
    return np.concatenate(filled)[:count]


def photos_of_least_content(load: Load, photos: Sequence[int], count: int) -> list[int]:
    """At most `count` photos, those whose descriptors have the least content numbers, ascending.

    A sample at random that depends on what the photos show alone, not on their order or number: of n photos, one that
    is added belongs to it with a probability of count / (n + 1), and otherwise it stays as it was.
    """
    if len(photos) <= count:
        return list(photos)
    number = np.array([content_number(load(photo)) for photo in photos])
    return sorted(np.asarray(photos)[np.argsort(number, kind="stable")[:count]].tolist())


def train_codebook(
    rows: NDArray[np.generic], words: int, *, iterations: int, seed: int, device: str = "cpu"
) -> Array32:
    """Train centroids (words, d) by k-means on rows (n, d); fewer centroids where there are fewer distinct rows."""
    import faiss  # here: a collection of a few photos is ranked without it

    points = np.ascontiguousarray(rows, np.float32)
    if len(points) <= words:
        return np.unique(points, axis=0)
    clustering = faiss.Kmeans(
        points.shape[1],
        words,
        niter=iterations,
        seed=seed + 1,  # faiss replaces a seed of zero
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
        gpu=device != "cpu" and faiss.get_num_gpus() > 0,
    )
    clustering.train(points)
    return np.asarray(clustering.centroids, np.float32)
