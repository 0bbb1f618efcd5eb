"""Doubts that are kept for old pairs, and searched for those of new photos."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import mapper_inputs

from unposed.pipeline.stage import Resources, StageError
from unposed.plugins.doubts.doppelgangers import Doppelgangers
from unposed.plugins.doubts.known import KnownDoubts

CPU = Resources("cpu", 1, 1 << 30, 0)


def written(file: Path, **said: Any) -> Path:
    file.write_text(json.dumps({"photos": [], "doubts": [], "rival_margin": None} | said))
    return file


def test_old_doubts_stay_and_new_pairs_are_searched(collection: Callable[..., Any], tmp_path: Path) -> None:
    """A ring that closes under its true focal length alone, of which the guess is far off."""
    lens = (800.0, 800.0, 600.0, 0.0)
    ring = collection(photos=14, points=700, sweep_deg=360.0, noise_px=0.5, lenses=(lens,))
    given = mapper_inputs(ring, lambda a, b: (b - a) % 14 in (1, 2, 3, 11, 12, 13))
    anew = Doppelgangers(trial_focals=())(**given, resources=CPU)
    assert len(anew.pairs) >= 6
    every = KnownDoubts(trial_focals=(), known=written(tmp_path / "none.json"))(**given, resources=CPU)
    assert np.array_equal(every.pairs, anew.pairs) and every.reasons == anew.reasons
    names = [photo.name for photo in given["photos"].photos]
    said = {"photos": names[:-1], "doubts": [[names[1], names[0], "as before"], [names[0], names[-1], "not old"]]}
    file = written(tmp_path / "old.json", **said, rival_margin=0.0)
    kept = KnownDoubts(trial_focals=(), known=file)(**given, resources=CPU)
    of_old = kept.pairs[(kept.pairs < 13).all(axis=1)]
    assert of_old.tolist() == [[0, 1]] and kept.reasons[0] == "as before" and "not old" not in kept.reasons
    assert kept.rival_margin is not None and (kept.rival_margin[:-1] == 0.0).all()


def test_a_file_that_is_no_list_of_doubts_is_named(collection: Callable[..., Any], tmp_path: Path) -> None:
    given = mapper_inputs(collection(photos=4), lambda a, b: False)
    with pytest.raises(StageError, match=r"said.json: cannot be read as known doubts"):
        KnownDoubts(known=written(tmp_path / "said.json", doubts=[["a"]]))(**given, resources=CPU)
