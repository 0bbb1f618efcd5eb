"""What `import unposed` offers: names, results to look at, photos in memory, options, log, and settings that repeat."""

from __future__ import annotations

import ast
import html
import inspect
import json
import logging
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import yaml
from PIL import Image

import unposed
from unposed import algorithms
from unposed.cli import main
from unposed.errors import ConfigError, InputError, Interrupted
from unposed.flags import FLAGS, MACHINE, RUN
from unposed.options import RunChanges, RunOptions
from unposed.pipeline.progress import Quiet

Photos = Callable[..., Path]


def pixels(folder: Path) -> dict[str, np.ndarray]:
    return {file.name: np.array(Image.open(file).convert("RGB")) for file in sorted(folder.iterdir())}


# -- names


@pytest.mark.parametrize("module", [unposed, algorithms], ids=["unposed", "algorithms"])
def test_type_checkers_see_the_names_that_are_there(module: Any) -> None:
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    block = next(each for each in tree.body if isinstance(each, ast.If))
    seen = [alias for each in block.body if isinstance(each, ast.ImportFrom) for alias in each.names]
    assert sorted(alias.name for alias in seen) == sorted(module.__all__)
    assert all(alias.asname == alias.name for alias in seen)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_importing_costs_nothing() -> None:
    script = "import sys; before = set(sys.modules); import unposed; print(sorted(sys.modules.keys() - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"numpy", "torch", "yaml", "rich", "argparse", "dataclasses"}
    assert not heavy & set(ast.literal_eval(done.stdout))


def test_run_options_are_said_once() -> None:
    names = [field.name for field in fields(RunOptions)]
    assert list(RunChanges.__annotations__) == names
    assert {n: str(t) for n, t in RunChanges.__annotations__.items()}.keys() == RunOptions.__annotations__.keys()
    for name in names:
        assert RunOptions.__annotations__[name] in str(RunChanges.__annotations__[name])
    functions = (unposed.reconstruct, unposed.pairs, unposed.pairwise, unposed.demo)
    for function in functions:
        assert {"options", "changes", "preset", "settings"} <= inspect.signature(function).parameters.keys()
    others = (unposed.localize, unposed.add, unposed.merge)
    parameters = set(names) | {name for each in (*functions, *others) for name in inspect.signature(each).parameters}
    alone = {
        "to",
        "how",
        "original",
        "photos_folder",
        "trainers",
        "limits",
        "seeds",
        "gaussians",
        "splat",
        "method",
        "compare",
        "host",
        "of_preset",
        "port",
        "gt",
        "keep",
        "unused",
        "stage",
        "accept",
        "why",
        "quiet",
        "json",
        "write_masks",
    }
    assert set(FLAGS) - alone <= parameters
    assert set(RUN) | set(MACHINE) <= set(FLAGS)


def test_a_misspelled_option_names_the_nearest(photos: Photos) -> None:
    with pytest.raises(TypeError, match="no such option: worker; did you mean workers"):
        unposed.reconstruct(photos("a.png", "b.png"), worker=2)  # type: ignore[call-arg]


# -- the result


def test_a_reconstruction_to_look_at(toys: str, photos: Photos, tmp_path: Path) -> None:
    folder = photos("a.png", "b.png", "c.png", "d.png", "<e>.png")
    settings = {"fine.chunk": 2, "fine.at_most": 4}
    rec = unposed.reconstruct(folder, tmp_path / "out", preset=toys, settings=settings)
    assert (len(rec), [len(model) for model in rec]) == (2, [2, 2])
    assert rec[0] is rec.models[0]
    assert "registered 4 of 5 photos, 2 models, 5 points, mean reprojection error 0.50 px" in repr(rec)
    assert rec.unregistered == {"d.png": "the toy is full"}
    assert rec.warnings == ("20 matches",)
    html = rec._repr_html_()
    assert "registered 4 of 5 photos" in html and "<svg" in html and "d.png: the toy is full" in html
    assert "<e>" not in html and len(html) < 20_000

    model = rec.models[0]
    assert model.photo_names == ("<e>.png", "a.png")
    assert model.points.shape == (5, 3) and model.rgb.shape == (5, 3) and model.cam_from_world.shape == (2, 3, 4)
    np.testing.assert_array_equal(model.K("a.png"), [[100, 0, 32], [0, 100, 24], [0, 0, 1]])
    with pytest.raises(InputError, match=r"not registered in this model; did you mean a.png"):
        model.K("a.pgn")
    image = model.images["a.png"]
    assert image.center.tolist() == [-1, 0, 0]
    assert image.point3D_ids.tolist() == [1, 2, 3, 4, 5]
    assert model.points3D[2].track == (("<e>.png", 1), ("a.png", 1))
    assert list(model.points3D) == [1, 2, 3, 4, 5]
    with pytest.raises(KeyError):
        model.points3D[6]
    assert repr(model) == "<Model: 2 photos, 5 points, mean reprojection error 0.50 px>"


def test_to_pycolmap_and_back(toys: str, photos: Photos, tmp_path: Path) -> None:
    folder = photos("a.png", "b.png", "c.png")
    rec = unposed.reconstruct(folder, preset=toys, settings={"fine.chunk": 2})
    colmap = rec.to_pycolmap()
    images = rec.models[0].images
    assert {image.name for image in colmap.images.values()} == set(images)
    for image in colmap.images.values():
        assert [p.point3D_id if p.has_point3D() else -1 for p in image.points2D] == list(images[image.name].point3D_ids)
    with pytest.raises(InputError, match="no model 2: there are 2 models"):
        rec.to_pycolmap(2)
    for source in (folder, None):
        again = unposed.Reconstruction.from_pycolmap([rec.to_pycolmap(1), colmap], source)
        assert [model.photo_names for model in again] == [model.photo_names for model in rec]
        np.testing.assert_array_equal(again[0].points, rec[0].points)
        again.export("names", tmp_path / f"names-{source is None}")
    single = unposed.Reconstruction.from_pycolmap(colmap, folder)
    assert single.unregistered == {"c.png": "not in the given models"}


# -- photos in memory, and as a list of files


def test_images_in_memory_give_what_their_folder_gives(toys: str, photos: Photos, tmp_path: Path) -> None:
    folder = photos("0000.png", "0001.png", "0002.png")
    images = pixels(folder)
    expected = unposed.reconstruct(folder, preset=toys)
    for source in (images, list(images.values()), np.stack(list(images.values())), iter(images.values())):
        made = unposed.reconstruct(source, tmp_path / "out", preset=toys)
        assert [photo.name for photo in made.photos.photos] == list(images)
        np.testing.assert_array_equal(made[0].points, expected[0].points)
        for photo in made.photos.photos:
            np.testing.assert_array_equal(np.array(Image.open(photo.path)), images[photo.name])
    assert len(list((tmp_path / "cache" / "images").iterdir())) == 1
    assert unposed.load(tmp_path / "out")[0].photo_names == tuple(images)
    named = unposed.reconstruct({"left/x": images["0000.png"], "y.png": images["0001.png"]}, preset=toys)
    assert named[0].photo_names == ("left/x.png", "y.png")


def test_a_list_of_files_is_that_part_of_the_folder(toys: str, photos: Photos, tmp_path: Path) -> None:
    folder, out = photos("a.png", "b.png", "sub/c.png"), tmp_path / "out"
    made = unposed.reconstruct([folder / "sub/c.png", str(folder / "a.png")], out, preset=toys)
    assert [photo.name for photo in made.photos.photos] == ["a.png", "sub/c.png"]
    again = unposed.load(out)
    assert [photo.name for photo in again.photos.photos] == ["a.png", "sub/c.png"]


def test_folders_and_files_together_are_one_collection(toys: str, photos: Photos, tmp_path: Path) -> None:
    folder, out = photos("left/a.png", "left/deep/b.png", "right/a.png", "c.png", "d.png"), tmp_path / "out"
    line = ["reconstruct", folder / "left", folder / "c.png", folder / "right", "-o", out, "--preset", toys, "--quiet"]
    assert main([str(word) for word in line]) == 0
    made = unposed.load(out)
    assert [photo.name for photo in made.photos.photos] == ["c.png", "left/a.png", "left/deep/b.png", "right/a.png"]
    given = [str(folder / name) for name in ("left", "c.png", "right")]
    assert made.summary["photos_given"] == given, "for the commands that a reader may copy"
    assert shlex.join(["unposed", "reconstruct", *given]) in html.unescape((out / "report.html").read_text())


def test_a_list_of_one_folder_is_that_folder_and_a_file_in_a_folder_of_the_list_counts_once(
    toys: str, photos: Photos
) -> None:
    folder = photos("left/a.png", "left/b.png", "c.png")
    alone = unposed.reconstruct([folder / "left"], preset=toys)
    assert [photo.name for photo in alone.photos.photos] == ["a.png", "b.png"]
    both = unposed.reconstruct([folder / "left/a.png", folder], preset=toys)
    assert [photo.name for photo in both.photos.photos] == ["c.png", "left/a.png", "left/b.png"]


def test_a_folder_of_a_list_without_photos_is_named(toys: str, photos: Photos, tmp_path: Path) -> None:
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no photos or videos in this folder"):
        unposed.reconstruct([photos("a.png", "b.png"), empty], preset=toys)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ([np.zeros((4, 4), np.uint8)] * 2, r"image 0000.png: expected height x width x 3 of uint8, RGB; got 4 x 4"),
        ([np.zeros((4, 4, 3))] * 2, "got 4 x 4 x 3 of float64"),
        ({"../a": np.zeros((4, 4, 3), np.uint8)}, "cannot be the name of an image"),
        (["nowhere.png", "else.png"], "nowhere.png: no such file or folder"),
        ([__file__, __file__], "is in the list of photos twice"),
        ([__file__, np.zeros((4, 4, 3), np.uint8)], "files or images, not both"),
    ],
)
def test_photos_that_cannot_be(source: Any, reason: str, toys: str) -> None:
    with pytest.raises(InputError, match=reason):
        unposed.reconstruct(source, preset=toys)


# -- log, cancellation


def test_nothing_is_printed_and_the_logger_has_it(
    toys: str, photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder, out = photos("a.png", "b.png"), tmp_path / "out"
    with caplog.at_level(logging.INFO, "unposed"):
        unposed.reconstruct(folder, out, preset=toys)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    assert "registered 2 of 2 photos" in caplog.messages
    lines = (out / "run.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == caplog.messages
    caplog.clear()
    unposed.reconstruct(folder, out, preset=toys)
    assert "registered 2 of 2 photos" in (out / "run.log").read_text()
    assert caplog.messages == []


def test_another_thread_stops_a_run(toys: str, photos: Photos, tmp_path: Path) -> None:
    folder = photos(*(f"{number}.png" for number in range(9)))
    cancellation = unposed.Cancellation()

    class Impatient(Quiet):
        def advance(self, node: str, failed: bool) -> None:
            if node == "features":
                threading.Thread(target=cancellation.cancel).start()

    options = unposed.RunOptions(workers=1, progress=Impatient(), cancellation=cancellation)
    with pytest.raises(Interrupted):
        unposed.reconstruct(folder, preset=toys, settings={"features.pause_s": 0.1}, options=options)
    done = unposed.reconstruct(folder, preset=toys, settings={"features.pause_s": 0.1})
    assert done.summary["stages"]["features"]["reused"] >= 1


# -- settings that repeat the run


TWO_MATCHERS = """\
extends: {toys}
one: {{use: matching.toy, share: 0.6}}
two: {{like: one, share: 0.4}}
matching: {{use: merge, from: {{first: one, second: two}}}}
outputs: [one]
"""


@pytest.mark.parametrize("text", ["extends: {toys}\n", TWO_MATCHERS], ids=["plain", "two matchers"])
def test_settings_repeat_the_run(text: str, toys: str, photos: Photos, tmp_path: Path) -> None:
    folder, preset, repeat = photos("a.png", "b.png", "c.png"), tmp_path / "first.yaml", tmp_path / "repeat.yaml"
    preset.write_text(text.format(toys=toys))
    first = unposed.reconstruct(folder, tmp_path / "out", preset=preset, seed=3)
    said = json.loads((tmp_path / "out" / "summary.json").read_text())["settings"]
    repeat.write_text(yaml.safe_dump(said))
    again = unposed.reconstruct(folder, preset=repeat)
    assert sum(stage["computed"] for stage in again.summary["stages"].values()) == 0
    assert again.summary["settings"] == first.summary["settings"]
    assert again.summary["models"] == first.summary["models"]
    assert again.warnings == first.warnings


def test_export_options_by_name(toys: str, photos: Photos, tmp_path: Path) -> None:
    out = tmp_path / "out"
    unposed.reconstruct(photos("a.png", "b.png"), out, preset=toys)
    from unposed.cli import main

    line = ["export", str(out), "--to", "names", "-o", str(tmp_path / "names")]
    assert main([*line, "--set", "separator=+"]) == 0
    assert (tmp_path / "names" / "names.txt").read_text() == "a.png+b.png"
    with pytest.raises(ConfigError, match=r"export\.names\.seperator: no such option; did you mean separator"):
        unposed.export(out, "names", tmp_path / "x", settings=["seperator=+"])
    with pytest.raises(ConfigError, match="expected key=value"):
        unposed.export(out, "names", tmp_path / "x", settings=["separator"])


def test_type_hints_of_the_face_can_be_read() -> None:
    assert "return" in get_type_hints(unposed.export)
