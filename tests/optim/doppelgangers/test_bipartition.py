"""A ring of photos with one half turned wrongly, and the bipartitions that an inconsistent cluster suggests."""

from __future__ import annotations

import numpy as np
import pytest

from unposed.optim.doppelgangers.bipartition import consistent_under_bipartitions
from unposed.optim.doppelgangers.edges import RelativeRotations
from unposed.optim.doppelgangers.options import DoppelgangerOptions
from unposed.optim.rotations import exp_so3

OPTIONS = DoppelgangerOptions()
TURN_Y = np.array([0.0, 1.0, 0.0])


def folded_ring(photos: int, turn_deg: float, seed: int) -> tuple[RelativeRotations, np.ndarray, np.ndarray]:
    """Pairs of neighbours around a ring, and false ones that lay one half of it on the other; rotations that agree
    with the false ones; and which pairs are true."""
    rng = np.random.default_rng(seed)
    heading = np.linspace(0.0, 360.0, photos, endpoint=False)
    half = photos // 2
    true = [(i, (i + k) % photos) for i in range(photos) for k in (1, 2)]
    false = [(i, half + j) for i in range(half) for j in range(half) if abs(i - j) < 2]
    pairs = np.array([sorted(pair) for pair in true + false])
    is_true = np.arange(len(pairs)) < len(true)
    cam_from_world = exp_so3(np.radians(heading)[:, None] * TURN_Y)
    a, b = pairs.T
    double = exp_so3(np.radians(turn_deg) * TURN_Y[None])[0]
    between = np.where(is_true[:, None, None], np.eye(3), double)
    b_from_a = cam_from_world[b] @ between @ cam_from_world[a].transpose(0, 2, 1)
    b_from_a = exp_so3(rng.normal(0.0, 0.01, (len(pairs), 3))) @ b_from_a
    folded = np.where((np.arange(photos) < half)[:, None, None], cam_from_world, cam_from_world @ double)
    matches = np.where(is_true, 150.0, 100.0) * rng.uniform(0.7, 1.4, len(pairs))
    nothing = np.zeros(len(pairs))
    completeness = np.full(len(pairs), 0.5)
    return (
        RelativeRotations(
            photos, pairs, b_from_a, matches, matches / 500.0, nothing > 0, nothing, completeness, nothing > 0
        ),
        folded,
        is_true,
    )


@pytest.mark.parametrize("turn_deg", [180.0, 90.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_halves_of_a_folded_ring_are_found(turn_deg: float, seed: int) -> None:
    edges, folded, true = folded_ring(20, turn_deg, seed)
    a, b = edges.pairs.T
    crossing = np.flatnonzero(true & ((a < 10) != (b < 10)))
    ways = list(consistent_under_bipartitions(edges, folded, crossing.tolist(), OPTIONS))
    assert any((way == true).all() for way in ways)


def test_a_cluster_that_joins_all_photos_divides_them_by_itself() -> None:
    edges, folded, true = folded_ring(4, 180.0, 0)
    every = np.flatnonzero(true & (edges.pairs[:, 1] - edges.pairs[:, 0] == 2))
    for way in consistent_under_bipartitions(edges, folded, every.tolist(), OPTIONS):
        assert way.shape == true.shape
