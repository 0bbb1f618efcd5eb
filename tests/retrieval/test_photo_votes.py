"""Votes of key points: the photo that shows the same is first, whatever the blocks are."""

from __future__ import annotations

import numpy as np
import pytest

from unposed.optim.pair.matching import unit_rows
from unposed.retrieval import photo_votes as module
from unposed.retrieval.photo_votes import photo_votes, vote_table


@pytest.mark.parametrize("block", [1, 70, 1 << 14])
def test_photos_that_share_key_points_come_first(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", block)
    rng = np.random.default_rng(0)
    photos = [unit_rows(rng.normal(size=(count, 64))) for count in (50, 0, 40, 60, 50)]
    query = unit_rows(np.concatenate([photos[3][:20], photos[2][:5]]) + 0.02 * rng.normal(size=(25, 64)))
    votes = photo_votes(vote_table(photos), query, background=0.5)
    assert votes.shape == (5,)
    assert np.argsort(-votes)[:2].tolist() == [3, 2]
    assert votes[1] == 0.0  # nothing to compare with


def test_a_photo_without_key_points_has_no_votes() -> None:
    table = vote_table([unit_rows(np.eye(4)), unit_rows(np.eye(4))])
    assert photo_votes(table, np.zeros((0, 4), np.float32), background=0.5).tolist() == [0.0, 0.0]


def test_the_axes_lose_little_of_what_all_dimensions_say() -> None:
    """Descriptors whose dimensions vary as unevenly as those of SIFT, against distances in all of these."""
    rng = np.random.default_rng(1)
    spread = 0.93 ** np.arange(128)
    places = [rng.normal(size=(60, 128)) * spread for _ in range(12)]
    photos = [unit_rows(place + 0.15 * spread * rng.normal(size=place.shape)) for place in places for _ in range(4)]
    query = unit_rows(places[5] + 0.15 * spread * rng.normal(size=places[5].shape))
    votes = photo_votes(vote_table(photos), query, background=0.5)
    exact = votes_in_all_dimensions(photos, query)
    assert sorted(np.argsort(-votes)[:4]) == [20, 21, 22, 23]
    assert votes[20:24] == pytest.approx(exact[20:24], rel=0.15)


def votes_in_all_dimensions(photos: list[np.ndarray], query: np.ndarray) -> np.ndarray:
    off = [np.linalg.norm(query[:, None] - photo[None], axis=2).min(axis=1) for photo in photos]
    usual = np.median(off, axis=0)
    return np.array([(np.maximum(0.0, 1.0 - each / usual) ** 2).sum() for each in off])
