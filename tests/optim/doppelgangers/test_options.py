"""Every option is documented and checked, reaches the result, and is an option of the plugin."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from unposed.optim.doppelgangers.duplicates import is_duplicate
from unposed.optim.doppelgangers.options import DoppelgangerOptions
from unposed.pipeline.config import build, schema
from unposed.pipeline.errors import ConfigError
from unposed.plugins.doubts.doppelgangers import Doppelgangers


def test_every_option_is_one_of_the_plugin_and_documented() -> None:
    documented = {option.name: option.doc for option in schema(Doppelgangers)}
    own = {"min_part_photos"}  # of its warnings
    of_groups = {name for name in documented if name.startswith(("layout.", "group_trust."))}
    assert documented.keys() - of_groups == {field.name for field in fields(DoppelgangerOptions)} | own
    assert [name for name, doc in documented.items() if not doc] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_missing_score", 1.5),
        ("trial_focals", [0.7, 0.0]),
        ("max_trials", -1),
        ("lost_neighbour_tolerance", 1.0),
        ("missing_ratio_full", 0.05),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^doubts: {name}: expected "):
        build(Doppelgangers, {name: value}, "doubts")


def test_an_option_of_the_plugin_reaches_the_function() -> None:
    xy, size = np.random.default_rng(0).uniform(0, (800, 600), (60, 2)), (800, 600)
    options = build(Doppelgangers, {"max_duplicate_shift_px": 5.0}, "doubts")
    assert not is_duplicate(xy, xy + 3.0, size, size, replace(options, max_duplicate_shift_px=1.0))
    assert is_duplicate(xy, xy + 3.0, size, size, options)
