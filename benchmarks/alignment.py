"""Coarse and fine stages on emulated pair predictions with known cameras: accuracy, CPU time and memory as tables.

    python benchmarks/alignment.py --oracle FOLDER --sizes 8,20,50,100 --stages align+bundle,adam+adam

FOLDER holds scene_n8.safetensors and the like (see oracle.py); other scenes are made up (emulation.py). Every run has a
process of its own. Verification is done before, and not counted. `--basin N` counts how many of N scenes with rough
depths and many wrong pairs the coarse alignment gets right.
"""

from __future__ import annotations

import argparse
import inspect
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from basin import share_of_successes
from emulation import made_up
from oracle import HARD, Noise, Oracle, read_safetensors

from unposed.optim.evaluation import evaluate_poses
from unposed.pipeline.artifacts import InitialModels, PairMatches, Photo, Photos, SparseModels
from unposed.pipeline.registry import Registry
from unposed.pipeline.stage import Resources, Sides

MAX_ERROR_PX = 3.8
"""For verification, in its own unit: three times the scatter of the matches."""

REACH = 10
"""From this many photos on, pairs are those with so many neighbours on either side."""
COMPLETE = 20

HEAD = (
    "scene",
    "noise",
    "stages",
    "pairs",
    "matches",
    "placed",
    "rotation / direction",
    "trajectory",
    "focal",
    "CPU s",
    "MB",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--oracle", type=Path, help="folder of scene_*.safetensors")
    parser.add_argument("--sizes", default="8,20,50,100", help="photos of made-up scenes")
    parser.add_argument("--seeds", type=int, default=1, help="made-up scenes per size")
    parser.add_argument("--stages", default="align+bundle", help="coarse+fine, several by commas")
    parser.add_argument("--basin", type=int, default=0, help="number of scenes for the convergence basin")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measured(**json.loads(arguments.case))))
        return
    rows = [row(case, run(case)) for case in cases(arguments)]
    for cells in (HEAD, ["---"] * len(HEAD), *rows):
        print(f"| {' | '.join(cells)} |", flush=True)
    if arguments.basin:
        print(f"\n{share_of_successes(arguments.basin)} of {arguments.basin} scenes within one degree")


def cases(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What is to be run: scene, noise, stages."""
    scenes = [str(file) for file in sorted(arguments.oracle.glob("*.safetensors"))] if arguments.oracle else []
    scenes += [f"{size}:{seed}" for size in filter(None, arguments.sizes.split(",")) for seed in range(arguments.seeds)]
    for scene in sorted(scenes, key=lambda name: (":" in name, len(name), name)):
        for hard in (False, True):
            for stages in arguments.stages.split(","):
                yield {"scene": scene, "hard": hard, "stages": stages}


def run(case: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a case, from a process of its own."""
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        sys.exit(f"{case}: {answer.stderr.strip()}")
    figures: dict[str, Any] = json.loads(answer.stdout)
    return figures


def measured(scene: str, hard: bool, stages: str) -> dict[str, Any]:
    """Both stages on one scene, which another process makes: that takes more memory than to place its photos."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        oracle, given = pool.submit(prepared, scene, hard).result()
    find = Registry().find
    coarse, fine = (find(slot, name)() for slot, name in zip(("coarse", "fine"), stages.split("+"), strict=True))
    begin = time.process_time()
    first: InitialModels = apply(coarse, given)
    middle = time.process_time()
    second: SparseModels = apply(fine, given | {"coarse": first})
    end = time.process_time()
    return {
        "pairs": len(oracle.pairs),
        "matches": sum(len(pair.xy_a) for pair in given["matching"].values()),
        "photos": oracle.photos,
        "coarse": judged(oracle, first),
        "fine": judged(oracle, second),
        "cpu_s": [middle - begin, end - middle],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3),
    }


def prepared(scene: str, hard: bool) -> tuple[Oracle, dict[str, Any]]:
    """A scene's cameras, and what the mapping stages read."""
    if ":" in scene:
        photos, seed = map(int, scene.split(":"))
        data = made_up(photos, 100 + seed, REACH if photos > COMPLETE else None)
    else:
        data = read_safetensors(Path(scene))
    oracle = Oracle(data, HARD if hard else Noise())
    given = stages_before(oracle)
    oracle.forget_predictions()
    return oracle, given


def stages_before(oracle: Oracle) -> dict[str, Any]:
    """What the mapping stages read."""
    files = [Photo(f"{i:04d}.png", black_photo(oracle), "", oracle.width, oracle.height) for i in range(oracle.photos)]
    photos = Photos(tuple(files), {})
    matching = {(int(a), int(b)): oracle.pair(int(a), int(b)) for a, b in oracle.pairs}
    return verified(photos, matching)


def verified(photos: Photos, matching: dict[tuple[int, int], PairMatches]) -> dict[str, Any]:
    """What the mapping stages read of photos with such matches."""
    find = Registry().find
    verify = find("verification", "poselib")(max_error_px=MAX_ERROR_PX)
    cameras = find("cameras", "exif")(model="SIMPLE_PINHOLE")(photos)
    verification = {
        (a, b): verify(pair, Sides(cameras.of_photo(a), cameras.of_photo(b)), Sides(photos[a], photos[b]))
        for (a, b), pair in matching.items()
    }
    resources = Resources("cpu", 1, 1 << 33, 0)
    graph = find("view_graph", "verified")()(photos, matching, verification, resources)
    named = {"photos": photos, "cameras": cameras, "matching": matching, "verification": verification}
    return {**named, "view_graph": graph, "resources": resources}


def apply(stage: Any, given: Mapping[str, Any]) -> Any:
    """The stage's value, given what its parameters name."""
    return stage(**{name: given[name] for name in inspect.signature(stage).parameters if name in given})


def black_photo(oracle: Oracle) -> Path:
    """A file for the mappers to take colours from."""
    from tempfile import gettempdir

    from PIL import Image

    file = Path(gettempdir()) / f"unposed-black-{oracle.width}x{oracle.height}.png"
    if not file.exists():
        Image.new("RGB", (oracle.width, oracle.height)).save(file)
    return file


def judged(oracle: Any, found: InitialModels | SparseModels) -> dict[str, float]:
    """Of the largest model: median errors of pairs; of the trajectory by its mean square radius; mean of focals."""
    poses = np.full((oracle.photos, 3, 4), np.nan)
    if not found.models:
        return {"placed": 0, "rotation_deg": np.nan, "direction_deg": np.nan, "trajectory": np.nan, "focal": np.nan}
    scene = found.models[0]
    poses[scene.photos] = scene.cam_from_world
    errors = evaluate_poses(oracle.cam_from_world, poses)
    centre = -np.einsum("nji,nj->ni", oracle.cam_from_world[:, :, :3], oracle.cam_from_world[:, :, 3])
    radius = float(np.sqrt(((centre - centre.mean(axis=0)) ** 2).sum(axis=1).mean()))
    focal = np.array([scene.cameras[camera].params[0] for camera in scene.camera_of_photo])
    return {
        "placed": errors.registered,
        "rotation_deg": errors.relative_rotation_median_deg or 0.0,
        "direction_deg": errors.relative_direction_median_deg or 0.0,
        "trajectory": (errors.ate_rmse or 0.0) / radius,
        "focal": float(np.abs(focal / oracle.focal_px[scene.photos] - 1.0).mean()),
    }


def row(case: Mapping[str, Any], figures: Mapping[str, Any]) -> list[str]:
    """Cells of the table; figures of both stages by an arrow."""
    coarse, fine = figures["coarse"], figures["fine"]

    def both(text: Any) -> str:
        return f"{text(coarse)} → {text(fine)}"

    name = (
        Path(case["scene"]).stem
        if ":" not in case["scene"]
        else "made up {} (seed {})".format(*case["scene"].split(":"))
    )
    return [
        name,
        "hard" if case["hard"] else "usual",
        case["stages"],
        f"{figures['pairs']:,}",
        f"{figures['matches']:,}",
        f"{fine['placed']}/{figures['photos']}",
        both(lambda f: f"{f['rotation_deg']:.3f} / {f['direction_deg']:.3f}"),
        both(lambda f: f"{100 * f['trajectory']:.2f}") + " %",
        both(lambda f: f"{100 * f['focal']:.2f}") + " %",
        " + ".join(f"{seconds:.2f}" for seconds in figures["cpu_s"]),
        f"{figures['peak_mb']:.0f}",
    ]


if __name__ == "__main__":
    main()
