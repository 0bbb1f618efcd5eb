"""What can be said of photos before any geometry: in words, with what to do."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from unposed.optim.arrays import Index
from unposed.pipeline.artifacts import Exif, Photo, Photos
from unposed.retrieval.scene_graph import components_and_bridges

from .photo_quality import BLOWN, DARK, PhotoQuality, blurred, copies
from .words import Advice, listed

LINK_MATCHES = 12
"""Matches of 512 key points of reduced photos from which on two photos show the same: of photos of different places, at
most 9 of 1,194 pairs matched."""
LEAST_KEYPOINTS = 50
"""Key points of a reduced photo below which it shows hardly anything to match: in 22 sets photos have 100 (a can on a
plain table) to 1,500, a clear sky has none."""
ZOOM_RATIO = 1.02
"""Focal lengths of one lens that differ by more are a zoom that was turned."""
INTERNET_CAMERAS = 0.5
"""Share of the photos that are of a camera of their own, from which on they are by many people."""
STILL_LEAST, STILL_SHARE = 10, 0.5
"""Key points of a photo that stand still, and photos with so many, from which on something stands still throughout: of
22 sets by cameras that move, the photo with most has 4."""
DRONES = ("dji", "hasselblad l2d", "parrot", "autel", "yuneec", "skydio")
EXPOSURE_RATIO = 3.0
"""Mean grey of a photo over that of the set, either way, from which on matches become fewer."""


@dataclass(frozen=True)
class ScenePreset:
    """The preset that suits the photos, and why."""

    kind: str
    """photos, video, drone or internet."""
    preset: str
    options: tuple[str, ...]
    """More words of the command line."""
    why: str


def header_findings(photos: Photos) -> list[Advice]:
    """What file headers say: copies of files, cameras, zoom, missing or odd EXIF data."""
    found = []
    by_content: dict[str, list[str]] = {}
    for photo in photos.photos:
        by_content.setdefault(photo.content, []).append(photo.name)
    if same := [names for names in by_content.values() if len(names) > 1]:
        files = "1 file is" if len(same) == 1 else f"{len(same)} files are"
        text = f"{files} there more than once: {' = '.join(same[0][:3])}" + (", ..." if same[1:] else ".")
        found.append(Advice("hint", text, "Copies add nothing: they have no baseline. One of each is enough."))
    return found + _cameras(photos.photos) + _exif(photos.photos)


def unreadable(photos: Photos) -> list[Advice]:
    """Files that are no photos, or that cannot be read, by reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in photos.rejected.items():
        by_reason.setdefault(reason, []).append(name)
    return [Advice("warning", f"{listed(names)} not readable: {reason}.") for reason, names in by_reason.items()]


def pixel_findings(names: Sequence[str], quality: Sequence[PhotoQuality], sharp: bool = True) -> list[Advice]:
    """What pixels say: blur (where the images are large enough for it), exposure, and copies from the same place."""
    found = []
    if sharp and len(dull := blurred(np.array([each.sharpness for each in quality]))):
        text = f"{listed([names[i] for i in dull.tolist()])} blurred."
        found.append(Advice("warning", text, "Take them again, or leave them out: few key points are found in them."))
    white = [name for name, each in zip(names, quality, strict=True) if each.white > BLOWN]
    dark = [name for name, each in zip(names, quality, strict=True) if each.black > DARK]
    if white:
        remedy = "Where nothing but white is left, nothing can be matched: expose for the highlights."
        found.append(Advice("hint", f"{listed(white)} over-exposed.", remedy))
    if dark:
        remedy = "A dark background does no harm; of a dark scene, take brighter photos."
        found.append(Advice("hint", f"{listed(dark)} mostly black.", remedy))
    grey = np.array([max(each.mean_grey, 1.0) for each in quality])
    usual = float(np.median(grey)) if len(grey) else 1.0
    odd = [names[i] for i in np.flatnonzero((grey > EXPOSURE_RATIO * usual) | (grey * EXPOSURE_RATIO < usual)).tolist()]
    if odd:
        remedy = "Fix the exposure, so that the same spot looks the same."
        found.append(Advice("hint", f"{listed(odd)} far brighter or darker than the others.", remedy))
    same = copies(np.array([each.small for each in quality]))
    if same:
        text = f"{listed([names[i] for group in same for i in group[1:]])} the same view as {names[same[0][0]]}"
        text += " or another photo." if len(same) > 1 else "."
        found.append(
            Advice("hint", text, "They have no baseline, and only take time: of a video, use every n-th frame.")
        )
    return found


def bare_findings(bare: Sequence[str]) -> list[Advice]:
    """Photos with fewer than `LEAST_KEYPOINTS` key points when reduced."""
    if not bare:
        return []
    text = f"{listed(list(bare))} without detail: fewer than {LEAST_KEYPOINTS} key points are found in each."
    remedy = "Smooth walls, sky, water and darkness cannot be matched: show textured surroundings, in focus."
    return [Advice("warning", text, remedy)]


def overlap_findings(names: Sequence[str], pairs: Index, matches: Index, bare: Collection[str] = ()) -> list[Advice]:
    """What coarse matches of reduced photos say of the overlap. They see less than a run does: what they find connected
    will be. bare: photos without detail, about which that is said already."""
    linked = np.asarray(pairs, np.int64).reshape(-1, 2)[np.asarray(matches) >= LINK_MATCHES]
    graph = components_and_bridges(len(names), linked)
    partners = np.bincount(linked.ravel(), minlength=len(names))
    found = []
    if alone := [names[i] for i in np.flatnonzero(partners == 0).tolist() if names[i] not in bare]:
        remedy = (
            "Take photos in between, each showing half of its neighbour. A run looks closer and may still join them."
        )
        found.append(Advice("warning", f"{listed(alone)} like no other photo at first sight.", remedy))
    if len(graph.components) > 1:
        sizes = ", ".join(str(len(each)) for each in graph.components)
        a, b = (names[part[0]] for part in graph.components[:2])
        text = f"The photos fall into {len(graph.components)} groups ({sizes} photos), one with {a}, one with {b}."
        found.append(Advice("warning", text, "Take photos that lead from one to the other, or --effort high."))
    if graph.bridges:
        first = " and ".join(names[i] for i in graph.bridges[0][:2])
        links = "1 link hangs" if len(graph.bridges) == 1 else f"{len(graph.bridges)} links hang"
        text = f"{links} on a single pair, {first} for instance."
        found.append(Advice("hint", text, "A photo between the two makes it firm."))
    return found


def still_findings(given: Sequence[str], still: Index, keypoints: Index) -> list[Advice]:
    """What stands still in the photos of these paths, by the number of key points (n,) of each that do, and of all."""
    photos = int(np.sum(np.asarray(still) >= STILL_LEAST))
    if not photos or photos < STILL_SHARE * len(still):
        return []
    share = float(np.median(np.asarray(still) / np.maximum(keypoints, 1)))
    text = f"In {photos} of {len(still)} photos something stands still: {share:.0%} of the key points of each are found"
    text += " at the same pixels of many others."
    remedy = (
        "A background behind an object that is turned, or a logo in every photo, says that the camera does not move."
        " Hide it by masks, and give these to the run by --masks."
    )
    command = shlex.join(["unposed", "check", *given, "--write-masks", "masks"])
    return [Advice("warning", text, remedy, command)]


def suggested(photos: Photos) -> ScenePreset:
    """The preset that suits the photos as far as headers tell."""
    every = photos.photos
    makes = [f"{each.exif.make or ''} {each.exif.model or ''}".strip().lower() for each in every]
    cameras = len({(make, each.width, each.height) for make, each in zip(makes, every, strict=True)})
    if sum(make.startswith(DRONES) for make in makes) > len(every) / 2:
        why = "taken by a drone, with one camera"
        return ScenePreset("drone", "classic", ("--cameras", "single") if cameras == 1 else (), why)
    if cameras > max(3.0, INTERNET_CAMERAS * len(every)):
        return ScenePreset("internet", "classic", (), "by many cameras: each gets intrinsics of its own")
    numbered = sum(any(c.isdigit() for c in each.name) for each in every) == len(every)
    bare = all(each.exif == Exif() for each in every)
    if len(every) > 60 and cameras == 1 and numbered and bare:
        # Photos of rigs, and of a lens that was refocused, have the same headers: a run finds out who shares a camera.
        why = "numbered, of one size and without EXIF data, as frames of a video are; if they are, add --cameras single"
        return ScenePreset("video", "classic", (), why)
    return ScenePreset("photos", "classic", (), "nothing special about them; of rooms with smooth walls, try interior")


def _cameras(photos: Sequence[Photo]) -> list[Advice]:
    """Several cameras, sizes and zooms."""
    bodies = Counter(_body(each.exif) or "unknown camera" for each in photos)
    sizes = Counter(tuple(sorted((each.width, each.height))) for each in photos)
    found = []
    if len(bodies) > 1:
        some = ", ".join(f"{name} ({number})" for name, number in bodies.most_common(4))
        more = f" and {len(bodies) - 4} more" if len(bodies) > 4 else ""
        found.append(
            Advice("hint", f"The photos are by {len(bodies)} cameras: {some}{more}.", "Each is calibrated by itself.")
        )
    elif len(sizes) > 1:
        some = ", ".join(f"{b} × {a} ({number})" for (a, b), number in sizes.most_common(4))
        remedy = "Crops lose the middle of the photo: give the originals where you have them."
        body = "One camera" if "unknown camera" not in bodies else "No camera in the EXIF data"
        found.append(Advice("hint", f"{body}, but {len(sizes)} sizes: {some}.", remedy))
    lenses: dict[tuple[str | None, ...], list[float]] = {}
    for each in photos:
        if each.exif.focal_mm is not None:
            lenses.setdefault((each.exif.make, each.exif.model, each.exif.lens), []).append(each.exif.focal_mm)
    for (_, model, _), focals in lenses.items():
        if max(focals) > ZOOM_RATIO * min(focals):
            kinds = len({round(focal, 1) for focal in focals})
            text = f"The zoom of {model or 'a camera'} was turned: {kinds} focal lengths,"
            text += f" {min(focals):g} to {max(focals):g} mm."
            found.append(Advice("hint", text, "One zoom throughout makes focal lengths, and so the scene, firmer."))
    return found


def _body(exif: Exif) -> str:
    """Maker and model; many models begin with their maker."""
    make, model = exif.make or "", exif.model or ""
    return model if make and model.lower().startswith(make.lower()) else f"{make} {model}".strip()


def _exif(photos: Sequence[Photo]) -> list[Advice]:
    found = []
    blind = [each.name for each in photos if each.exif.focal_mm is None and each.exif.focal_35mm is None]
    if blind and len(blind) < len(photos):
        text = f"{len(blind)} of {len(photos)} photos have no focal length in their EXIF data, {blind[0]} for instance."
        found.append(Advice("hint", text, "Give the originals: editors and messengers drop these data."))
    zoomed = [each.name for each in photos if (each.exif.digital_zoom or 1.0) > ZOOM_RATIO]
    if zoomed:
        found.append(
            Advice("hint", f"{listed(zoomed)} taken with digital zoom.", "That is a crop: come nearer instead.")
        )
    return found
