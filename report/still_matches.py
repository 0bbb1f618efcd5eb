"""Key points that stand still, by the verified matches of a run: see optim.pair.still_keypoints."""

from __future__ import annotations

import numpy as np

from unposed.optim.arrays import Index, Mask
from unposed.optim.pair.still_keypoints import OTHERS, PLACED_SIDE_PX
from unposed.optim.view_graph import ViewGraph

NEAR_PX = 1.0
"""Distance within which two key points are at the same place, in images with a side of PLACED_SIDE_PX. Detectors repeat
to a third of that where nothing moves."""


def still_matches(graph: ViewGraph) -> tuple[Index, Index]:
    """Of each photo (n,) the key points that are matched at the same pixels of OTHERS photos or more, and all that are
    matched. Photos of different sizes are not compared."""
    points = graph.keypoints
    times_still, times = (np.zeros(len(points.xy), np.int64) for _ in range(2))
    for edge, (a, b) in enumerate(graph.pairs.tolist()):
        rows = graph.match_rows(edge)
        row_a, row_b = graph.row_a[rows], graph.row_b[rows]
        times[row_a] += 1
        times[row_b] += 1
        if (points.size[a] == points.size[b]).all():
            near_px = NEAR_PX * max(1.0, float(points.size[a].max()) / PLACED_SIDE_PX)
            still = np.linalg.norm(points.xy[row_a] - points.xy[row_b], axis=1) <= near_px
            times_still[row_a[still]] += 1
            times_still[row_b[still]] += 1

    def by_photo(chosen: Mask) -> Index:
        return np.diff(np.concatenate([[0], np.cumsum(chosen)])[points.start])

    return by_photo(times_still >= OTHERS), by_photo(times > 0)
