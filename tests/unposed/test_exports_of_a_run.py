"""`unposed reconstruct --export FORMAT`: written into the output folder when the models are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageOps

import unposed
from unposed.cli import main
from unposed.errors import ConfigError

Photos = Callable[..., Path]


def test_exports_are_part_of_the_run(
    toys: str, photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = photos("a.png", "b.png", "c.png", "d.png"), tmp_path / "out"
    line = ["reconstruct", str(folder), "-o", str(out), "--preset", toys, "--quiet", "--no-report"]
    assert main([*line, "--export", "ply", "--export", "colmap"]) == 0
    assert f"{out / 'ply'}" in capsys.readouterr().out
    assert (out / "ply" / "points-0.ply").is_file()
    assert (out / "colmap" / "sparse" / "0" / "images.bin").is_file()
    assert unposed.load(out).summary["exports"] == ["ply", "colmap"]
    before = (out / "ply" / "points-0.ply").stat().st_mtime_ns
    assert main([*line, "--export", "ply"]) == 0
    assert (out / "ply" / "points-0.ply").stat().st_mtime_ns > before
    assert f"{out / 'colmap'} was exported from an older result" in (out / "run.log").read_text("utf-8")


def test_what_cannot_be_exported_is_said_before_anything_is_computed(toys: str, photos: Photos, tmp_path: Path) -> None:
    folder = photos("a.png", "b.png", "c.png", "d.png")
    with pytest.raises(ConfigError, match=r"spalt.*did you mean splat"):
        unposed.reconstruct(folder, tmp_path / "out", preset=toys, exports=["spalt"])
    with pytest.raises(ConfigError, match="exports are written into the output folder: give one"):
        unposed.reconstruct(folder, preset=toys, exports=["ply"])
    assert not (tmp_path / "out").exists()


def test_photos_that_have_changed_since_are_named(
    toys: str, photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = photos("a.png", "b.png", "c.png", "d.png"), tmp_path / "out"
    unposed.reconstruct(folder, out, preset=toys, report=False)
    line = ["export", str(out), "--to", "ply", "-o", str(tmp_path / "ply")]
    assert main(line) == 0
    assert capsys.readouterr().err == ""
    for name in ("b.png", "d.png"):
        with Image.open(folder / name) as image:
            ImageOps.invert(image.convert("RGB")).save(folder / name)  # of the same size
    assert main(line) == 0
    said = capsys.readouterr().err
    assert said.startswith(f"unposed: warning: changed since {out} was made: b.png and 1 more; put the old ones back")
    assert said.count("\n") == 1
