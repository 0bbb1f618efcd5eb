"""Collections that grow: photos localized, added, and models merged, beside doing it all at once; photos as a video.

    python benchmarks/grow.py DATA_DIR [--sets A,B] [--parts localize,add,single,merge,clips] [--work DIR] [--json FILE]

localize: every fifth photo is taken out, the rest is reconstructed, and those taken out are localized, with the camera
of the others (known) and with an unknown one (free). Errors are medians over the photos taken out, in degrees and in
percent of the extent, beside those that they have when they are in the model, and beside pycolmap's own absolute pose
on the same correspondences. A pose is right within 5 degrees and 5 % of the extent.

add: the photos taken out are added to the model of the rest, beside reconstructing all of them anew: AUC at 5 degrees
and CPU seconds, each with a cache that holds nothing of the photos taken out.

single: the first five photos are reconstructed and the others added one by one, beside all of them at once.

merge: two halves, in the order of the names, with five photos in both and with none, are reconstructed and merged: AUC
at 5 degrees beside that of the whole.

clips: photos in their order are encoded as a video, with smeared and repeated frames, and so is a rendered walk around
a yard, `walk`: frames that are taken and placed, AUC at 5 degrees, and pairs of the scene graph beside those of a run
with every frame, of which only that graph is made. Needs `pip install 'unposed[video]'`.

DIR keeps results and cache, so that what was cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from truth import Truth, read_truth, without_camera_rotation

import unposed
from unposed.optim.arrays import Array
from unposed.optim.evaluation import rotation_and_centre
from unposed.optim.rotations import nearest_rotation, rotation_angle_deg
from unposed.optim.similarity import fit_similarity, flatness
from unposed.options import RunOptions
from unposed.photo_sources import collect
from unposed.pipeline.artifacts import Photos
from unposed.pipeline.errors import InputError, NoReconstruction, UnposedError
from unposed.pipeline.store.overlay import open_store
from unposed.run_setup import checked_graph, workplace
from unposed.synthetic.photos import write_set

EVERY = 5
RIGHT_DEG, RIGHT_OFFSET = 5.0, 0.05
"""A pose is right within so many degrees, and so much of the extent of the set."""
FIRST = 5
"""Photos that others are added to one by one."""
WALK = "walk"
IN_ORDER = ("drone-lab", "fox", "giza", WALK)
"""Sets whose names are in the order in which the photos were taken, each near the one before."""
CLIP_WIDTH_PX = 480


@dataclass(frozen=True)
class PhotoFolder:
    """A set of photos with known poses."""

    name: str
    files: tuple[Path, ...]
    truth: Path


@dataclass(frozen=True)
class Workplace:
    """Where results go."""

    folder: Path
    cache: Path

    def reconstructed(
        self, name: str, files: Sequence[Path], cache: Path | None = None
    ) -> tuple[unposed.Reconstruction | None, float]:
        """The reconstruction of some photos, and the CPU seconds that it took; None if there is none."""
        out = self.folder / name
        if not (out / "summary.json").exists():
            try:
                unposed.reconstruct(list(files), out, cache=cache or self.cache, device="cpu", preset="classic")
            except NoReconstruction:
                return None, 0.0
        made = unposed.load(out)
        return (made if made.models else None), float(made.summary["cpu_s"])


def main() -> None:
    """Run the parts on all sets, print a table for each."""
    args = _arguments()
    place = Workplace(args.work, args.work / "cache")
    rows: dict[str, list[dict[str, Any]]] = {part: [] for part in args.parts}
    rendered = [_walk(args.work)] if "clips" in args.parts and (not args.sets or WALK in args.sets) else []
    for photo_set in [*_sets(args.data, args.sets), *rendered]:
        for part in args.parts if photo_set not in rendered else ["clips"]:
            rows[part] += [{"set": photo_set.name, **row} for row in PARTS[part](photo_set, place)]
            if args.json:
                args.json.write_text(json.dumps(rows, indent=1))
    for part in args.parts:
        print(f"\n{part}\n{_table(rows[part])}")


def localize_left_out(photo_set: PhotoFolder, place: Workplace) -> Iterator[dict[str, Any]]:
    """A row for known and one for free cameras."""
    left = photo_set.files[EVERY // 2 :: EVERY]
    kept = [file for file in photo_set.files if file not in left]
    names = [file.name for file in photo_set.files]
    truth = read_truth(photo_set.truth, names)
    model, _ = place.reconstructed(f"{photo_set.name}-kept", kept)
    whole, _ = place.reconstructed(f"{photo_set.name}-all", photo_set.files)
    if model is None:
        return
    is_left = np.array([file in left for file in photo_set.files])
    judge = _Judge(truth, is_left)
    inside = judge.errors(_poses(whole, names)) if whole else np.full((len(names), 2), np.nan)
    for camera in ("auto", "free"):
        localizer = model.localizer(camera=camera, cache=place.cache, device="cpu")
        own, theirs = _poses(model, names), _poses(model, names)
        seconds = []
        for row in np.flatnonzero(is_left).tolist():
            before = time.process_time()
            found = localizer(photo_set.files[row])
            seconds.append(time.process_time() - before)
            if found.pose is not None:
                own[row] = found.pose.cam_from_world
            other = _by_pycolmap(localizer, found, free=camera == "free")
            if other is not None:
                theirs[row] = other
        mine, other = judge.errors(own), judge.errors(theirs)
        known = is_left & truth.known
        both = known & np.isfinite(mine).all(axis=1) & np.isfinite(inside).all(axis=1)
        yield {
            "camera": "known" if camera == "auto" else "free",
            "left out": int(known.sum()),
            "right": f"{_right(mine[known])}/{int(np.isfinite(own[known, 0, 0]).sum())}",
            "right by pycolmap": f"{_right(other[known])}/{int(np.isfinite(theirs[known, 0, 0]).sum())}",
            "right in model": _right(inside[known]),
            **_medians("", mine[both]),
            **_medians(" in model", inside[both]),
            **_medians(" pycolmap", other[both]),
            "cpu s": round(float(np.mean(seconds)), 3),
        }


class _Judge:
    """Errors of photos after the model of the others is aligned with the truth."""

    def __init__(self, truth: Truth, is_left: Array) -> None:
        self.truth, self.is_left = truth, is_left

    def errors(self, poses: Array) -> Array:
        """(photos, 2) degrees, and position over the extent; NaN where not registered."""
        truth = self.truth
        moved = without_camera_rotation(truth, poses)
        held = truth.known & ~self.is_left & np.isfinite(moved[:, 0, 0])
        out = np.full((len(poses), 2), np.nan)
        if held.sum() < 3:
            return out
        rotation, centre = rotation_and_centre(np.where(np.isfinite(moved), moved, np.eye(3, 4)))
        true_rotation, true_centre = rotation_and_centre(
            np.where(np.isfinite(truth.cam_from_world), truth.cam_from_world, np.eye(3, 4))
        )
        world = fit_similarity(centre[held], true_centre[held])
        turn = world.rotation
        if flatness(centre[held]) < 1e-3:
            turn = nearest_rotation((true_rotation[held].transpose(0, 2, 1) @ rotation[held]).sum(axis=0))
        extent = np.linalg.norm(np.ptp(true_centre[truth.known], axis=0))
        known = truth.known & np.isfinite(moved[:, 0, 0])
        out[known, 0] = rotation_angle_deg(rotation[known] @ turn.T @ true_rotation[known].transpose(0, 2, 1))
        out[known, 1] = np.linalg.norm(world(centre[known]) - true_centre[known], axis=1) / extent
        return out


def _by_pycolmap(localizer: unposed.Localizer, found: unposed.Localization, *, free: bool) -> Array | None:
    """pycolmap's absolute pose on the correspondences that ours had; as many inliers are asked for."""
    points = localizer.model_map.points
    own = localizer.model_map.point_model[found.matched_point] == 0
    xy, seen = found.matched_xy[own], points[found.matched_point[own]]
    if len(xy) < 4:
        return None
    photo = found.photo
    guess = next(iter(localizer.cameras.of_photo(photo, 0, None)))
    camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=photo.width, height=photo.height, params=[1, 0, 0, 0])
    camera.params = [guess.intrinsics[0], guess.intrinsics[2], guess.intrinsics[3], guess.intrinsics[4]]
    estimation, refinement = pycolmap.AbsolutePoseEstimationOptions(), pycolmap.AbsolutePoseRefinementOptions()
    estimation.ransac.random_seed = 0
    estimation.estimate_focal_length = refinement.refine_focal_length = refinement.refine_extra_params = free
    answer = pycolmap.estimate_and_refine_absolute_pose(xy, seen, camera, estimation, refinement)
    if answer is None or answer["num_inliers"] < localizer.options.pose.min_inliers:
        return None
    return np.asarray(answer["cam_from_world"].matrix())


def _poses(made: unposed.Reconstruction, names: Sequence[str]) -> Array:
    """(photos, 3, 4) of the largest model; NaN where a photo is not in it."""
    out = np.full((len(names), 3, 4), np.nan)
    rows = {name: row for row, name in enumerate(names)}
    for name, pose in zip(made[0].photo_names, made[0].cam_from_world, strict=True):
        out[rows[name]] = pose
    return out


def _right(errors: Array) -> int:
    with np.errstate(invalid="ignore"):
        return int(((errors[:, 0] < RIGHT_DEG) & (errors[:, 1] < RIGHT_OFFSET)).sum())


def _medians(of: str, errors: Array) -> dict[str, float]:
    degrees, offset = np.nanmedian(errors, axis=0) if len(errors) else (np.nan, np.nan)
    return {f"deg{of}": round(float(degrees), 3), f"%{of}": round(100 * float(offset), 3)}


def add_left_out(photo_set: PhotoFolder, place: Workplace) -> Iterator[dict[str, Any]]:
    """A row: a fifth of the photos added, and all of them anew."""
    left = photo_set.files[EVERY // 2 :: EVERY]
    kept = [file for file in photo_set.files if file not in left]
    name, cache = f"{photo_set.name}-grown", place.folder / f"{photo_set.name}-grown-cache"
    anew, anew_cpu_s = place.reconstructed(
        f"{photo_set.name}-anew", photo_set.files, place.folder / f"{photo_set.name}-anew-cache"
    )
    out = place.folder / name
    if not (out / "summary.json").exists():
        place.reconstructed(name, kept, cache)
    if unposed.load(out).summary.get("grown") is None:
        unposed.add(out, list(left), cache=cache, device="cpu")
    grown = unposed.load(out)
    moved = grown.summary["grown"]["moved"]
    yield {
        "added": f"{len(left)} to {len(kept)}",
        "registered": f"{grown.summary['registered']}/{grown.summary['total']}",
        "anew": f"{anew.summary['registered']}/{anew.summary['total']}" if anew else "none",
        **_areas({"AUC@5": out, "AUC@5 anew": place.folder / f"{photo_set.name}-anew"}, photo_set.truth),
        "cpu s": grown.summary["cpu_s"],
        "cpu s anew": anew_cpu_s,
        "old photos turned": f"{moved['median_deg']} (largest {moved['largest_deg']})",
    }


def add_one_by_one(photo_set: PhotoFolder, place: Workplace) -> Iterator[dict[str, Any]]:
    """A row: photos added one by one to the first ones, and all of them at once; with the work of each."""
    whole, whole_cpu_s = place.reconstructed(f"{photo_set.name}-all", photo_set.files)
    out, cache = place.folder / f"{photo_set.name}-single", place.folder / f"{photo_set.name}-single-cache"
    shutil.rmtree(out, ignore_errors=True)  # what was cut short is not known to be whole
    place.reconstructed(out.name, photo_set.files[:FIRST], cache)
    seconds = []
    for file in photo_set.files[FIRST:]:
        unposed.add(out, [file], cache=cache, device="cpu")
        seconds.append(unposed.load(out).summary["cpu_s"])
    grown = unposed.load(out)
    yield {
        "added": f"{len(seconds)} to {FIRST}",
        "registered": f"{grown.summary['registered']}/{grown.summary['total']}",
        "at once": f"{whole.summary['registered']}/{whole.summary['total']}" if whole else "none",
        **_areas({"AUC@5": out, "AUC@5 at once": place.folder / f"{photo_set.name}-all"}, photo_set.truth),
        "cpu s of the last": seconds[-1],
        "cpu s at once": whole_cpu_s,
    }


def merge_halves(photo_set: PhotoFolder, place: Workplace) -> Iterator[dict[str, Any]]:
    """A row for halves with five common photos, and one for halves with none."""
    count = len(photo_set.files)
    place.reconstructed(f"{photo_set.name}-all", photo_set.files)
    for common in (5, 0):
        middle = (count - common) // 2
        halves = {"a": photo_set.files[: middle + common], "b": photo_set.files[middle:]}
        folders = [place.folder / f"{photo_set.name}-{common}-{half}" for half in halves]
        sizes = []
        for folder, files in zip(folders, halves.values(), strict=True):
            made, _ = place.reconstructed(folder.name, files)
            sizes.append(len(made[0]) if made else 0)
        out = place.folder / f"{photo_set.name}-{common}-merged"
        said = "merged"
        if not (out / "summary.json").exists():
            try:
                unposed.merge(*folders, out, cache=place.cache, device="cpu")
            except UnposedError as error:
                said = str(error)
        merged = unposed.load(out).summary if said == "merged" else {}
        yield {
            "common": common,
            "halves": " and ".join(map(str, sizes)),
            "registered": f"{merged.get('registered', 0)}/{count}",
            **_areas({"AUC@5": out, "AUC@5 at once": place.folder / f"{photo_set.name}-all"}, photo_set.truth),
            "cpu s": merged.get("cpu_s", ""),
            "by": merged["grown"]["merged"]["by"] if merged else said,
        }


def _areas(folders: dict[str, Path], truth: Path) -> dict[str, str]:
    """AUC at 5 degrees in percent, of results that are there."""
    out = {}
    for name, folder in folders.items():
        area = unposed.evaluate(folder, truth).errors.auc[5] if (folder / "summary.json").exists() else None
        out[name] = "-" if area is None else f"{100 * area:.1f}"
    return out


def photos_as_clip(photo_set: PhotoFolder, place: Workplace) -> Iterator[dict[str, Any]]:
    """A row, of sets whose photos are in the order of a walk."""
    if photo_set.name not in IN_ORDER:
        return
    import clips

    name = f"{photo_set.name}-clip"
    place.folder.mkdir(parents=True, exist_ok=True)
    clip = clips.write_clip(photo_set.files, place.folder / f"{name}.mp4", CLIP_WIDTH_PX)
    try:
        taken = collect([clip.file], place.cache)[0]
    except InputError as error:
        yield {"photos": len(photo_set.files), "frames": len(clip.photo_of_frame), "taken": str(error)}
        return
    names = [photo.name for photo in taken.photos]
    made, _ = place.reconstructed(name, [clip.file])
    truth = place.folder / f"{name}.json"
    clips.write_frame_truth(clip, photo_set.truth, photo_set.files, names, truth)
    pairs, every = (_graph_pairs(each, place) for each in (taken, collect(clips.every_frame(clip), place.cache)[0]))
    yield {
        "photos": len(photo_set.files),
        "frames": len(clip.photo_of_frame),
        "taken": len(names),
        "placed": made.summary["registered"] if made else 0,
        "models": len(made.models) if made else 0,
        **_areas({"AUC@5": place.folder / name}, truth),
        "pairs": pairs,
        "pairs of every frame": every,
    }


def _graph_pairs(photos: Photos, place: Workplace) -> int:
    """Pairs of the scene graph of the preset."""
    graph = checked_graph("classic", ())
    with (
        workplace(RunOptions(device="cpu", cache=place.cache)) as (here, shown),
        open_store(here.cache, print) as store,
    ):
        done = here.run(replace(graph, outputs=("graph",), result=None), photos, store, shown)
    return len(done.value("graph").pairs)


PARTS: dict[str, Callable[[PhotoFolder, Workplace], Iterator[dict[str, Any]]]] = {
    "localize": localize_left_out,
    "add": add_left_out,
    "single": add_one_by_one,
    "merge": merge_halves,
    "clips": photos_as_clip,
}


def _sets(data: Path, wanted: Sequence[str] | None) -> Iterator[PhotoFolder]:
    for folder in sorted(data.iterdir()):
        truth = folder / "gt.json"
        if truth.is_file() and (not wanted or folder.name in wanted):
            files = tuple(sorted((folder / "images").iterdir()))
            if len(files) >= 10:
                yield PhotoFolder(folder.name, files, truth)


def _walk(work: Path) -> PhotoFolder:
    """The rendered walk, from an earlier run if there was one."""
    import clips

    folder = work / WALK
    if not (folder / "gt.json").exists():
        write_set(clips.walk(), folder)
    return PhotoFolder(WALK, tuple(sorted((folder / "images").iterdir())), folder / "gt.json")


def _table(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return "nothing"
    head = list(rows[0])
    lines = [head, *([str(row.get(key, "")) for key in head] for row in rows)]
    return "\n".join(["| " + " | ".join(line) + " |" for line in (lines[0], ["---"] * len(head), *lines[1:])])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("--sets", type=lambda text: text.split(","))
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument("--work", type=Path, default=Path("grow-work"), metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
