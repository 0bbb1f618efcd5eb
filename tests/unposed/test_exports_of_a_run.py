"""`unposed reconstruct --export FORMAT`: written into the output folder when the models are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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
