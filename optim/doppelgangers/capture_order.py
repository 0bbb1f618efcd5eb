"""Pairs of photos that were taken one after the other, where the order of capture tells who is whose neighbour."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Index, Mask
from .options import DoppelgangerOptions


def walked_pairs(photos: int, pairs: Index, matches: Array, order: Index, options: DoppelgangerOptions) -> Mask:
    """(e,) pairs of photos that follow each other in `order` (photos,); none where the order says nothing.

    The strength of a pair is its matches over the best of either photo, whichever is less, and 0 for photos that do not
    match. Let m be the mean and s the standard deviation over all pairs of photos. Shuffled, the n - 1 pairs of
    neighbours in the order have a mean strength of about m, with standard deviation s / sqrt(n - 1). A camera that was
    carried along has nearly the strongest pairs there.
    """
    none = np.zeros(len(pairs), bool)
    steps, possible = photos - 1, photos * (photos - 1) / 2
    if steps < 2 or not len(pairs):
        return none
    best = np.zeros(photos)
    np.maximum.at(best, pairs.ravel(), np.repeat(matches, 2))
    strength = matches / np.maximum(best[pairs].min(axis=1), 1e-9)
    strength = np.minimum(strength, 1.0)
    place = np.empty(photos, np.int64)
    place[order] = np.arange(photos)
    walked: Mask = np.abs(np.diff(place[pairs], axis=1)[:, 0]) == 1
    mean = float(strength.sum()) / possible
    sigma = float(np.sqrt(max((strength**2).sum() / possible - mean**2, 1e-12) / steps))
    along = float(strength[walked].sum()) / steps
    tells = along >= options.min_walk_strength and along - mean >= options.min_walk_sigmas * sigma
    return walked if tells else none
