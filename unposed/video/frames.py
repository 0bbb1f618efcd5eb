"""Frames of a video as photo files in the cache: chosen from a small copy of all, then read once more at full size.

PyAV reads the videos; it is imported late, since few runs need it (`pip install 'unposed[video]'`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unposed.optim.arrays import Array
from unposed.pipeline.artifacts import Bytes
from unposed.pipeline.errors import InputError, StoreError
from unposed.retrieval.frame_choice import FrameChoice, FrameChoiceOptions, choose_frames, frames_by_motion

SMALL_SIDE_PX = 320
"""Longer side of the copies that motion and sharpness are measured on."""
FRAMES_PER_S, FEWEST, MOST = 2.0, 60, 300
"""Default budget: two frames a second, or as many as overlap where the camera moves quickly, within these limits. Up to
sixty photos are little work."""
MOST_EXAMINED = 20_000
"""Of longer videos, eleven minutes at 30 frames a second, key frames alone are examined: they are a second or two
apart, and decoding the others would take hours."""
QUALITY = 95
LIST = "frames.json"
VERSION = 4
"""Raised when other frames are chosen from the same video."""


@dataclass(frozen=True)
class VideoFrames:
    """The frames of a video that are photos now."""

    folder: Path
    files: tuple[str, ...]
    """Names in the folder, in the order of time."""
    times_s: tuple[float, ...]
    examined: int
    duplicates: int
    fast: int
    blurred: int
    rotation_deg: int
    """By which the video is turned when it is shown, counterclockwise; the files are upright."""

    def said(self, name: str) -> str:
        """One line for the log."""
        return (
            f"{name}: {len(self.files)} of {self.examined} frames taken; {self.duplicates} duplicates, {self.fast} in "
            f"quick motion and {self.blurred} blurred ones passed over"
        )


def video_frames(file: Path, content: str, cache: Path, budget: int | None = None) -> VideoFrames:
    """The frames of a video, from the cache if they are there. `content` is the hash of the file; budget: frames at
    most, by its length if None. InputError if it cannot be read, or gives fewer than two frames."""
    if budget is not None and budget < 2:
        raise InputError(f"frames: expected 2 or more of each video, got {budget}")
    options = FrameChoiceOptions()
    key = json.dumps([content, budget, asdict(options), SMALL_SIDE_PX, QUALITY, VERSION])
    folder = cache / hashlib.blake2b(key.encode(), digest_size=20).hexdigest()
    if (folder / LIST).is_file():
        with suppress(OSError):
            os.utime(folder)  # when it was used last
        return _listed(folder)
    sharpness, step, difference, pts, duration_s = _examined(file)
    if budget is None:
        by_motion = frames_by_motion(sharpness, step, difference, options)
        budget = int(np.clip(max(FRAMES_PER_S * duration_s, by_motion), FEWEST, MOST))
    choice = choose_frames(sharpness, step, difference, budget, options)
    if len(choice.rows) < 2:
        raise InputError(
            f"{file}: of {len(sharpness)} frames only {len(choice.rows)} are worth being photos: the camera has to move"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
        try:
            _write(file, [pts[row] for row in choice.rows.tolist()], choice, len(sharpness), new)
            new.rename(folder)  # complete or not there
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        if not folder.is_dir():  # or else another run has just written the same
            raise StoreError(f"frames cannot be written to {folder.parent}: {error.strerror or error}") from error
    return _listed(folder)


def _listed(folder: Path) -> VideoFrames:
    facts = json.loads((folder / LIST).read_text(encoding="utf-8"))
    frames = facts.pop("frames")
    return VideoFrames(folder, tuple(frames), tuple(frames.values()), **facts)


def _examined(file: Path) -> tuple[Array, Array, Array, list[int], float]:
    """Of every examined frame: sharpness, motion and difference since the one before, and its time stamp; and the
    duration in seconds."""
    columns: list[tuple[float, float, float]] = []
    pts: list[int] = []
    times: list[float] = []
    before: Bytes | None = None
    with _opened(file) as (container, stream):
        is_long = _take_key_frames_of_long(container, stream)
        for frame in _decoded(container, stream, file):
            scale = min(1.0, SMALL_SIDE_PX / max(frame.width, frame.height))
            width, height = (max(16, round(side * scale)) for side in (frame.width, frame.height))
            grey = frame.reformat(width, height, format="gray").to_ndarray()
            columns.append((_sharpness(grey), *_change(before, grey)))
            pts.append(int(frame.pts))
            times.append(float(frame.time or 0.0))
            before = grey
    if not columns:
        raise InputError(f"{file}: no frame of it can be decoded")
    if is_long and len(columns) < 2:
        raise InputError(
            f"{file}: of more than {MOST_EXAMINED:,} frames key frames alone are examined, and it has only one: cut it "
            "into shorter videos, or encode it with key frames (ffmpeg -i IN -g 30 OUT.mp4)"
        )
    sharpness, step, difference = np.array(columns, np.float64).T
    return sharpness, step, difference, pts, max(times) - min(times)


def _sharpness(grey: Bytes) -> float:
    """Variance of the Laplacian."""
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _change(before: Bytes | None, grey: Bytes) -> tuple[float, float]:
    """Median motion of corners as a share of the longer side, NaN where they are lost as at a cut; mean difference in
    grey levels."""
    if before is None or before.shape != grey.shape:
        return np.nan, 255.0
    difference = float(np.mean(cv2.absdiff(before, grey)))
    corners = cv2.goodFeaturesToTrack(before, 200, 0.01, 5)
    if corners is None or len(corners) < 8:
        return (0.0 if difference < 1.0 else np.nan), difference
    unknown: Any = None  # the annotations of OpenCV want an array
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, grey, corners, unknown, winSize=(15, 15), maxLevel=3)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(grey, before, there, unknown, winSize=(15, 15), maxLevel=3)
    moved = np.linalg.norm((there - corners)[:, 0], axis=1)
    sure = (found[:, 0] == 1) & (found_back[:, 0] == 1) & (np.linalg.norm((back - corners)[:, 0], axis=1) < 1.0)
    if sure.sum() < max(8, 0.2 * len(corners)):
        return np.nan, difference
    return float(np.median(moved[sure])) / max(grey.shape), difference


def _write(file: Path, chosen: Sequence[int], choice: FrameChoice, examined: int, folder: Path) -> None:
    """Write the chosen frames, upright, and their list."""
    wanted, frames, rotation = set(chosen), {}, 0
    with _opened(file) as (container, stream):
        _take_key_frames_of_long(container, stream)
        for frame in _decoded(container, stream, file):
            if frame.pts not in wanted:
                continue
            wanted.remove(frame.pts)
            rotation = int(frame.rotation)
            # The angle is counterclockwise, and turns of arrays are, too.
            rgb = np.rot90(frame.to_ndarray(format="rgb24"), rotation // 90 % 4)
            time_s = float(frame.time or 0.0)
            name = f"{round(1000 * time_s):09d}.jpg"  # milliseconds: names sort by time
            bgr = np.ascontiguousarray(rgb[:, :, ::-1])
            done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            if not done:
                raise InputError(f"{file}: its frames are too large to be written")
            (folder / name).write_bytes(data.tobytes())  # OpenCV's own files have no names in Unicode on Windows
            frames[name] = time_s
            if not wanted:
                break
    if wanted:
        raise InputError(f"{file}: {len(wanted)} of its frames cannot be decoded a second time")
    facts = {
        "frames": frames,
        "examined": examined,
        "duplicates": choice.duplicates,
        "fast": choice.fast,
        "blurred": choice.blurred,
        "rotation_deg": rotation,
    }
    (folder / LIST).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _take_key_frames_of_long(container: Any, stream: Any) -> bool:
    """Decode only the key frames of long videos; whether it is one."""
    length = stream.frames or float(container.duration or 0) / 1e6 * float(stream.average_rate or 30)
    if length > MOST_EXAMINED:
        stream.codec_context.skip_frame = "NONKEY"
    return bool(length > MOST_EXAMINED)


@contextmanager
def _opened(file: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream; InputError if PyAV or the file is not as it should be."""
    try:
        import av
    except ImportError:
        raise InputError(f"{file}: reading videos needs PyAV: pip install 'unposed[video]'") from None
    try:
        container = av.open(str(file))
    except (OSError, ValueError, av.FFmpegError) as error:
        raise InputError(f"{file}: cannot be read as a video: {_line(error)}") from None
    with container:
        if not container.streams.video:
            raise InputError(f"{file}: there is no video in it")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield container, stream


def _decoded(container: Any, stream: Any, file: Path) -> Iterator[Any]:
    """Frames with a time stamp; what follows damage is left out."""
    import av

    seen: set[int] = set()
    try:
        for frame in container.decode(stream):
            if frame.pts is not None and frame.pts not in seen:
                seen.add(frame.pts)
                yield frame
    except av.FFmpegError as error:
        if not seen:
            raise InputError(f"{file}: cannot be decoded: {_line(error)}") from None


def _line(error: Exception) -> str:
    """What a library says, without the number and the path that operating systems put around it."""
    said = getattr(error, "strerror", None) or str(error)
    return next(iter(said.splitlines()), type(error).__name__)
