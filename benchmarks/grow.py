"""Collections that grow: photos localized, added, and models merged, beside doing it all at once; photos as a video.

    python benchmarks/grow.py DATA_DIR [--sets A,B] [--parts localize,add,single,merge,clips] [--work DIR] [--json FILE]

localize: every fifth photo is taken out, the rest is reconstructed, and those taken out are localized, with the camera
of the others (known) and with an unknown one (free); so in five turns, until each photo has been out once. Errors are
medians over all photos, in degrees and in percent of the extent, beside those that they have when they are in the
model, and beside pycolmap's own absolute pose on the same correspondences, both in the model of several that ours is
in. A pose is right within 5 degrees and 5 % of the extent. "others" is how far off photos are in the model that lacks a
fifth: no photo is localized better than these.

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
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from left_out import LeftOutJudge, by_pycolmap, medians, percent_off, poses_by_name, right_photos
from truth import Truth, read_truth

import unposed
from unposed.clip_pairs import holds_clips
from unposed.optim.arrays import Array
from unposed.options import RunOptions
from unposed.photo_sources import collect
from unposed.pipeline.artifacts import Photos
from unposed.pipeline.errors import InputError, NoReconstruction, UnposedError
from unposed.pipeline.store.overlay import open_store
from unposed.run_setup import checked_graph, workplace
from unposed.synthetic.photos import write_set

EVERY = 5
RIVALS = ("ours", "inside", "pycolmap")
"""Of whom a photo taken out has a pose: of the localizer, the model of all photos, and pycolmap."""
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
    """A row for known and one for free cameras, over all photos: every fifth is taken out in turn."""
    names = [file.name for file in photo_set.files]
    truth = read_truth(photo_set.truth, names)
    whole, _ = place.reconstructed(f"{photo_set.name}-all", photo_set.files)
    for camera in ("auto", "free"):
        found = {name: np.full((len(names), 2), np.nan) for name in (*RIVALS, "others", "others inside")}
        seconds: list[float] = []
        for turn in range(EVERY):
            _localize_turn(photo_set, place, truth, turn, camera, whole, found, seconds)
        known = truth.known & np.isfinite(found["inside"][:, 0])
        both = known & np.isfinite(found["ours"][:, 0]) & np.isfinite(found["pycolmap"][:, 0])
        yield {
            "camera": "known" if camera == "auto" else "free",
            "left out": int(known.sum()),
            **{f"right {name}": right_photos(found[name][known]) for name in RIVALS},
            **medians("", found["ours"][both]),
            **medians(" in model", found["inside"][both]),
            **medians(" pycolmap", found["pycolmap"][both]),
            "others %": f"{percent_off(found['others'])} (in model {percent_off(found['others inside'])})",
            "cpu s": round(float(np.mean(seconds)), 3) if seconds else "",
        }


def _localize_turn(
    photo_set: PhotoFolder,
    place: Workplace,
    truth: Truth,
    turn: int,
    camera: Literal["auto", "free"],
    whole: unposed.Reconstruction | None,
    found: dict[str, Array],
    seconds: list[float],
) -> None:
    """Errors of the photos that are taken out in this turn, by ours, by pycolmap and inside the model of all; and of
    others, in the model without those and inside that of all."""
    names = [file.name for file in photo_set.files]
    is_left = np.arange(len(names)) % EVERY == (turn + EVERY // 2) % EVERY
    kept = [file for file, left in zip(photo_set.files, is_left, strict=True) if not left]
    model, _ = place.reconstructed(f"{photo_set.name}-kept{turn}", kept)
    if model is None or whole is None:
        return
    judge = LeftOutJudge(truth, is_left)
    inside, without = judge.errors(poses_by_name(whole, names)), judge.errors(poses_by_name(model, names))
    localizer = model.localizer(camera=camera, cache=place.cache, device="cpu")
    for row in np.flatnonzero(is_left).tolist():
        before = time.process_time()
        answer = localizer(photo_set.files[row])
        seconds.append(time.process_time() - before)
        number = 0 if answer.pose is None else answer.pose.model  # where there are several, each has a frame of its own
        ours = None if answer.pose is None else answer.pose.cam_from_world
        theirs = by_pycolmap(localizer, answer, number, free=camera == "free")
        for name, pose in (("ours", ours), ("pycolmap", theirs)):
            if pose is not None:
                poses = poses_by_name(model, names, number)
                poses[row] = pose
                found[name][row] = judge.errors(poses)[row]
    found["inside"][is_left] = inside[is_left]
    rest = ~is_left & (np.arange(len(names)) % EVERY == (turn + EVERY // 2 + 1) % EVERY)  # each once over the turns
    found["others"][rest], found["others inside"][rest] = without[rest], inside[rest]


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
    place.reconstructed(out.name, photo_set.files[:FIRST], cache)
    there = len(unposed.load(out).photos)  # more than the first where an earlier run was cut short
    for file in photo_set.files[there:]:
        unposed.add(out, [file], cache=cache, device="cpu")
    grown = unposed.load(out)
    yield {
        "added": f"{len(photo_set.files) - FIRST} to {FIRST}",
        "registered": f"{grown.summary['registered']}/{grown.summary['total']}",
        "at once": f"{whole.summary['registered']}/{whole.summary['total']}" if whole else "none",
        **_areas({"AUC@5": out, "AUC@5 at once": place.folder / f"{photo_set.name}-all"}, photo_set.truth),
        "cpu s of the last": grown.summary["cpu_s"],
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
    graph = checked_graph("classic", (), clips=holds_clips(photos))
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
