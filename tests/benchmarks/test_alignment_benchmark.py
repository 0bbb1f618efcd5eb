"""The benchmark of alignment runs, and its scenes are what it says of them. Nothing is timed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Any:
    """emulated(noise options): a scene of six photos."""
    monkeypatch.syspath_prepend(str(FOLDER))
    from emulation import made_up
    from oracle import Noise, Oracle

    return lambda **noise: Oracle(made_up(6, 1), Noise(**noise))


def errors_px(scene: Any, a: int, b: int) -> np.ndarray:
    """How far the second ends of matches are from where the truth has the first ones."""
    pair = scene.pair(a, b)
    column, row = pair.xy_a.astype(int).T
    middle = np.array([scene.width / 2, scene.height / 2])
    points = np.column_stack([(pair.xy_a - middle) / scene.focal_px[a], np.ones(len(row))])
    points *= scene.depth[a][row, column][:, None]
    from_a, from_b = scene.cam_from_world[[a, b]]
    points = (points - from_a[:, 3]) @ from_a[:, :3] @ from_b[:, :3].T + from_b[:, 3]
    seen = points[:, :2] / points[:, 2:] * scene.focal_px[b] + middle
    return np.asarray(np.linalg.norm(seen - pair.xy_b, axis=1))


def test_most_matches_obey_the_truth(emulated: Any) -> None:
    error = errors_px(emulated(), 2, 3)
    assert len(error) > 100
    assert np.median(error) < 1.5
    assert 0.02 < (error > 10).mean() < 0.3
    worse = errors_px(emulated(outliers=0.3), 2, 3)
    assert (worse > 10).mean() > (error > 10).mean() + 0.15


def test_wrong_pairs_show_another_photo(emulated: Any) -> None:
    scene = emulated(wrong_pairs=0.2)
    assert len(scene.wrong) == round(0.2 * len(scene.pairs))
    shares = {k: (errors_px(scene, *scene.pairs[k]) > 10).mean() for k in range(len(scene.pairs))}
    assert max(shares[k] for k in scene.wrong) > 0.8


def test_depths_of_matches_and_grids_have_one_scale(emulated: Any) -> None:
    pair = emulated(scale=4.0).pair(0, 1)
    grid = pair.grids[0]
    on_grid = ((pair.xy_a - grid.origin_px) % grid.step_px == 0).all(axis=1)
    column, row = ((pair.xy_a[on_grid] - grid.origin_px) / grid.step_px).astype(int).T
    assert on_grid.sum() > 20
    np.testing.assert_allclose(pair.depth_a[on_grid], grid.depth[row, column], rtol=1e-5)


@pytest.mark.slow
def test_the_tables(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "alignment.py"), "--sizes", "6", "--basin", "1"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said if line.startswith("| made up")]
    assert [row[1] for row in rows] == ["usual", "hard"]
    assert [row[5] for row in rows] == ["6/6", "6/6"]
    assert "1 of 1 scenes" in said[-1]


def test_two_photos_with_few_matches_are_held_by_predicted_depths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them the fine stage does harm to what the coarse one found."""
    monkeypatch.syspath_prepend(str(FOLDER))
    from few_photos import measured

    coarse, fine, without = (np.median(errors, axis=0) for errors in measured(2, 30, False))
    assert fine[0] < coarse[0] + 0.1
    assert fine[0] < 0.5 * without[0]
    assert fine[2] < 0.5 * without[2]
