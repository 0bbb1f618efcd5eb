"""Our evaluation of ALIKED beside kornia's module: processor time, memory, and how far apart the results are.

    python benchmarks/aliked.py PHOTO --weights aliked-n16rot.pth [--model n16rot] [--side 1024] [--rounds 5]

Each has a process of its own, with one thread; time is the least of the rounds, memory the peak beyond that of the
process with the network loaded.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import kornia.feature
import numpy as np
import torch

from unposed.networks.aliked import detect

LIMIT, MIN_SCORE = 4096, 0.2


def main() -> None:
    """Both in turn, or one of them."""
    args = _arguments()
    if args.how:
        print(json.dumps(_measure(args)))
        return
    figures = {}
    for how in ("kornia", "ours"):
        command = [sys.executable, __file__, *sys.argv[1:], "--how", how]
        figures[how] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"{how:7} {figures[how]['cpu_s']:.3f} CPU s, {figures[how]['peak_mb']:.0f} MB, {figures[how]['n']} points"
        )
    print(f"ratio   {figures['kornia']['cpu_s'] / figures['ours']['cpu_s']:.1f}")
    print(_apart(figures["kornia"], figures["ours"]))


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    net = kornia.feature.ALIKED(f"aliked-{args.model}", LIMIT, MIN_SCORE).eval()
    net.load_state_dict(torch.load(args.weights, weights_only=True), strict=False)
    image = cv2.cvtColor(cv2.imread(str(args.photo)), cv2.COLOR_BGR2RGB)
    factor = min(1.0, args.side / max(image.shape))
    image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    with torch.inference_mode():
        for _ in range(args.rounds):
            start = time.process_time()
            found: Any = net(pixels)[0] if args.how == "kornia" else detect(net, pixels, LIMIT, MIN_SCORE)[0]
            seconds.append(time.process_time() - start)
    xy, score = (found.keypoints, found.keypoint_scores) if args.how == "kornia" else (found.xy, found.score)
    return {
        "cpu_s": min(seconds),
        "peak_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "n": len(xy),
        "xy": xy.tolist(),
        "score": score.tolist(),
        "descriptors": found.descriptors.tolist(),
    }


def _apart(kornia_: dict[str, Any], ours: dict[str, Any]) -> str:
    theirs, mine = np.array(kornia_["xy"]), np.array(ours["xy"])
    distance = np.linalg.norm(mine[:, None] - theirs[None], axis=2)
    row = distance.argmin(axis=1)
    same = distance.min(axis=1) < 0.01
    parts = [
        np.abs(np.array(ours[key])[same] - np.array(kornia_[key])[row[same]]).max() for key in ("score", "descriptors")
    ]
    return (
        f"apart   {same.mean():.2%} of the points are the same, to {distance.min(axis=1)[same].max():.0e} px; "
        f"scores to {parts[0]:.0e}, descriptors to {parts[1]:.0e}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--model", default="n16rot")
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--how", choices=("kornia", "ours"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
