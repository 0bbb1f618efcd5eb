"""Clips from photos in order, as a hand-held camera has them: some frames smeared by motion, others shown twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from unposed.pipeline.artifacts import Bytes
from unposed.synthetic.camera import Shot, look_at, simple_lens
from unposed.synthetic.places import courtyard
from unposed.synthetic.scenes import Scene

FRAMES_PER_S = 30
SMEARED, TWICE = 0.5, 0.5
"""Share of the photos before which a smeared frame comes, and of those that are shown once more."""
SMEAR = 0.03
"""Length of the way that a smeared frame moves while the shutter is open, as a share of its width."""


@dataclass(frozen=True)
class Clip:
    """A video of photos."""

    file: Path
    photo_of_frame: tuple[int, ...]

    def photo_at(self, name: str) -> int:
        """The photo that a frame shows, by the name of the frame, its time in milliseconds."""
        frame = round(int(Path(name).stem) * FRAMES_PER_S / 1000)
        return self.photo_of_frame[frame]


def write_clip(photos: Sequence[Path], file: Path, width_px: int, seed: int = 0) -> Clip:
    """Encode photos of one size in their order as H.264, with smeared frames and duplicates among them."""
    rng = np.random.default_rng(seed)
    shown: list[int] = []
    height, width = cv2.imread(str(photos[0])).shape[:2]
    size = 2 * (width_px // 2), 2 * round(height * width_px / width / 2)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_S, options={"crf": "18"})
        stream.width, stream.height = size
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, FRAMES_PER_S)
        for photo, path in enumerate(photos):
            sharp = cv2.resize(cv2.imread(str(path)), size, interpolation=cv2.INTER_AREA)
            smeared = [_smeared(sharp, rng.uniform(0.0, np.pi))] if rng.random() < SMEARED else []
            for picture in [*smeared, *[sharp] * (2 if rng.random() < TWICE else 1)]:
                frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
                frame.pts = len(shown)
                shown.append(photo)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Clip(file, tuple(shown))


def every_frame(clip: Clip) -> dict[str, Bytes]:
    """All frames by name."""
    with av.open(str(clip.file)) as container:
        return {f"{n:06d}.png": frame.to_ndarray(format="rgb24") for n, frame in enumerate(container.decode(video=0))}


def write_frame_truth(clip: Clip, truth: Path, photos: Sequence[Path], names: Sequence[str], file: Path) -> None:
    """The true poses of frames, which are those of the photos that they show."""
    known = json.loads(truth.read_text(encoding="utf-8"))
    entries = {name: known["images"].get(photos[clip.photo_at(name)].name) for name in names}
    file.write_text(
        json.dumps({**known, "images": {name: entry for name, entry in entries.items() if entry}}), encoding="utf-8"
    )


def walk(photos: int = 180, width_px: int = 320, seed: int = 0) -> Scene:
    """A walk once around the still life of the courtyard and a little further, two degrees between frames."""
    lens = simple_lens(width_px, width_px * 2 // 3, 62)
    shots = []
    for i, angle in enumerate(np.radians(np.linspace(0.0, 380.0, photos))):
        radius = 4.3 + 0.25 * np.sin(2.0 * angle)
        eye = np.array([radius * np.cos(angle), radius * np.sin(angle), 1.8 + 0.3 * np.sin(3.0 * angle)])
        shots.append(Shot(f"{i:04d}.jpg", lens, look_at(eye, (0.0, 0.0, 0.75), 3.0 * np.sin(5.0 * angle))))
    return Scene("walk", courtyard(seed), tuple(shots))


def _smeared(picture: Bytes, angle_rad: float) -> Bytes:
    """What a shutter that stays open while the picture moves along a line sees."""
    length = max(3, round(SMEAR * picture.shape[1]))
    kernel = np.zeros((length, length), np.float32)
    middle, reach = (length - 1) / 2, length / 2
    steps = np.linspace(-reach, reach, 4 * length)
    x, y = (np.clip(np.rint(middle + steps * of(angle_rad)), 0, length - 1).astype(int) for of in (np.cos, np.sin))
    kernel[y, x] = 1.0
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT), np.uint8)
