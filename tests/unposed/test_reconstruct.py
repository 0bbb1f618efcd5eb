"""`unposed reconstruct` around stages that only pretend: what is written, printed, refused and resumed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pycolmap
import pytest

import unposed
from unposed.cli import main
from unposed.output import locked_folder
from unposed.pipeline.errors import ConfigError, InputError, NoReconstruction
from unposed.pipeline.progress import Quiet
from unposed.run_log import RunLog
from unposed.show import reconstruction_rows
from unposed.synthetic.photos import PhotoSet

Photos = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


def summary(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


def command(*argv: str | Path) -> list[str]:
    return [sys.executable, "-m", "unposed", *map(str, argv)]


def complaint(capsys: Capture, *argv: str | Path, code: int = 2) -> str:
    """The one line with which a command fails, without our name in front."""
    assert main([str(arg) for arg in argv]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("unposed: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("unposed: ").rstrip()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any bytes as a name")
def test_a_name_that_is_no_utf8_is_told_and_ends_nothing(toys: str, photos: Photos, tmp_path: Path) -> None:
    folder, out = photos("a.png", "b.png", "c.png"), tmp_path / "out"
    Path(os.fsdecode(os.fsencode(folder) + b"/latin\xe9.png")).write_bytes((folder / "a.png").read_bytes())
    assert main(["reconstruct", str(folder), "-o", str(out), "--preset", toys, "--quiet"]) == 0
    assert "latin" in (out / "summary.json").read_text(encoding="utf-8")
    assert summary(out)["total"] == 4


def test_writes_models_summary_and_log(toys: str, photos: Photos, tmp_path: Path, capsys: Capture) -> None:
    folder, out = photos("a b.png", "ü/c.png", "d.png", "e.png", "f.png"), tmp_path / "out"
    (folder / "text.jpg").write_text("no photo")
    argv = ["reconstruct", str(folder), "-o", str(out), "--preset", toys, "--set", "fine.chunk=2", "--seed", "5"]
    assert main([*argv, "--set", "fine.at_most=4"]) == 0
    printed = capsys.readouterr().out
    assert "registered 4 of 6" in printed
    assert "text.jpg: not read" in printed
    assert "2 disconnected models (2 and 2 photos)" in printed

    assert sorted(entry.name for entry in out.iterdir() if not entry.name.startswith(".")) == [
        "overview.jpg",
        "report.html",
        "run.log",
        "sparse",
        "summary.json",
    ]
    names = [
        {image.name for image in pycolmap.Reconstruction(out / "sparse" / number).images.values()} for number in "01"
    ]
    assert names == [{"a b.png", "d.png"}, {"e.png", "f.png"}]
    said = summary(out)
    assert (said["total"], said["registered"], said["seed"]) == (6, 4, 5)
    assert said["settings"]["fine"] == {"use": "fine.toy", "chunk": 2, "at_most": 4}
    assert said["photos"]["a b.png"].pop("error_px") > 0
    assert len(said["photos"]["a b.png"].pop("content")) > 20
    assert said["photos"]["a b.png"] == {"model": 0, "points": 5}
    assert said["photos"]["e.png"]["model"] == 1
    assert said["photos"]["ü/c.png"] == {"reason": "the toy is full"}
    assert said["models"][0] == {
        "model": "sparse/0",
        "photos": 2,
        "points": 5,
        "observations": 10,
        "mean_track_length": 2.0,
        "mean_reprojection_px": 0.5,
        "cameras": [{"model": "SIMPLE_PINHOLE", "width": 64, "height": 48, "params": [100.0, 32.0, 24.0], "photos": 2}],
    }
    assert said["stages"]["features"]["computed"] == 5
    assert said["versions"]["toys"] == "1.0"
    assert "matching: 4 to do" in (out / "run.log").read_text()


def test_a_photo_that_fails_is_named_and_the_others_go_on(toys: str, photos: Photos, tmp_path: Path) -> None:
    photos("odd.png", width=80)
    folder = photos("a.png", "b.png", "c.png")
    made = unposed.reconstruct(folder, tmp_path / "out", preset=toys, settings={"features.dislike_width": 80})
    assert made.summary["photos"]["odd.png"] == {"reason": "features: nothing to see in it"}
    assert made.summary["registered"] == 3
    assert made.summary["failures"] == [
        {"node": "features", "reason": "nothing to see in it", "items": 1, "examples": [["odd.png"]]}
    ]


def test_commands_to_copy_hold_for_folders_with_blanks(toys: str, photos: Photos, tmp_path: Path) -> None:
    made = unposed.reconstruct(photos("a.png", "b.png"), preset=toys, cache=tmp_path / "cache")
    rows = dict(reconstruction_rows(made.summary, Path("my out"), "classic"))
    assert rows["next"].startswith("unposed export 'my out' --to ply")


def test_many_troubles_are_told_in_few_lines(toys: str, photos: Photos, tmp_path: Path) -> None:
    made = unposed.reconstruct(photos("a.png", "b.png"), preset=toys, cache=tmp_path / "cache")
    reasons = {f"{number}.jpg": {"reason": f"reason {number}"} for number in range(9)}
    facts = {**made.summary, "warnings": [f"note {number}" for number in range(8)], "photos": reasons}
    rows = reconstruction_rows(facts, Path("out"), "classic")
    assert [text for label, text in rows if label == "warning"][4:] == ["note 4", "3 warnings more in summary.json"]
    left_out = [text for label, text in rows if label == "not registered"]
    assert left_out[4:] == ["1 photo: reason 4", "4 photos for other reasons, see summary.json"]


def test_the_last_line_about_a_model_that_may_be_wrong_says_so(toys: str, photos: Photos, tmp_path: Path) -> None:
    made = unposed.reconstruct(photos("a.png", "b.png"), preset=toys, cache=tmp_path / "cache")
    for trusted in (True, False):
        verdict = {"probability": 0.5, "trusted": trusted, "reasons": []}
        facts = {**made.summary, "models": [{**made.summary["models"][0], "refinement": {"verdict": verdict}}]}
        rows = reconstruction_rows(facts, Path("out"), "classic")
        assert dict(rows)["verdict"].startswith("do not rely on this model") == (not trusted)
        assert not dict(rows)["points"].endswith(", in the largest model")
        two = reconstruction_rows({**facts, "models": 2 * facts["models"]}, Path("out"), "classic")
        assert dict(two)["points"].endswith(", in the largest model")
        assert rows[-1][1].startswith("do not rely on this model") == (not trusted)


def test_what_was_done_and_may_be_done_for_lost_photos_is_told(toys: str, photos: Photos, tmp_path: Path) -> None:
    made = unposed.reconstruct(photos("a.png", "b.png"), preset=toys, cache=tmp_path / "cache")
    facts = {**made.summary, "helpings": {"more_graph": "3 more pairs"}}
    assert ("second look", "3 more pairs") in reconstruction_rows(facts, Path("out"), "classic")
    lost = {**facts, "photos": {"a.png": {"reason": "lost"}}}
    for effort, offered in ((1.0, True), (4.0, False)):
        text = " ".join(text for _, text in reconstruction_rows({**lost, "effort": effort}, Path("out"), "classic"))
        assert f"unposed pairs {made.summary['photos_folder']} --why a.png says" in text
        assert ("--effort high" in text) == offered
    assert not any("--why" in text for _, text in reconstruction_rows(facts, Path("out"), "classic"))
    for unread in ("not read: not an image", f"{next(iter(facts['stages']))}: the file is cut off"):
        damaged = {**facts, "photos": {"a.png": {"reason": unread}}}
        assert not any("--why" in text for _, text in reconstruction_rows(damaged, Path("out"), "classic"))


def test_what_a_run_has_stored_itself_is_of_no_earlier_one(toys: str, photos: Photos, tmp_path: Path) -> None:
    folder = photos("a.png", "b.png", "c.png")
    first = unposed.reconstruct(folder, preset=toys, cache=tmp_path / "cache").summary
    stages = {**first["stages"], "again": {**first["stages"]["features"], "computed": 0, "reused": 3}}
    rows = reconstruction_rows({**first, "stages": stages}, Path("out"), "classic")
    assert "stored" not in dict(rows)
    second = unposed.reconstruct(folder, preset=toys, cache=tmp_path / "cache").summary
    assert "were there from an earlier run" in dict(reconstruction_rows(second, Path("out"), "classic"))["stored"]


def test_one_camera_for_photos_of_several_sizes_says_what_became_of_it(
    toys: str, photos: Photos, tmp_path: Path
) -> None:
    folder = photos("a.png", "b.png")
    photos("c.png", width=80)
    single = {"preset": toys, "cache": tmp_path / "cache", "cameras": "single"}
    settings = {"cameras.use": "exif"}
    (warning,) = (
        line for line in unposed.reconstruct(folder, settings=settings, **single).warnings if "--cameras" in line
    )
    assert "photos of 2 sizes got a camera each (64 × 48: 2, 80 × 48: 1)" in warning
    alike = unposed.reconstruct(folder, settings=settings, include=["[ab].png"], **single)
    assert not any("--cameras" in line for line in alike.warnings)
    assert not any("--cameras" in line for line in unposed.reconstruct(folder, preset=toys, cache=tmp_path).warnings)


def test_an_older_result_is_replaced_whole(toys: str, photos: Photos, tmp_path: Path) -> None:
    folder, out = photos("a.png", "b.png", "c.png", "d.png"), tmp_path / "out"
    unposed.reconstruct(folder, out, preset=toys, settings={"fine.chunk": 2})
    assert (out / "sparse" / "1").is_dir()
    unposed.reconstruct(folder, out, preset=toys)
    assert not (out / "sparse" / "1").exists()
    assert len(summary(out)["models"]) == 1
    assert not (out / ".new").exists()


def test_the_second_run_computes_nothing(toys: str, photos: Photos, tmp_path: Path) -> None:
    folder, out = photos("a.png", "b.png", "c.png"), tmp_path / "out"
    first = unposed.reconstruct(folder, out, preset=toys)
    second = unposed.reconstruct(folder, out, preset=toys)
    assert sum(stage["computed"] for stage in first.summary["stages"].values()) == 8
    assert sum(stage["computed"] for stage in second.summary["stages"].values()) == 0
    assert second.summary["models"] == first.summary["models"]


def test_without_a_folder_nothing_is_written(toys: str, photos: Photos, tmp_path: Path) -> None:
    folder = photos("a.png", "b.png")
    before = set(tmp_path.rglob("*"))
    made = unposed.reconstruct(folder, preset=toys, cache=tmp_path / "elsewhere")
    assert len(made.sparse.models[0].photos) == 2
    assert {path.relative_to(tmp_path).parts[0] for path in set(tmp_path.rglob("*")) - before} == {"elsewhere"}


def test_filters_and_camera_groups(toys: str, photos: Photos, tmp_path: Path) -> None:
    folder = photos("a.png", "b.png", "c.png", "sub/d.png")
    made = unposed.reconstruct(folder, preset=toys, exclude=["b*"], include=["*.png"], cameras="single")
    assert [photo.name for photo in made.photos.photos] == ["a.png", "c.png", "sub/d.png"]
    assert made.summary["settings"]["cameras"]["grouping"] == "single"


def test_an_executor_by_name(toys: str, photos: Photos, tmp_path: Path, capsys: Capture) -> None:
    run = ["reconstruct", str(photos("a.png", "b.png")), "-o", str(tmp_path / "out"), "--preset", toys, "--executor"]
    assert main([*run, "backwards"]) == 0
    assert capsys.readouterr().err == "backwards\n" * 2  # per photo, per pair
    assert "executor: no such plugin 'lokal'; did you mean local?" in complaint(capsys, *run, "lokal")


def test_load_and_export(toys: str, photos: Photos, tmp_path: Path, capsys: Capture) -> None:
    folder, out = photos("a.png", "b.png", "c.png"), tmp_path / "out"
    made = unposed.reconstruct(folder, out, preset=toys, settings=["fine.at_most=2"])
    again = unposed.load(out)
    assert again.sparse.left_out == {2: "the toy is full"}
    assert (again.sparse.models[0].points == made.sparse.models[0].points).all()

    assert main(["export", str(out), "--to", "names", "-o", str(tmp_path / "names")]) == 0
    assert (tmp_path / "names" / "names.txt").read_text() == "a.png\nb.png"
    capsys.readouterr()
    made.export("names", tmp_path / "more", separator=", ")
    assert (tmp_path / "more" / "names.txt").read_text() == "a.png, b.png"
    made.export("names", tmp_path / "more", separator="+")  # an older export is replaced
    assert (tmp_path / "more" / "names.txt").read_text() == "a.png+b.png"
    (tmp_path / "more" / "mine.txt").touch()
    assert "holds other files (mine.txt)" in complaint(capsys, "export", out, "--to", "names", "-o", tmp_path / "more")
    assert "did you mean names?" in complaint(capsys, "export", out, "--to", "name", "-o", tmp_path / "x")
    assert "no finished reconstruction" in complaint(capsys, "export", folder, "--to", "names", "-o", tmp_path / "x")


def test_masks_are_found_again_and_photos_that_have_moved(
    toys: str, photos: Photos, tmp_path: Path, capsys: Capture
) -> None:
    folder, out, masks = photos("a.png", "b.png"), tmp_path / "out", tmp_path / "masks"
    masks.mkdir()
    shutil.copy(folder / "a.png", masks / "a.png.png")
    unposed.reconstruct(folder, out, preset=toys, masks=masks)
    assert unposed.load(out).photos[0].mask == masks / "a.png.png"
    shutil.rmtree(masks)
    assert unposed.load(out).photos[0].mask is None
    folder.rename(tmp_path / "elsewhere")
    assert f"no longer in {folder}: say where" in complaint(capsys, "export", out, "--to", "ply", "-o", tmp_path / "x")
    again = ["export", out, "--to", "ply", "-o", tmp_path / "x", "--photos", tmp_path / "elsewhere"]
    assert main([str(arg) for arg in again]) == 0


def test_progress_is_closed_whatever_happens(toys: str, photos: Photos, tmp_path: Path) -> None:
    class Closing(Quiet):
        closed = False

        def close(self) -> None:
            self.closed = True

    for folder, out in {photos("a.png", "b.png"): tmp_path / "out", tmp_path / "nowhere": None}.items():
        progress = Closing()
        with nullcontext() if out else pytest.raises(InputError):
            unposed.reconstruct(folder, out, preset=toys, progress=progress)
        assert progress.closed


# -- refusals: exit code 2, one line


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--preset", "clasic"], "clasic: no such preset"),
        (["--preset", "nowhere.yaml"], "nowhere.yaml: no such preset file"),
        (["--set", "matching.use=tyo"], "matching: no such plugin 'tyo'; did you mean toy?"),
        (["--set", "matching.use=broken"], "plugin matching.broken of toys 1.0 cannot be loaded"),
        (["--set", "matching.shar=0.5"], "matching.shar: no such option; did you mean share?"),
        (["--set", "matching.share=0.8x"], "matching.share: expected float in (0, 1], got '0.8x'"),
        (["--set", "matching.share=2"], "matching.share: expected float in (0, 1], got 2"),
        (["--set", "match.share=1"], "match: no such node; did you mean matching?"),
        (["--set", "matching.share"], "expected node.key=value"),
        (["--set", "matching.from={features: matching}"], "the graph has a cycle: matching reads matching"),
        (["--set", "fine.from={matching: graph}"], "fine: wants PerPair[PairMatches], node 'graph' gives SceneGraph"),
        (["--exclude", "*"], "no photos"),
        (["--include", "a.png"], "only one usable photo"),
        (["--masks", "nowhere"], "no such mask folder"),
    ],
)
def test_bad_settings(more: list[str], reason: str, toys: str, photos: Photos, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    line = ["reconstruct", photos("a.png", "b.png"), "-o", out, *(["--preset", toys] if "--preset" not in more else [])]
    assert reason in complaint(capsys, *line, *more)
    assert not out.exists()


def test_bad_photo_folders(toys: str, photos: Photos, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    folder = photos("one.png")
    (tmp_path / "empty").mkdir()
    for where, reason in {
        tmp_path / "photo": f"no such photo folder: {tmp_path / 'photo'}: did you mean {folder}?",
        tmp_path / "empty": "no photos in",
        folder / "one.png": "is a file: give the folder that holds it",
        folder: "only one usable photo",
    }.items():
        assert reason in complaint(capsys, "reconstruct", where, "-o", out, "--preset", toys)
        assert not out.exists()


def test_output_folders_that_cannot_be_used(toys: str, photos: Photos, tmp_path: Path, capsys: Capture) -> None:
    folder = photos("a.png", "b.png")
    (tmp_path / "file").write_text("")
    run = ["reconstruct", folder, "--preset", toys, "-o"]
    assert "cannot be written" in complaint(capsys, *run, tmp_path / "file")
    assert "cannot be written" in complaint(capsys, *run, tmp_path / "file" / "below")
    assert "holds other files (a.png)" in complaint(capsys, *run, folder)
    assert sorted(entry.name for entry in folder.iterdir()) == ["a.png", "b.png"]


def test_an_output_folder_in_use(toys: str, photos: Photos, tmp_path: Path, capsys: Capture) -> None:
    folder, out = photos("a.png", "b.png"), tmp_path / "out"
    with locked_folder(out):
        assert "is in use by another run" in complaint(capsys, "reconstruct", folder, "-o", out, "--preset", toys)
    assert main(["reconstruct", str(folder), "-o", str(out), "--preset", toys]) == 0


def test_a_disk_that_fills_up_spoils_nothing(
    toys: str, photos: Photos, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = photos("a.png", "b.png"), tmp_path / "out"
    run = ["reconstruct", folder, "-o", out, "--preset", toys, "--seed"]
    assert main([str(arg) for arg in [*run, 1]]) == 0
    capsys.readouterr()

    def full(scenes: object, photos: object, sparse: Path) -> None:
        sparse.mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("unposed.runs.write_models", full)
    assert "cannot be written (No space left on device); run again" in complaint(capsys, *run, 2)
    assert summary(out)["seed"] == 1
    assert pycolmap.Reconstruction(out / "sparse" / "0").num_images() == 2
    assert not (out / ".new").exists()


def test_a_log_without_room_is_not_worth_the_run(tmp_path: Path) -> None:
    with RunLog(Path("/dev/full"), Quiet()) as log:
        log.write("a line")
        log.end("matching", 1.0)


# -- no reconstruction: exit code 3, and a summary that says why


def test_nothing_placed(toys: str, photos: Photos, tmp_path: Path, capsys: Capture) -> None:
    folder, out = photos("a.png", "b.png"), tmp_path / "out"
    run = ["reconstruct", folder, "-o", out, "--preset", toys]
    assert main([str(arg) for arg in run]) == 0
    capsys.readouterr()
    line = complaint(capsys, *run, "--set", "fine.at_most=0", code=3)
    assert "none of the 2 photos could be registered" in line
    assert re.search("unposed pairs .*photos lists what was matched with what", line)
    assert summary(out)["registered"] == 0
    assert not (out / "sparse").exists()


def test_one_photo_beside_damaged_ones_is_too_few(yard: PhotoSet, tmp_path: Path, capsys: Capture) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    shutil.copy(yard.images / "0000.jpg", folder)
    content = (yard.images / "0001.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    (folder / "text.jpg").write_text("a text")
    line = complaint(capsys, "reconstruct", folder, "-o", out, "--preset", "classic", "--device", "cpu")
    assert f"only one usable photo in {folder}: at least two that overlap are needed" in line
    assert "text.jpg cannot be used: not an image" in line
    assert "cut.jpg cannot be used: photo: the file is damaged or cut off" in line
    shutil.copy(folder / "0000.jpg", folder / "copy.jpg")  # which has no baseline
    line = complaint(capsys, "reconstruct", folder, "-o", out, "--preset", "classic", "--device", "cpu", code=3)
    assert "none of the 4 photos could be registered" in line and "cut.jpg cannot be used" in line
    assert main(["pairs", str(folder), "--preset", "classic", "--device", "cpu", "--quiet"]) == 0
    said = {row.split()[0]: row for row in capsys.readouterr().out.splitlines()}
    assert "the file is damaged or cut off" in said["cut.jpg"] and "not read: not an image" in said["text.jpg"]


def test_a_stage_gives_up(toys: str, photos: Photos, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    preset = tmp_path / "sorry.yaml"
    preset.write_text(f"extends: {toys}\nfine: {{use: sorry}}\ncameras: null\n")
    run = ["reconstruct", photos("a.png", "b.png"), "-o", out, "--preset", preset]
    assert "fine: no two photos show the same thing" in complaint(capsys, *run, code=3)
    said = summary(out)
    assert said["failure"].startswith("fine: no two photos")
    assert said["stages"]["matching"]["computed"] == 1
    assert "stopped" not in (out / "run.log").read_text()


def test_too_few_placed(toys: str, photos: Photos, tmp_path: Path, capsys: Capture) -> None:
    folder, out = photos("a.png", "b.png", "c.png", "d.png"), tmp_path / "out"
    run = ["reconstruct", folder, "-o", out, "--preset", toys, "--set", "fine.at_most=3", "--require"]
    assert main([str(arg) for arg in [*run, "0.75"]]) == 0
    capsys.readouterr()
    assert "registered only 3 of 4 photos, 80% are required" in complaint(capsys, *run, "0.8", code=3)
    assert (out / "sparse" / "0").is_dir()
    with pytest.raises(NoReconstruction):
        unposed.reconstruct(folder, preset=toys, settings={"fine.at_most": 3}, require=1.0)


def test_a_graph_without_a_reconstruction(toys: str, photos: Photos, tmp_path: Path) -> None:
    preset = tmp_path / "half.yaml"
    preset.write_text("features: {use: toy}\noutputs: [features]\n")
    with pytest.raises(ConfigError, match="no node gives SparseModels"):
        unposed.reconstruct(photos("a.png", "b.png"), preset=preset)


# -- several processes


def test_two_runs_on_one_cache_at_once(toys: str, photos: Photos, tmp_path: Path) -> None:
    folder = photos(*(f"{number}.png" for number in range(8)))
    line = command("reconstruct", folder, "--preset", toys, "--set", "features.pause_s=0.05")
    runs = [
        subprocess.Popen(
            [*line, "-o", str(tmp_path / f"out{n}")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in (0, 1)
    ]
    for run in runs:
        _, errors = run.communicate(timeout=60)
        assert (run.returncode, errors) == (0, "")
    for file in ("cameras.bin", "images.bin", "points3D.bin"):
        first, second = ((tmp_path / f"out{n}" / "sparse" / "0" / file).read_bytes() for n in (0, 1))
        assert first == second


def test_ctrl_c_leaves_what_is_finished_for_the_next_run(toys: str, photos: Photos, tmp_path: Path) -> None:
    folder, out = photos(*(f"{number}.png" for number in range(12))), tmp_path / "out"
    line = [*command("reconstruct", folder, "-o", out, "--preset", toys, "--workers", "1")]
    line += ["--json", "--set", "features.pause_s=0.2"]
    run = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    for event in run.stderr:
        if '"progress", "node": "features"' in event:
            break
    run.send_signal(signal.SIGINT)
    printed, errors = run.communicate(timeout=60)
    assert run.returncode == 4
    assert printed == ""
    assert "resume" in errors.splitlines()[-1]
    assert not (out / "summary.json").exists()
    assert "stopped: interrupted" in (out / "run.log").read_text()

    done = subprocess.run(line, capture_output=True, text=True, check=True)
    features = json.loads(done.stdout)["stages"]["features"]
    assert features["computed"] + features["reused"] == 12
    assert features["reused"] >= 1


def test_a_killed_run_leaves_the_folder_usable(toys: str, photos: Photos, tmp_path: Path) -> None:
    folder, out = photos("a.png", "b.png", "c.png"), tmp_path / "out"
    line = command("reconstruct", folder, "-o", out, "--preset", toys, "--json", "--set", "features.pause_s=30")
    run = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    for event in run.stderr:
        if '"features"' in event:
            break
    with pytest.raises(InputError, match="in use"):
        unposed.reconstruct(folder, out, preset=toys)
    run.kill()
    run.communicate(timeout=60)
    made = unposed.reconstruct(folder, out, preset=toys)
    assert made.summary["registered"] == 3
    assert not (out / ".new").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_what_containers_and_terminals_send_ends_a_run_like_ctrl_c(
    toys: str, photos: Photos, tmp_path: Path, number: signal.Signals
) -> None:
    """Also after pycolmap, which brings handlers of its own, was imported."""
    folder, out = photos(*(f"{n}.png" for n in range(12))), tmp_path / "out"
    line = [*command("reconstruct", folder, "-o", out, "--preset", toys, "--workers", "1")]
    line += ["--json", "--set", "features.pause_s=0.2"]
    line[1:3] = [
        "-c",
        "import sys; from unposed.process import end_as_by_ctrl_c; end_as_by_ctrl_c(); import pycolmap; "
        "from unposed.cli import main; sys.exit(main(sys.argv[1:]))",
    ]
    run = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    for event in run.stderr:
        if '"progress", "node": "features"' in event:
            break
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 4
    last = errors.splitlines()[-1]
    assert last.startswith("unposed: interrupted") and "Aborted at" not in errors
    assert "stopped: interrupted" in (out / "run.log").read_text()
    assert not (out / ".new").exists()


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    """As `nohup` wants it."""
    code = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from unposed.process import end_as_by_ctrl_c
end_as_by_ctrl_c()
print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.parametrize(
    "broken",
    ["unposed.pipeline.runner.Runner.demand", "unposed.summary.stages", "unposed.runs.write_models"],
)
def test_a_crash_anywhere_still_sums_up_what_is_known(
    toys: str, photos: Photos, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def crash(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("by\nzero")

    out, run = tmp_path / "out", ["reconstruct", photos("a.png", "b.png"), "--preset", toys]
    run += ["-o", out]
    with monkeypatch.context() as patch:
        patch.setattr(broken, crash)
        error = complaint(capsys, *run, code=1)
    assert "failed with an unexpected ZeroDivisionError: by zero" in error
    said = summary(out)
    assert "ZeroDivisionError: by zero" in said["failure"] and said["total"] == 2 and said["registered"] == 0
    assert set(said["photos"]) == {"a.png", "b.png"} and said["settings"]["features"]["use"] == "features.toy"
    assert not (out / "sparse").exists()
    assert main([str(each) for each in run]) == 0
    assert summary(out)["registered"] == 2


@pytest.mark.parametrize("broken", ["unposed.pipeline.runner.Runner.demand", "unposed.summary.stages"])
def test_trouble_of_the_moment_leaves_an_older_result(
    toys: str, photos: Photos, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def exhausted(*arguments: object, **options: object) -> None:
        raise OSError(24, "Too many open files")

    out, run = tmp_path / "out", ["reconstruct", photos("a.png", "b.png"), "--preset", toys]
    run += ["-o", out]
    assert main([str(each) for each in run]) == 0
    before = summary(out)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(broken, exhausted)
        assert "Too many open files" in complaint(capsys, *run, code=1)
    assert summary(out) == before and (out / "sparse" / "0").is_dir()
