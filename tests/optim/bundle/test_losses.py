"""Losses: their derivatives, their limits and their names; test_ceres.py compares their costs with Ceres."""

from typing import get_args

import numpy as np
import pytest

from unposed.optim.bundle.losses import CAUCHY, HUBER, SQUARED, Loss, LossName, barron, loss_by_name

S = np.array([1e-6, 0.1, 0.7, 1.5, 9.0, 1e4])
ALL = [CAUCHY, HUBER, SQUARED, *map(barron, (1.0, 0.5, 0.0, -2.0, -10.0))]


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.name)
def test_slopes_and_curvatures_are_derivatives(loss: Loss) -> None:
    h = 1e-4 * S
    weight, curvature = loss.weight_and_curvature(S, np)
    np.testing.assert_allclose(weight, (loss.rho(S + h, np) - loss.rho(S - h, np)) / (2 * h), rtol=1e-6, atol=1e-9)
    bend = (loss.weight_and_curvature(S + h, np)[0] - loss.weight_and_curvature(S - h, np)[0]) / (2 * h)
    np.testing.assert_allclose(curvature, 1.0 + 2.0 * S * bend / weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.name)
def test_small_errors_count_squared(loss: Loss) -> None:
    np.testing.assert_allclose(loss.rho(np.array([0.0, 1e-7]), np), [0.0, 1e-7], rtol=1e-6)


def test_members_of_the_general_loss() -> None:
    np.testing.assert_allclose(barron(1.0).rho(S, np), 2.0 * (np.sqrt(1.0 + S) - 1.0), rtol=1e-9)
    np.testing.assert_allclose(barron(-2.0).rho(S, np), S / (1.0 + S / 4.0), rtol=1e-9)
    np.testing.assert_allclose(barron(1e-9).rho(S, np), barron(0.0).rho(S, np), rtol=1e-6)
    np.testing.assert_allclose(barron(0.0).rho(2.0 * S, np), 2.0 * CAUCHY.rho(S, np))
    with pytest.raises(ValueError, match="less than 2, got 2"):
        barron(2.0)


def test_losses_are_found_by_name() -> None:
    assert [loss_by_name(name).name for name in get_args(LossName)] == ["cauchy", "huber", "barron -2", "squared"]
    assert loss_by_name("cauchy") is CAUCHY and loss_by_name("squared", barron_shape=1.0) is SQUARED
    assert loss_by_name("barron", barron_shape=0.5).name == "barron 0.5"
