"""Two photos: poses and points against the truth, files, and depths that a matcher predicts at scales of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import unposed
from unposed.cli import main
from unposed.pipeline.artifacts import DepthGrid, PairMatches
from unposed.pipeline.errors import ConfigError, InputError, NoReconstruction
from unposed.synthetic.photos import PhotoSet
from unposed.two_view.pair import Pair
from unposed.two_view.pairwise import _pair


def angle_deg(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))))


def true_motion(yard: PhotoSet, a: int, b: int) -> NDArray[np.float64]:
    images = list(json.loads(yard.truth.read_text())["images"].values())
    (ra, ta), (rb, tb) = ((np.array(i["R_w2c"]), np.array(i["t_w2c"]).ravel()) for i in (images[a], images[b]))
    return np.column_stack([rb @ ra.T, tb - rb @ ra.T @ ta])


@pytest.fixture(scope="module")
def files(yard: PhotoSet) -> list[Path]:
    return sorted(yard.images.iterdir())


@pytest.fixture(scope="module")
def found(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Path]:
    folder = tmp_path_factory.mktemp("pair")
    return unposed.pairwise(files[2], files[3], folder / "out", cache=folder / "cache"), folder


def test_motion_and_points(found: tuple[Pair, Path], yard: PhotoSet) -> None:
    pair, truth = found[0], true_motion(yard, 2, 3)
    assert pair.geometry.kind == "general"
    turn = truth[:, :3] @ pair.b_from_a[:, :3].T
    assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) < 1.5  # the focal length is not known
    assert angle_deg(truth[:, 3], pair.b_from_a[:, 3]) < 10
    assert len(pair.points) > 100
    assert (pair.points[:, 2] > 0).all()
    assert pair.rgb.shape == pair.points.shape
    assert pair.depths is None


def test_files(found: tuple[Pair, Path]) -> None:
    pair, folder = found
    facts = json.loads((folder / "out/pair.json").read_text())
    assert facts == pair.facts()
    assert facts["inliers"] <= facts["matches"]
    with Image.open(folder / "out/matches.jpg") as image:
        assert image.size == (960, 320)
    assert (folder / "out/points.ply").read_bytes().startswith(b"ply\n")
    assert f"element vertex {len(pair.points)}\n".encode() in (folder / "out/points.ply").read_bytes()
    assert not (folder / "out/depth-a.npz").exists()


def test_command(
    found: tuple[Pair, Path], files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [str(files[2]), str(files[3]), "-o", str(tmp_path / "out"), "--cache", str(found[1] / "cache")]
    assert main(["pairwise", *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found[0].facts()
    assert main(["pairwise", *where, "--quiet"]) == 0
    assert "in the frame of the first" in capsys.readouterr().out
    assert main(["pairwise", str(files[0]), str(tmp_path / "no.jpg"), *where[2:]]) == 2
    assert "no.jpg: no such file" in capsys.readouterr().err


def test_predicted_depth_takes_the_scale_of_the_baseline(found: tuple[Pair, Path], yard: PhotoSet) -> None:
    """Depths that a matcher would have predicted, of either photo in units of its own."""
    pair = found[0]
    focals, sizes = pair.focals_px, [(p.width, p.height) for p in pair.photos.photos]
    keep = pair.geometry.inliers
    depth = np.full(len(keep), np.nan, np.float32)
    grids = []
    for side, (focal, size) in enumerate(zip(focals, sizes, strict=True)):
        flat = np.full((size[1] // 8, size[0] // 8), 10.0 * (1 + side), np.float32)
        confidence = np.ones_like(flat)
        confidence[0] = 0.1  # below the least confidence
        grids.append(DepthGrid((4.5, 4.5), (8.0, 8.0), flat, confidence, float(focal)))
    depth_a, depth_b = depth.copy(), depth.copy()
    depth_a[keep], depth_b[keep] = 10.0, 20.0
    matches: PairMatches = replace(pair.matches, depth_a=depth_a, depth_b=depth_b, grids=(grids[0], grids[1]))
    dense = _pair(pair.photos, matches, pair.geometry, 0)
    assert dense.depths is not None
    rows, columns = grids[0].depth.shape
    assert len(dense.points) == 2 * (rows - 1) * columns
    np.testing.assert_allclose(dense.depths[0].depth / dense.depths[1].depth, 1.0, rtol=0.05)  # the same wall
    seen = np.median(pair.points[:, 2])
    assert np.median(dense.depths[0].depth) == pytest.approx(seen, rel=0.1)


def test_what_cannot_be(files: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match="the same photo"):
        unposed.pairwise(files[0], files[0], cache=cache)
    with pytest.raises(ConfigError, match="has no node 'verification'"):
        unposed.pairwise(files[0], files[1], settings=["verification=null"], cache=cache)
    noise = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (320, 480, 3), dtype=np.uint8)).save(noise)
    with pytest.raises(NoReconstruction, match="no geometry explains the"):
        unposed.pairwise(files[0], noise, tmp_path / "out", cache=cache)
    assert json.loads((tmp_path / "out/pair.json").read_text())["kind"] == "none"
