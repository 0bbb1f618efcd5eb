"""Videos as photos: which frames are taken, how they are named and turned, and what cannot be read."""

from __future__ import annotations

import builtins
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import unposed
from unposed.cli import main
from unposed.photo_sources import collect
from unposed.pipeline.errors import InputError
from unposed.synthetic.photos import PhotoSet
from unposed.video.frames import video_frames

av = pytest.importorskip("av", reason="PyAV is not installed")

Picture = NDArray[np.uint8]


def encode(
    file: Path,
    pictures: Sequence[Picture],
    times_ms: Sequence[int] | None = None,
    turned: int = 0,
    key_frames_every: int = 12,
) -> Path:
    """A clip of these pictures, at 30 frames a second or at the given times."""
    height, width = pictures[0].shape[:2]
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 8_000_000
        stream.gop_size = key_frames_every
        if turned:
            stream.set_display_rotation(turned)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number if times_ms is None else round(times_ms[number] * 30 / 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file


@pytest.fixture(scope="module")
def wall() -> Picture:
    """Something to pan over."""
    rng = np.random.default_rng(0)
    fine = rng.integers(0, 256, (60, 300, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(fine, (2400, 480), interpolation=cv2.INTER_CUBIC), np.uint8)


def pan(wall: Picture, places: Sequence[float]) -> list[Picture]:
    return [np.ascontiguousarray(wall[:240, round(x) : round(x) + 320]) for x in places]


def test_frames_of_a_pan(wall: Picture, tmp_path: Path) -> None:
    places = [*np.arange(0, 300, 4.0), *[300.0] * 60, *np.arange(300, 600, 4.0)]
    pictures = pan(wall, places)
    for number in range(20, 30):
        pictures[number] = np.asarray(cv2.GaussianBlur(pictures[number], (0, 0), 4), np.uint8)
    found = video_frames(encode(tmp_path / "pan.mp4", pictures), "content", tmp_path / "cache", budget=20)
    assert 15 <= len(found.files) <= 20
    assert found.examined == len(pictures)
    assert found.duplicates >= 50  # while the camera rests
    assert 8 <= found.blurred <= 14
    frame_of = [round(time_s * 30) for time_s in found.times_s]
    assert not set(frame_of) & set(range(21, 29))
    assert sum(76 < number < 134 for number in frame_of) <= 1
    assert [int(name[:9]) for name in found.files] == [round(1000 * time_s) for time_s in found.times_s]
    for name, number in zip(found.files, frame_of, strict=True):
        off = np.abs(np.asarray(Image.open(found.folder / name)).astype(int) - pictures[number])
        assert np.median(off) < 12
    again = video_frames(tmp_path / "gone.mp4", "content", tmp_path / "cache", budget=20)
    assert again == found  # the file is not read again


def test_turned_and_irregular_videos(wall: Picture, tmp_path: Path) -> None:
    pictures = pan(wall, np.arange(0, 400, 10.0).tolist())
    times_ms = np.cumsum([0, *np.tile([33, 34, 133], 13)]).tolist()
    found = video_frames(encode(tmp_path / "a.mp4", pictures, times_ms, turned=90), "a", tmp_path / "cache", 10)
    assert found.rotation_deg == 90
    first = np.asarray(Image.open(found.folder / found.files[0]))
    assert first.shape == (320, 240, 3)
    known = [int(np.argmin(np.abs(np.array(times_ms) / 1000 - time_s))) for time_s in found.times_s]
    upright = np.rot90(pictures[known[0]])
    assert np.median(np.abs(first.astype(int) - upright)) < 12
    assert np.allclose(found.times_s, [times_ms[k] / 1000 for k in known], atol=0.02)


@pytest.fixture(scope="module")
def clip(yard: PhotoSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos of the yard as a video: each three times, once blurred."""
    pictures = []
    for file in sorted(yard.images.iterdir()):
        picture = np.asarray(Image.open(file).convert("RGB"))
        pictures += [picture, picture, np.asarray(cv2.GaussianBlur(picture, (0, 0), 3), np.uint8), picture]
    return encode(tmp_path_factory.mktemp("clip") / "walk.mp4", pictures)


def test_a_clip_is_reconstructed(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    line = ["reconstruct", str(clip), "-o", str(out), "--cache", str(cache), "--frames", "14", "--device", "cpu"]
    assert main([*line, "--quiet"]) == 0
    made = unposed.load(out)
    assert 10 <= made.summary["registered"] == made.summary["total"] <= 14
    assert all(name.startswith("walk.mp4/0000") for name in made.summary["photos"])
    assert sorted(file.name for file in clip.parent.iterdir()) == ["walk.mp4"]  # nothing is left beside it
    log = (out / "run.log").read_text()
    assert "frames taken" in log and "frames are paired along their clips" in log
    assert made.summary["settings"]["graph"]["use"] == "graph.clips"
    names = sorted(made.summary["photos"])
    verified = {tuple(row[:2]) for row in made.summary["models"][0]["refinement"]["pairs"]}
    assert set(pairwise(names)) <= verified  # each frame with the one after it
    found = unposed.localize(out, Path(made.summary["photos"][made[0].photo_names[3]]["file"]), cache=cache)
    assert next(iter(found.values())).same_as == made[0].photo_names[3]


def test_stills_and_clips_are_one_collection(clip: Path, yard: PhotoSet, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    (folder / "b").mkdir(parents=True)
    shutil.copy(clip, folder / "b" / "walk.MP4")
    still = sorted(yard.images.iterdir())[0]
    shutil.copy(still, folder / still.name)
    (folder / "bad.mov").write_bytes(b"nothing")
    lines: list[str] = []
    photos, root = collect(folder, tmp_path / "cache", frames=5, note=lines.append)
    assert root == folder
    names = [photo.name for photo in photos.photos]
    assert names == sorted(names) and still.name in names
    assert 2 <= sum(name.startswith("b/walk.MP4/") for name in names) <= 5
    assert photos.rejected["bad.mov"].startswith("cannot be read as a video")
    assert any("frames taken" in line for line in lines) and any(line.startswith("bad.mov") for line in lines)


def test_what_cannot_be_read_is_named(wall: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    with pytest.raises(
        InputError, match=r"bad.mp4: cannot be read as a video: Invalid data found when processing input$"
    ):
        unposed.reconstruct(tmp_path / "bad.mp4", cache=tmp_path / "cache")
    still = encode(tmp_path / "still.mp4", pan(wall, [0.0] * 30))
    with pytest.raises(InputError, match=r"only 1 are worth being photos: the camera has to move"):
        unposed.reconstruct(still, cache=tmp_path / "cache")
    real = builtins.__import__

    def without_av(name: str, *rest: Any) -> Any:
        if name == "av":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(InputError, match=r"needs PyAV: pip install 'unposed\[video\]'"):
        video_frames(still, "other", tmp_path / "cache")


def test_long_videos_are_examined_by_their_key_frames(
    wall: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import unposed.video.frames as module

    file = encode(tmp_path / "long.mp4", pan(wall, np.arange(0, 1200, 10.0).tolist()))
    monkeypatch.setattr(module, "MOST_EXAMINED", 50)
    found = video_frames(file, "long", tmp_path / "cache", 5)
    assert found.examined < 40  # of 120: every twelfth is a key frame
    assert 2 <= len(found.files) <= 5


def test_videos_without_key_frames(wall: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the first one: short videos are examined whole, long ones cannot be."""
    import unposed.video.frames as module

    pictures = pan(wall, np.arange(0, 600, 5.0).tolist())
    file = encode(tmp_path / "a.mp4", pictures, key_frames_every=1000)
    assert video_frames(file, "a", tmp_path / "cache", 5).examined == len(pictures)
    monkeypatch.setattr(module, "MOST_EXAMINED", 50)
    with pytest.raises(InputError, match=r"a.mp4: of more than 50 frames key frames .* it has only one: cut it"):
        video_frames(file, "b", tmp_path / "cache", 5)
