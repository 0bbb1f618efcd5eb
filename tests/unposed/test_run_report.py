"""When a run writes a report, when it does not, and the command that the report repeats it with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import unposed
from unposed.cli import main
from unposed.report import page
from unposed.run_report import run_command


def test_there_is_none_where_none_is_wanted(
    toys: str, photos: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = photos("a.png", "b.png", "c.png"), tmp_path / "out"
    line = ["reconstruct", str(folder), "-o", str(out), "--preset", toys, "--quiet"]
    assert main(line) == 0
    assert (out / "report.html").exists() and (out / "overview.jpg").exists()
    assert f"{out}/report.html" in capsys.readouterr().out
    assert main([*line, "--no-report"]) == 0  # an older one would be of another result
    assert not (out / "report.html").exists() and not (out / "overview.jpg").exists()
    assert "report.html" not in capsys.readouterr().out


def test_a_report_that_fails_is_one_line(
    toys: str, photos: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(page, "graph_panel", broken)
    out = tmp_path / "out"
    made = unposed.reconstruct(photos("a.png", "b.png", "c.png"), out, preset=toys)
    assert made.summary["registered"] == 3 and (out / "overview.jpg").exists()
    assert not (out / "report.html").exists()
    log = (out / "run.log").read_text()
    assert log.count("no report.html, but everything else: ZeroDivisionError: by zero") == 1


def test_a_run_without_a_result_is_reported_too(toys: str, photos: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(unposed.errors.NoReconstruction):
        unposed.reconstruct(photos("a.png", "b.png"), out, preset=toys, settings={"features.dislike_width": 64})
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "None of the 2 photos could be registered." in text
    assert "nothing to see in it" in text


def test_the_command_repeats_the_run() -> None:
    options = unposed.RunOptions(seed=3, effort="high", workers=2)
    settings = {"fine.loss": "huber"}
    line = run_command(
        ["my photos", "a.mp4"],
        Path("out"),
        "classic",
        settings,
        options,
        {"include": ["*.jpg"]},
        cameras="single",
        masks=None,
    )
    assert line == (
        "unposed reconstruct 'my photos' a.mp4 -o out --preset classic --cameras single --effort high --seed 3 "
        "--set 'fine.loss=\"huber\"' --include '*.jpg'"
    )
