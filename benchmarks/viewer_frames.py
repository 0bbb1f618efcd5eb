"""Frame time of `unposed view` in Chromium, of a made-up model: random points, and cameras in a ring around them.

    python benchmarks/viewer_frames.py --photo PHOTO --points 1000000 --cameras 500

PHOTO is shown in as many cameras as `--pictured` says. Needs the extra `view` and Chromium, started as the tests do.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unposed.pipeline.artifacts import Camera, Photos, SparseModel, SparseModels
from unposed.pipeline.images.photos import single_photos
from unposed.reconstruction import Reconstruction
from unposed.viewer.beside import Beside
from unposed.viewer.window import opened

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from browser import browser

SETTLE_S, FRAMES = 15.0, 40
TURN = f"""new Promise(done => {{
  const canvas = document.querySelector('canvas'), box = canvas.getBoundingClientRect(), times = [];
  const send = (kind, x) => canvas.dispatchEvent(new PointerEvent(kind, {{clientX: x, clientY: box.top + box.height / 2,
    button: 0, buttons: 1, pointerId: 1, bubbles: true, pointerType: 'mouse'}}));
  const middle = box.left + box.width / 2;
  send('pointerdown', middle);
  const frame = () => {{
    times.push(performance.now());
    send('pointermove', middle + 3 * times.length);
    if (times.length <= {FRAMES}) return requestAnimationFrame(frame);
    send('pointerup', middle);
    done((times[times.length - 1] - times[0]) / (times.length - 1));
  }};
  requestAnimationFrame(frame);
}})"""


def ring(photo: Path, points: int, cameras: int) -> Reconstruction:
    """Every point is seen by two cameras, which look at the middle."""
    rng = np.random.default_rng(0)
    angle = np.linspace(0.0, 2.0 * np.pi, cameras, endpoint=False)
    centres = np.stack([5.0 * np.cos(angle), 5.0 * np.sin(angle), np.ones(cameras)], axis=1)
    ahead = -centres / np.linalg.norm(centres, axis=1, keepdims=True)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    turns = np.stack([right, np.cross(ahead, right), ahead], axis=1)
    poses = np.concatenate([turns, -turns @ centres[:, :, None]], axis=2)
    seen_by = rng.integers(0, cameras, 2 * points)
    row_of = np.empty(2 * points, np.int64)
    row_of[np.argsort(seen_by, kind="stable")] = np.arange(2 * points)
    (one,) = single_photos(photo).photos
    focal = float(max(one.width, one.height))
    model = SparseModel(
        cameras=(Camera("PINHOLE", one.width, one.height, np.array([focal, focal, one.width / 2, one.height / 2])),),
        photos=np.arange(cameras),
        camera_of_photo=np.zeros(cameras, np.int64),
        cam_from_world=poses,
        xy=np.zeros((2 * points, 2)),
        xy_start=np.concatenate([[0], np.cumsum(np.bincount(seen_by, minlength=cameras))]),
        points=rng.normal(size=(points, 3)),
        rgb=rng.integers(0, 255, (points, 3), dtype=np.uint8),
        error_px=rng.random(points),
        obs_xy=row_of,
        obs_point=np.repeat(np.arange(points), 2),
    )
    photos = Photos(tuple(replace(one, name=f"{i:05d}.jpg") for i in range(cameras)), {})
    summary: dict[str, Any] = {"models": [{}]}
    return Reconstruction(photos, SparseModels((model,), {}), summary)


def main() -> None:
    """Print CPU seconds until all is drawn, and the mean time of a frame while the scene is turned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--cameras", type=int, default=500)
    parser.add_argument("--pictured", type=int, default=100, help="cameras that get their photo after a first look")
    arguments = parser.parse_args()
    made = ring(arguments.photo, arguments.points, arguments.cameras)
    begin = time.process_time()
    window = opened("127.0.0.1", 0)
    window.show(made, Beside(None, None))
    print(f"drawn after {time.process_time() - begin:.1f} CPU s", flush=True)
    with browser() as tab:
        tab.open(f"http://127.0.0.1:{window.server.get_port()}")
        time.sleep(SETTLE_S)
        print(f"as it is: {tab.ask(TURN):.0f} ms a frame", flush=True)
        window.controls["pictured"].value = min(arguments.pictured, arguments.cameras)
        time.sleep(SETTLE_S)
        print(f"{arguments.pictured} with photo: {tab.ask(TURN):.0f} ms a frame", flush=True)
        window.controls["cameras"].value = False
        time.sleep(SETTLE_S)
        print(f"without cameras: {tab.ask(TURN):.0f} ms a frame", flush=True)
    window.server.stop()


if __name__ == "__main__":
    main()
