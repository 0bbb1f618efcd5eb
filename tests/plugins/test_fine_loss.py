"""The robust loss as an option of the fine stage."""

from types import SimpleNamespace
from typing import Any

import pytest

from unposed.optim.bundle.losses import CAUCHY, HUBER
from unposed.optim.mapping.refinement import RefineOptions
from unposed.pipeline.config import build
from unposed.pipeline.errors import ConfigError
from unposed.plugins.fine.bundle import BundleAdjustment
from unposed.plugins.fine.ceres import CeresBundleAdjustment

SPARSE: Any = SimpleNamespace(dense=False)


def test_the_named_loss_reaches_the_refinement() -> None:
    assert BundleAdjustment().options(SPARSE) == RefineOptions()
    assert BundleAdjustment().options(SPARSE).loss is CAUCHY
    assert BundleAdjustment(loss="huber").options(SPARSE).loss is HUBER
    assert BundleAdjustment(loss="barron", barron_shape=1.0).options(SPARSE).loss.name == "barron 1"


@pytest.mark.parametrize("options", [{"loss": "tukey"}, {"barron_shape": 2.0}])
def test_other_losses_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        build(BundleAdjustment, options, "fine")


def test_ceres_refuses_a_loss_that_it_does_not_have() -> None:
    assert CeresBundleAdjustment(loss="huber").options(SPARSE).loss is HUBER
    with pytest.raises(ConfigError, match="Ceres has no 'barron -2'"):
        build(CeresBundleAdjustment, {"loss": "barron"}, "fine")
