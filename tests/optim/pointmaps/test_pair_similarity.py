"""Similarities of many pairs at once: exact ones, outliers, and too few matches."""

import numpy as np

from unposed.optim.pointmaps.pair_similarity import estimate_pair_similarities, umeyama
from unposed.optim.rotations import exp_so3
from unposed.optim.similarity import fit_similarity


def made(pairs: int, matches: int, outliers: float, noise: float = 0.0, seed: int = 0) -> tuple:
    rng = np.random.default_rng(seed)
    x = rng.uniform((-1, -1, 3), (1, 1, 5), (pairs, matches, 3))
    rotation, scale = exp_so3(rng.uniform(-0.4, 0.4, (pairs, 3))), np.exp(0.5 * rng.standard_normal(pairs))
    translation = 0.5 * rng.standard_normal((pairs, 3))
    y = scale[:, None, None] * (x @ rotation.transpose(0, 2, 1)) + translation[:, None]
    y *= np.exp(noise * rng.standard_normal((pairs, matches, 1)))
    lost = rng.random((pairs, matches)) < outliers
    y[lost] = rng.uniform((-4, -4, 2), (4, 4, 10), (int(lost.sum()), 3))
    return x, y, scale, rotation, translation


def test_many_sets_as_each_alone() -> None:
    rng = np.random.default_rng(0)
    x, y, *_ = made(5, 12, 0.0, 0.1)
    weight = rng.random((5, 12))
    scale, rotation, translation = umeyama(x, y, weight)
    for row in range(5):
        alone = fit_similarity(x[row], y[row], weight[row])
        np.testing.assert_allclose(scale[row], alone.scale)
        np.testing.assert_allclose(rotation[row], alone.rotation, atol=1e-12)
        np.testing.assert_allclose(translation[row], alone.translation, atol=1e-12)


def test_a_good_part_of_the_matches_wrong() -> None:
    x, y, scale, rotation, translation = made(40, 60, 0.35)
    found = estimate_pair_similarities(x, y, np.ones((40, 60)))
    np.testing.assert_allclose(found.scale, scale, rtol=0.05)
    np.testing.assert_allclose(found.rotation, rotation, atol=0.02)
    np.testing.assert_allclose(found.translation, translation, atol=0.15)
    assert (found.support > 15).all()


def test_padding_says_nothing_and_three_matches_are_needed() -> None:
    x, y, scale, _, _ = made(2, 20, 0.0)
    weight = np.ones((2, 20))
    weight[0, 2:] = 0.0
    weight[1, 10:] = 0.0
    x[1, 10:] = y[1, 10:] = 0.0
    found = estimate_pair_similarities(x, y, weight)
    assert found.support[0] == 0.0
    assert abs(found.scale[1] / scale[1] - 1.0) < 1e-9
    assert np.isfinite(found.rotation).all()


def test_no_pairs_at_all() -> None:
    found = estimate_pair_similarities(np.zeros((0, 5, 3)), np.zeros((0, 5, 3)), np.zeros((0, 5)))
    assert len(found.scale) == len(found.support) == 0


def test_a_pair_does_not_depend_on_the_others() -> None:
    x, y, *_ = made(8, 30, 0.2, 0.03)
    together, alone = (
        estimate_pair_similarities(x, y, np.ones((8, 30))),
        estimate_pair_similarities(x[3:4], y[3:4], np.ones((1, 30))),
    )
    np.testing.assert_array_equal(together.rotation[3], alone.rotation[0])
