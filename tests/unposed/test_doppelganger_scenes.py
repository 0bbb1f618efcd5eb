"""Buildings whose front and back are the same, photographed from all around: the two must not be laid on each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import unposed
from unposed.plugins.doubts.doppelgangers import DIVIDED_REASON
from unposed.synthetic.look_alikes import equal_sides
from unposed.synthetic.photos import PhotoSet, write_set


@pytest.mark.slow
@pytest.mark.parametrize(("scene", "photos", "width"), [("repeated_facade", 24, 512), ("symmetric_hall", 36, 480)])
def test_equal_fronts_stay_apart(
    photo_set: Callable[[str, int, int], PhotoSet], tmp_path: Path, scene: str, photos: int, width: int
) -> None:
    album = photo_set(scene, photos, width)
    made = unposed.reconstruct(album.images, tmp_path / "out", cache=tmp_path / "cache", report=False)
    verdict = unposed.evaluate(tmp_path / "out", album.truth)
    assert made.summary["registered"] == photos
    assert verdict.errors.auc[5] > 0.9  # 0.48 with one front laid on the other
    assert any(note.startswith("doppelgangers: ") for note in made.summary["warnings"])
    doubted = [each for each in made.summary["doubts"] if each["reason"] != DIVIDED_REASON]
    assert len(doubted) > photos / 2
    for each in doubted:
        a, b = (int(Path(name).stem) for name in each["photos"])
        assert 0.25 <= (b - a) / photos <= 0.75, "photos that look at the building from opposite sides"
    assert made.summary["models"][0]["refinement"]["verdict"]["trusted"]

    folded = unposed.reconstruct(
        album.images, tmp_path / "folded", settings=("doubts=null",), cache=tmp_path / "cache", report=False
    )
    assert (unposed.evaluate(tmp_path / "folded", album.truth).errors.auc[5] or 0.0) < 0.6
    assert not folded.summary["models"][0]["refinement"]["verdict"]["trusted"]
    assert any(warning.startswith("do not rely on the model") for warning in folded.warnings)


@pytest.mark.slow
def test_a_carton_with_four_equal_sides_is_right_or_warned_of(tmp_path: Path) -> None:
    """Its sides are laid on one another by twos, which is wrong and said."""
    album = write_set(equal_sides(photos=28, width=420), tmp_path)
    made = unposed.reconstruct(album.images, tmp_path / "out", cache=tmp_path / "cache", report=False)
    right = (unposed.evaluate(tmp_path / "out", album.truth).errors.auc[5] or 0.0) > 0.8
    assert right or any(warning.startswith("do not rely on the model") for warning in made.warnings)
