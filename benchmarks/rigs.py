"""Panoramas and rigs of rendered scenes: accuracy and cost with what is known of them, and without, as a table.

    python benchmarks/rigs.py [--folder DIR]

The courtyard in panoramas, whole and as views that nobody says belong together; and a walk with three cameras on a bar,
whose poses on it are known, unknown, suggested by folders, or not used.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from rendered import in_folder
from scipy.spatial.transform import Rotation

import unposed
from unposed.pipeline.images.photos import scan
from unposed.pipeline.images.pixels import read_rgb
from unposed.synthetic.photos import write_set
from unposed.synthetic.wide_scenes import panoramas, rig_walk, sensors_from_rig

ALONE = {"cameras.folder_rigs": False}


def main() -> None:
    """Print the table row by row."""
    in_folder(__doc__, measure)


def measure(folder: Path) -> None:
    """Render the scenes that are not there, and print a row for each run."""
    print("| scene | told | registered | AUC@1 / 5 | ATE, of the extent | CPU s |\n|---|---|---|---|---|---|")
    round_about, walk = folder / "panoramas", folder / "rig_walk"
    for place, scene in ((round_about, panoramas), (walk, rig_walk)):
        if not (place / "gt.json").exists():
            write_set(scene(), place)
    row("12 panoramas", "nothing", round_about / "images", round_about / "gt.json", "panoramas")
    row("72 views of them", "nothing", views(round_about), views_truth(round_about), settings=ALONE)
    known, unknown = rig_files(walk)
    photos, truth = walk / "images", walk / "gt.json"
    row("3 cameras, 12 moments", "poses of the cameras on the bar", photos, truth, rigs=known)
    row("", "the same, refined", photos, truth, rigs=known, settings={"cameras.refine_rigs": True})
    row("", "which photos belong together", photos, truth, rigs=unknown)
    row("", "nothing: by folders", photos, truth)
    row("", "nothing, rigs not looked for", photos, truth, settings=ALONE)


def row(scene: str, told: str, photos: Path, truth: Path, part: str = "", **options: Any) -> None:
    """Reconstruct, judge, and print."""
    with TemporaryDirectory() as scratch:
        before, out = time.process_time(), Path(scratch) / "out"
        options |= {"preset": "classic", "cache": Path(scratch) / "cache", "device": "cpu"}
        made = unposed.reconstruct(photos, out, **options)
        cpu_s = time.process_time() - before
        errors = unposed.evaluate(out / part, truth).errors
    auc = [100.0 * (errors.auc[limit] or 0.0) for limit in (1, 5)]
    far = "-" if errors.ate_rmse is None else f"{100.0 * errors.ate_rmse / errors.extent:.4f} %"
    whole = made.summary["panoramas"]
    count = f"{sum('model' in each for each in whole.values())} of {len(whole)}" if whole else ""
    count = count or f"{errors.registered} of {errors.photos}"
    print(f"| {scene} | {told} | {count} | {auc[0]:.1f} / {auc[1]:.1f} | {far} | {cpu_s:.0f} |", flush=True)


def views(place: Path) -> Path:
    """The views of the panoramas as files of a folder for each panorama."""
    folder = place / "views"
    for photo in scan(place / "images").photos:
        file = folder / f"{photo.name}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(read_rgb(photo)).save(file, quality=95)
    return folder


def views_truth(place: Path) -> Path:
    """Known poses of these: of the views ahead, which are turned as their panoramas are."""
    known = json.loads((place / "gt.json").read_text())
    known["images"] = {
        f"{name}/front.jpg": {key: pose[key] for key in ("R_w2c", "t_w2c")} for name, pose in known["images"].items()
    }
    file = place / "views.json"
    file.write_text(json.dumps(known))
    return file


def rig_files(place: Path) -> tuple[Path, Path]:
    """Files that say where the cameras sit on the bar, and which photos belong together only."""
    bare = [{"image_prefix": f"{name}/", "ref_sensor": name == "ahead"} for name in ("ahead", "aside", "behind")]
    placed = []
    for entry, pose in zip(bare, sensors_from_rig(), strict=True):
        quaternion = Rotation.from_matrix(pose[:, :3]).as_quat(scalar_first=True).tolist()
        where = {"cam_from_rig_rotation": quaternion, "cam_from_rig_translation": pose[:, 3].tolist()}
        placed.append(entry if entry["ref_sensor"] else entry | where)
    files = place / "known.json", place / "unknown.json"
    for file, entries in zip(files, (placed, bare), strict=True):
        file.write_text(json.dumps([{"cameras": entries}]))
    return files


if __name__ == "__main__":
    main()
