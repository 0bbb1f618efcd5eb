"""unposed pairs, and what it shows of graphs, copies and photos without anything to see."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unposed
from unposed.cli import main
from unposed.pipeline.artifacts import Photo, Photos
from unposed.pipeline.errors import InputError, NoReconstruction
from unposed.synthetic.photos import PhotoSet
from unposed.view_graph.pair_table import PairFacts, PairTable


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs") / "cache"


@pytest.fixture(scope="module")
def album(yard: PhotoSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photos; a copy of one, the same made smaller, and a black one."""
    folder = tmp_path_factory.mktemp("album")
    for name in ("0000.jpg", "0001.jpg", "0002.jpg", "0003.jpg", "0004.jpg"):
        shutil.copy(yard.images / name, folder / name)
    shutil.copy(yard.images / "0002.jpg", folder / "copy.jpg")
    with Image.open(yard.images / "0003.jpg") as photo:
        photo.resize((photo.width * 3 // 4, photo.height * 3 // 4), Image.Resampling.LANCZOS).save(folder / "small.jpg")
    Image.new("RGB", (480, 320)).save(folder / "black.jpg")
    return folder


def test_the_table_and_the_images(album: Path, cache: Path, tmp_path: Path) -> None:
    found = unposed.pairs(album, tmp_path / "drawn", cache=cache)
    neighbours = found.between("0001.jpg", "0000.jpg")
    assert neighbours.photos == ("0000.jpg", "0001.jpg")
    assert neighbours.kind == "general" and neighbours.matches >= neighbours.verified > 50
    assert found.between("0000.jpg", "black.jpg").kind == "none"
    for name in ("similarity.png", "graph.png"):
        with Image.open(tmp_path / "drawn" / name) as image:
            assert image.width == image.height > 500
            assert np.asarray(image.convert("L")).std() > 5
    assert json.loads(json.dumps(found.to_json()))["pairs"][0]["photos"] == ["0000.jpg", "0001.jpg"]


def test_copies_have_no_baseline(album: Path, cache: Path) -> None:
    found = unposed.pairs(album, cache=cache)
    assert found.same_file == (("0002.jpg", "copy.jpg"),)
    assert found.between("0002.jpg", "copy.jpg").kind == "rotation"
    assert found.between("0003.jpg", "small.jpg").kind == "rotation"
    assert any("copies of one file" in line for line in found.why("copy.jpg", "0002.jpg"))


def test_copies_are_placed_where_the_original_is_and_told_of(album: Path, cache: Path) -> None:
    made = unposed.reconstruct(album, cache=cache)
    (scene,) = made.sparse.models
    names = [made.photos[photo].name for photo in scene.photos]
    centres = np.stack([-pose[:, :3].T @ pose[:, 3] for pose in scene.cam_from_world])
    extent = np.linalg.norm(np.ptp(centres, axis=0))
    where = dict(zip(names, centres, strict=True))
    assert np.linalg.norm(where["0002.jpg"] - where["copy.jpg"]) < 0.02 * extent
    told = [note for note in made.summary["warnings"] if "one image" in note]
    assert len(told) == 2 and "0002.jpg and copy.jpg" in told[0] and "0003.jpg and small.jpg" in told[1]
    assert "black.jpg" not in names


def test_the_command(album: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [str(album), "--cache", str(cache), "--quiet"]
    assert main(["pairs", *options, "-o", str(tmp_path / "drawn")]) == 0
    printed = capsys.readouterr().out
    assert "0000.jpg" in printed.splitlines()[1] or "copy.jpg" in printed.splitlines()[1]
    assert "copies of one file, 2 in all" in printed
    assert any(
        line.startswith("black.jpg") and line.endswith("connected with no other photo") for line in printed.splitlines()
    )
    assert (tmp_path / "drawn" / "graph.png").is_file()
    assert main(["pairs", *options, "--why", "0000.jpg", "0001.jpg"]) == 0
    assert "matches verified, geometry: general" in capsys.readouterr().out
    assert main(["pairs", *options, "--why", "black.jpg"]) == 0
    assert capsys.readouterr().out.startswith("the photo most like black.jpg is ")
    assert main(["pairs", *options, "--why", "0000.jpg", "0009.jpg"]) == 2
    assert "0009.jpg: no such photo" in capsys.readouterr().err


EXPANDED = """\
extends: classic
seed_graph: {use: graph.knn, neighbours: 2, all_below: 0}
seed_matching: {like: matching, from: {graph: seed_graph}}
seed_verification: {like: verification, from: {graph: seed_graph, matching: seed_matching}}
graph: {use: expand, neighbours: 4}
"""


def test_the_second_helping_costs_the_new_pairs_only(yard: PhotoSet, cache: Path, tmp_path: Path) -> None:
    preset = tmp_path / "expanded.yaml"
    preset.write_text(EXPANDED)
    made = unposed.reconstruct(yard.images, preset=preset, cache=tmp_path / "cache")
    stages = made.summary["stages"]
    seeds, pairs = stages["seed_matching"]["computed"], stages["matching"]["computed"]
    assert 12 <= seeds < 12 * 2 + 12
    assert 0 < pairs <= 12 * 4 - seeds + 12
    assert stages["matching"]["reused"] == stages["verification"]["reused"] > 0
    assert made.summary["registered"] == 12


@pytest.mark.parametrize("graph", ["key-frames", "window", "one-reference", "exhaustive"])
def test_graphs_by_other_means(yard: PhotoSet, cache: Path, graph: str) -> None:
    settings = [f"graph.use={graph}", *(() if graph == "key-frames" else ("retrieval=null",))]
    chosen = [pair.photos for pair in unposed.pairs(yard.images, settings=settings, cache=cache).pairs if pair.chosen]
    expected = {"key-frames": 12 * 11 / 2, "window": 12 * 3, "one-reference": 11, "exhaustive": 12 * 11 / 2}
    assert len(chosen) == expected[graph]


def test_a_reference_that_is_not_there(yard: PhotoSet, cache: Path) -> None:
    settings = ["graph.use=one-reference", "graph.reference=no.jpg", "retrieval=null"]
    with pytest.raises(NoReconstruction, match=r"no photo is called 'no\.jpg'"):
        unposed.pairs(yard.images, settings=settings, cache=cache)


def table(*facts: PairFacts, names: str = "abcd") -> PairTable:
    return PairTable(Photos(tuple(Photo(n, Path(n), n, 4, 3) for n in names), {}), facts, ())


def test_why() -> None:
    found = table(
        PairFacts(("a", "b"), 0.5, True, 90, 80, "general"),
        PairFacts(("a", "c"), 0.1, True, 30, 0, "none"),
        PairFacts(("b", "c"), 0.2, True, 60, 50, "planar"),
        PairFacts(("a", "d"), 0.3, True, 70, 66, "general", "its rotation is off"),
        PairFacts(("b", "d"), 0.05, False),
    )
    assert found.why("b", "a")[-1] == "80 of 90 matches verified, geometry: general"
    assert "to a: rank 3 of 3 by similarity" in found.why("a", "c")
    assert found.why("a", "c")[-2:] == [
        "30 matches, but no geometry explains enough of them",
        "connected through a - b - c",
    ]
    assert found.why("a", "d")[-2:] == [
        "doubted, so mappers leave it out: its rotation is off",
        "not connected through other photos either",
    ]
    assert "the scene graph leaves it out, so it was not matched" in found.why("d", "b")
    assert found.why("c", "d")[0] == "not in the ranking: low similarity"
    assert [pair.verdict for pair in found.pairs[1:]] == [
        "no geometry",
        "planar",
        "doubted: its rotation is off",
        "not matched",
    ]
    assert found.why("c") == ["the photo most like c is b", *found.why("c", "b")]
    assert found.why("d")[0] == "the photo most like d is a"
    with pytest.raises(InputError, match="two different photos"):
        found.why("a", "a")
    with pytest.raises(InputError, match="a was compared with no other photo"):
        table().why("a")


def test_images_of_next_to_nothing(tmp_path: Path) -> None:
    from unposed.view_graph.drawings import graph_drawing, similarity_drawing

    for empty in (table(names=""), table(names="ab")):
        assert similarity_drawing(empty).size[0] > 500
        assert graph_drawing(empty).size == (1000, 1000)
