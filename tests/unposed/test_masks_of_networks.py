"""Masks that a plugin predicts: nothing of a model lies on what they hide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import unposed
from unposed.pipeline.artifacts import DepthGrid, PairMatches, Photo, PhotoMask
from unposed.pipeline.stage import Sides
from unposed.plugins.matching.masked import MaskedMatches
from unposed.synthetic.photos import PhotoSet

PRESET = """
extends: classic
moving: {use: masks.toy}
all_matches: {use: matching.mutual-nn}
matching: {use: matching.masked, from: {matches: all_matches, masks: moving}}
closer_all: {use: matching.mutual-nn, from: {graph: closer_graph, features: closer_features}}
closer_matches: {use: matching.masked, from: {graph: closer_graph, matches: closer_all, masks: moving}}
"""


def test_no_track_begins_on_what_is_masked(
    photo_set: Callable[[str, int, int], PhotoSet], tmp_path: Path, toys: str
) -> None:
    (tmp_path / "masked.yaml").write_text(PRESET, encoding="utf-8")
    images = photo_set("easy", 5, 320).images
    made = unposed.reconstruct(images, tmp_path / "out", preset=tmp_path / "masked.yaml", device="cpu", workers=1)
    model = made.sparse.models[0]
    seen = np.asarray(model.xy)[model.obs_xy]
    assert len(model.photos) == 5 and len(seen) > 500
    assert (seen[:, 0] > 320 / 3 - 2.0).all()  # exact points move by a pixel or two
    assert (np.asarray(model.xy)[:, 0] < 300 / 3).any()


def test_depths_of_masked_pixels_are_unknown() -> None:
    grid = DepthGrid((5.0, 5.0), (10.0, 10.0), np.ones((4, 6), np.float16), np.ones((4, 6), np.uint8), 100.0)
    xy = np.array([[5.0, 5.0], [25.0, 5.0], [55.0, 35.0]], np.float32)
    matches = PairMatches(xy, xy, np.ones(3, np.float32), depth_a=np.arange(3.0), grids=(grid, grid))
    right = np.arange(6) >= 2
    masks = Sides(PhotoMask(np.tile(right, (4, 1))), PhotoMask(np.tile(right & (np.arange(6) < 5), (4, 1))))
    photo = Photo("a", Path(), "", 60, 40)
    found = MaskedMatches()(matches, masks, Sides(photo, photo))
    assert found.xy_a.tolist() == [[25.0, 5.0]] and found.depth_a is not None and found.depth_a.tolist() == [1.0]
    assert found.grids is not None and found.index_a is None
    assert np.isnan(found.grids[0].depth[:, :2]).all() and np.isfinite(found.grids[0].depth[:, 2:]).all()
    assert found.grids[0].depth.dtype == np.float16 and np.isnan(found.grids[1].depth[:, 5]).all()
