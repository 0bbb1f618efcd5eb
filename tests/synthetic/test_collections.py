"""Emulated collections: matches are those of one scene, up to the noise and the outliers that were asked for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unposed.synthetic.collections import LAYOUTS, EmulatedCollection, EmulationOptions, emulate_collection


def epipolar_errors_px(made: EmulatedCollection) -> np.ndarray:
    """Distance of every match's point in photo b from the epipolar line of its point in photo a."""
    a, b = (np.column_stack([made.xy[rows], np.ones(len(rows))]) for rows in (made.row_a, made.row_b))
    line = np.einsum("mij,mj->mi", made.fundamental[np.repeat(np.arange(len(made.pairs)), made.match_count)], a)
    return np.abs(np.einsum("mi,mi->m", b, line)) / np.linalg.norm(line[:, :2], axis=1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_matches_fit_the_true_geometry(layout: str) -> None:
    made = emulate_collection(layout, 60, options=EmulationOptions(noise_px=0.0, outlier_ratio=0.0))
    assert epipolar_errors_px(made).max() < 1e-6
    rotation = made.cam_from_world[:, :, :3]
    np.testing.assert_allclose(
        rotation @ rotation.transpose(0, 2, 1), np.broadcast_to(np.eye(3), rotation.shape), atol=1e-12
    )
    assert (np.linalg.det(rotation) > 0).all()


def test_noise_and_outliers_are_as_asked() -> None:
    made = emulate_collection("aerial", 60, options=EmulationOptions(noise_px=0.5, outlier_ratio=0.1))
    errors = epipolar_errors_px(made)
    assert 0.09 < (errors > 4.0).mean() < 0.105  # some outliers lie near their line
    # The error across the line is that of both points: between one and sqrt(2) times the noise.
    assert 0.5 < np.sqrt(np.mean(errors[errors < 2.5] ** 2)) < 0.75


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_belong_to_the_photos_of_their_pair(layout: str) -> None:
    made = emulate_collection(layout, 40, options=EmulationOptions(unmatched=100))
    photo_of = np.repeat(np.arange(40), np.diff(made.start))
    pair = np.repeat(made.pairs, made.match_count, axis=0)
    assert (photo_of[made.row_a] == pair[:, 0]).all() and (photo_of[made.row_b] == pair[:, 1]).all()
    assert (made.pairs[:, 0] < made.pairs[:, 1]).all() and len(np.unique(made.pairs, axis=0)) == len(made.pairs)
    assert (made.xy >= -5).all() and (made.xy <= made.size[0] + 5).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_photos_are_connected(layout: str) -> None:
    made = emulate_collection(layout, 150)
    graph = coo_array((np.ones(len(made.pairs)), made.pairs.T), shape=(150, 150))
    assert connected_components(graph, directed=False)[0] == 1


def test_the_walk_around_the_block_closes() -> None:
    made = emulate_collection("streets", 150)
    assert ((made.pairs[:, 1] - made.pairs[:, 0]) > 140).any()


def test_a_seed_gives_the_same_collection() -> None:
    one, two = (emulate_collection("hemisphere", 30, seed=5) for _ in range(2))
    assert one.xy.tobytes() == two.xy.tobytes() and one.row_b.tobytes() == two.row_b.tobytes()
