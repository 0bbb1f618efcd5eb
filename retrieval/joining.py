"""Which further pairs may join what verification has left apart. Pairs are (n, 2) photo indices, smaller first."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Mask
from unposed.optim.mapping.spanning_forest import ranks
from unposed.optim.rigs import Rigs, frames_of

from .scene_graph import components_and_bridges, untried_candidates


@dataclass(frozen=True, eq=False)
class Parts:
    """How well verified pairs hold a collection together."""

    of_photo: NDArray[np.int64]
    """(photos,) part of each photo. Photos of one part remain connected whichever pair is left out (2-edge-connected
    components); a photo with fewer than two verified pairs is a part of its own."""
    components: int
    """Connected components of more than one photo."""
    lonely: int
    """Photos without a verified pair."""
    bridges: int
    """Pairs without which their component falls apart."""

    @property
    def apart(self) -> Mask:
        """(photos,) photos that are not in the largest part."""
        return np.asarray(self.of_photo != np.bincount(self.of_photo, minlength=1).argmax())


def weakly_joined_parts(photos: int, verified: NDArray[np.integer], rigs: Rigs | None = None) -> Parts:
    """Divide a collection where a single verified pair, or none, holds it together. Photos that a rig fixes to each
    other are never apart: they count as one."""
    if rigs is not None:
        frame = np.unique(rigs.tied, return_inverse=True)[1]
        across = frame[verified]
        parts = weakly_joined_parts(int(frame.max()) + 1, np.sort(across[across[:, 0] != across[:, 1]], axis=1))
        return replace(parts, of_photo=parts.of_photo[frame])
    graph = components_and_bridges(photos, verified)
    bridges = np.array([bridge[:2] for bridge in graph.bridges], np.int64).reshape(-1, 2)
    key, bridge_key = (pairs[:, 0].astype(np.int64) * photos + pairs[:, 1] for pairs in (verified, bridges))
    kept = verified[~np.isin(key, bridge_key)]
    from scipy.sparse import coo_array  # here: see optim.mapping.spanning_forest
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(kept)), (kept[:, 0], kept[:, 1])), shape=(photos, photos))
    part = connected_components(links, directed=False)[1].astype(np.int64)
    lonely = photos - sum(len(component) for component in graph.components)
    return Parts(part, len(graph.components), lonely, len(bridges))


def pairs_of_weak_photos(
    photos: int,
    pairs: NDArray[np.integer],
    similarity: NDArray[np.floating],
    matches: NDArray[np.integer],
    *,
    min_matches: int,
    partners: float,
    rigs: Rigs | None = None,
) -> tuple[Mask, NDArray[np.int64]]:
    """(photos,) photos whose second best pair has fewer than `min_matches` verified matches, and the rows of their
    pairs, up to `partners` of each: those of most matches first, then the most similar ones.

    `matches` (e,) were verified on the `pairs` (e, 2). Of two photos one pair is enough. What ties one photo of a frame
    of a rig ties all of it.
    """
    alike = similarity / (1.0 + np.max(similarity, initial=0.0))  # below one match
    place = ranks(pairs, matches + alike)
    frame = frames_of(rigs, photos)
    good = np.bincount(frame[pairs.T[(place < 2) & (matches >= min_matches)]], minlength=int(frame.max(initial=-1)) + 1)
    tied = good[frame] >= min(2, photos - 1)
    chosen = (place < partners) & ~tied[pairs.T]
    return ~tied, np.flatnonzero(chosen.any(axis=0))


def joining_pairs(
    parts: Parts,
    ranked: NDArray[np.integer],
    similarity: NDArray[np.floating],
    tried: NDArray[np.integer],
    matches: NDArray[np.integer],
    *,
    per_photo: float,
    total: float,
) -> NDArray[np.int32]:
    """Choose untried pairs (n, 2), sorted, between weakly joined parts, after `matches` (e,) were verified on the
    `tried` ones.

    Every photo apart from the largest part gets up to `per_photo` candidates, those with a common verified partner
    first, then the most similar ones. First candidates of all photos precede second ones of any, within `total` pairs.
    """
    apart = parts.apart
    if not apart.any():
        return np.zeros((0, 2), np.int32)
    candidates, score = untried_candidates(len(apart), ranked, similarity, tried, matches, of=apart)
    across = parts.of_photo[candidates[:, 0]] != parts.of_photo[candidates[:, 1]]
    candidates, score = candidates[across], score[across]
    place = np.where(apart[candidates.T], ranks(candidates, score), np.inf).min(axis=0, initial=np.inf)
    wanted = np.flatnonzero(place < per_photo)
    best = wanted[np.lexsort((-score[wanted], place[wanted]))[: int(min(total, len(wanted)))]]
    return np.asarray(candidates[np.sort(best)], np.int32)
