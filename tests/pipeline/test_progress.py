"""Progress as JSON lines, as bars, and not at all."""

from __future__ import annotations

import io
import json
import os

import pytest

from unposed.pipeline.progress import Bars, JsonLines, Progress, Quiet, StepProgress, forward_step, progress_for


def watch(progress: Progress) -> None:
    """A node of four items, one reused, one failing."""
    progress.begin("matching", 4, 1)
    progress.advance("matching", False)
    progress.advance("matching", True)
    progress.advance("matching", False)
    progress.note("a stored result was damaged")
    progress.end("matching", 1.23456)
    progress.close()


def test_json_lines() -> None:
    stream = io.StringIO()
    watch(JsonLines(stream, interval_s=0))
    records = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [record["event"] for record in records] == ["begin", *["progress"] * 3, "note", "end"]
    assert records[0] == {"event": "begin", "node": "matching", "total": 4, "reused": 1}
    assert records[3] == {"event": "progress", "node": "matching", "done": 4, "total": 4, "failed": 1}
    assert records[5] == {"event": "end", "node": "matching", "done": 4, "failed": 1, "seconds": 1.235}


def test_json_lines_are_few_when_items_are_fast() -> None:
    stream = io.StringIO()
    progress = JsonLines(stream, interval_s=60)
    progress.begin("features", 1000, 0)
    for _ in range(1000):
        progress.advance("features", False)
    assert len(stream.getvalue().splitlines()) <= 2


def test_json_lines_outlive_their_reader() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8", closefd=False) as stream:
        watch(JsonLines(stream, interval_s=0))
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # what was not written must have somewhere to go
    os.close(writer)


def test_bars_show_node_count_failures_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    watch(Bars())
    output = capsys.readouterr()
    assert output.out == ""
    assert all(text in output.err for text in ("matching", "3/3", "1 failed", "a stored result was damaged"))


def test_quiet_still_tells_of_damage(capsys: pytest.CaptureFixture[str]) -> None:
    watch(Quiet())
    assert capsys.readouterr() == ("", "a stored result was damaged\n")


def test_bars_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(progress_for(), Quiet)  # under pytest stderr is no terminal
    assert isinstance(progress_for(as_json=True), JsonLines)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    bars = progress_for()
    bars.close()
    assert isinstance(bars, Bars)
    assert isinstance(progress_for(quiet=True), Quiet)


def test_steps_of_a_stage_as_json_lines() -> None:
    stream = io.StringIO()
    lines = JsonLines(stream, interval_s=60)
    lines.begin("fine", 1, 0)
    for done, message in enumerate(["tracks", "tracks", "points"]):
        lines.step("fine", done, 3, message)
    records = [json.loads(line) for line in stream.getvalue().splitlines()][1:]
    assert {"event": "progress", "node": "fine", "done": 2, "total": 3, "message": "points"} in records
    assert [record["message"] for record in records] == ["tracks", "points"]


def test_bars_show_steps_then_items(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars()
    bars.begin("fine", 1, 0)
    bars.step("fine", 2, 7, "[2] refining poses")
    bars.end("fine", 0.0)
    assert bars._bars.tasks[0].total == 7 and bars._bars.tasks[0].fields["message"] == "[2] refining poses"
    bars.advance("fine", False)
    bars.close()
    assert "1/1" in capsys.readouterr().err


def test_a_progress_without_steps_is_left_alone() -> None:
    forward_step(Quiet(), "fine", 1, 2, "points")
    assert not isinstance(Quiet(), StepProgress) and isinstance(JsonLines(), StepProgress)
