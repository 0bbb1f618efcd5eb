"""Views load when asked and not before; the small memory behind them keeps to its size."""

from __future__ import annotations

import pytest

from unposed.pipeline.lazy_results import PairView, PhotoView
from unposed.pipeline.stage import PerPair, PerPhoto
from unposed.pipeline.store.recent import Recent


def test_a_view_is_a_mapping_that_loads_on_demand() -> None:
    loaded: list[int] = []

    def load(key: int) -> str:
        loaded.append(key)
        return f"value {key}"

    view = PhotoView([5, 3], load)
    assert isinstance(view, PerPhoto) and list(view) == [5, 3] and len(view) == 2
    assert 3 in view and 4 not in view and loaded == []
    assert view[3] == "value 3" and view.get(4) is None and loaded == [3]
    assert list(view.values()) == ["value 5", "value 3"]
    with pytest.raises(KeyError):
        view[4]


def test_a_pair_view_has_pairs() -> None:
    view = PairView([(0, 1)], lambda pair: sum(pair))
    assert isinstance(view, PerPair) and view[0, 1] == 1 and (1, 0) not in view


def test_recent_forgets_what_was_used_longest_ago() -> None:
    recent = Recent(100)
    for name in "abc":
        recent.put(name, name.upper(), 40)
        recent.get("a")
    assert [recent.get(name) for name in "abc"] == ["A", None, "C"]
    recent.put("large", "L", 1000)
    assert [recent.get(name) for name in ("a", "c", "large")] == [None, None, "L"]
    recent.put("large", "smaller", 10)
    recent.put("d", "D", 90)
    assert recent.get("large") == "smaller" and recent.get("d") == "D"
