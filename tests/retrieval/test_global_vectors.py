"""One vector per photo."""

import numpy as np
import pytest

from unposed.retrieval.global_vectors import nearest_vectors, power_mean, vlad
from unposed.retrieval.words import codebook_of


@pytest.mark.parametrize("power", [1.0, 3.0, 60.0])
def test_power_mean(power):
    rows = np.random.default_rng(0).uniform(0.1, 1.0, (50, 8))
    mean = (rows**power).mean(axis=0) ** (1.0 / power)
    np.testing.assert_allclose(power_mean(rows, power), mean / np.linalg.norm(mean), rtol=1e-4)


def test_the_plain_mean_keeps_signs():
    np.testing.assert_allclose(power_mean(np.array([[-3.0, 4.0]]), 1.0), [-0.6, 0.8])


def test_vlad_by_definition():
    rng = np.random.default_rng(0)
    centroids, rows = rng.normal(size=(3, 5)), rng.normal(size=(40, 5))
    word = ((rows[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
    parts = [(rows[word == w] - centroids[w]).sum(axis=0) for w in range(3)]
    expected = np.concatenate([part / np.linalg.norm(part) for part in parts]) / np.sqrt(3)
    np.testing.assert_allclose(vlad(codebook_of(centroids), rows), expected, atol=1e-5)


def test_no_descriptors_give_no_direction():
    assert not power_mean(np.empty((0, 4), np.uint8), 3.0).any()
    assert not vlad(codebook_of(np.eye(4)), np.empty((0, 4))).any()


def test_nearest_vectors():
    angle = np.radians([0.0, 10.0, 25.0, 180.0, 185.0])
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    pairs, similarity = nearest_vectors(np.array([1, 3, 4, 8, 9]), vectors, partners=1)
    assert pairs.tolist() == [[1, 3], [3, 4], [8, 9]]
    np.testing.assert_allclose(similarity, np.cos(np.radians([10.0, 15.0, 5.0])), rtol=1e-5)


def test_copies_of_one_photo_are_partners_of_each_other_and_not_of_themselves():
    pairs, similarity = nearest_vectors(np.arange(6), np.tile(np.float32([0.6, 0.8]), (6, 1)), partners=2)
    assert set(pairs.ravel()) == set(range(6))
    assert (pairs[:, 0] < pairs[:, 1]).all()
    np.testing.assert_allclose(similarity, 1.0, rtol=1e-6)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few(count):
    pairs, similarity = nearest_vectors(np.arange(count), np.ones((count, 2), np.float32), 5)
    assert pairs.shape == (0, 2)
    assert similarity.shape == (0,)
