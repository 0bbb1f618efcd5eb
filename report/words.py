"""What a run came to, in plain words: one sentence, and what to do about what is not as it could be."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unposed.optim.arrays import Array, Index
from unposed.retrieval.scene_graph import NOTHING_JOINS, components_and_bridges

from .given_photos import given_photos
from .residuals import PATTERN, ResidualField
from .sources import ReportSources

NAMED = 4
"""Photos that a sentence names; the table has all."""
CERTAIN, LIKELY, OPEN = 0.95, 0.8, 0.5
"""Probabilities from which on the words change."""
NARROW_DEG = 2.0
"""Median triangulation angle below which depths are poorly determined."""
FOCAL_RATIO = 1.25
"""A focal length that differs by more from what the EXIF data say needs an explanation."""
DAMAGED = "damaged or cut off"
"""How reasons say that a file cannot be decoded."""
SHORT_TRACKS = 0.2
"""Share of points that a third photo sees, below which overlap is small."""


@dataclass(frozen=True)
class Advice:
    """Something that hurts the result, and the remedy."""

    level: str
    """problem, warning or hint."""
    text: str
    remedy: str = ""
    command: str = ""


@dataclass(frozen=True)
class Headline:
    """The verdict in two sentences."""

    level: str
    """good, fair or bad."""
    text: str
    detail: str


def headline(summary: dict[str, Any]) -> Headline:
    """How many photos are registered, and how far the poses may be relied on."""
    total, registered, models = summary["total"], summary["registered"], summary["models"]
    if not models:
        detail = summary["failure"] or usual_reason(summary["photos"])
        return Headline("bad", f"None of the {total} photos could be registered.", f"{detail[:1].upper()}{detail[1:]}")
    whole = registered == total
    text = f"All {total} photos are registered" if whole else f"{registered} of {total} photos are registered"
    text += "." if len(models) == 1 else f", in {len(models)} models that nothing connects."
    verdict = models[0].get("refinement", {}).get("verdict") or {}
    probability, trusted = verdict.get("probability"), verdict.get("trusted", True)
    if probability is None:
        return Headline("fair" if whole else "bad", text, "There is no verdict about the poses.")
    words = "The poses of the largest model are "
    if not trusted:
        words = "Do not rely on the largest model: its poses are probably wrong, or right in parts only"
    elif probability >= CERTAIN:
        words += "very probably right"
    elif probability >= LIKELY:
        words += "probably right"
    else:
        words += "uncertain" if probability >= OPEN else "probably wrong"
    level = "good" if whole and probability >= LIKELY and len(models) == 1 else "fair"
    level = "bad" if not trusted or probability < OPEN or registered < total / 2 else level
    return Headline(level, text, f"{words}; within 5 degrees with probability {probability:.2f}.")


def advice(sources: ReportSources, fields: Iterable[ResidualField], lengths: Index, angles_deg: Array) -> list[Advice]:
    """What hurts and what to do, the worst first.

    lengths, angles_deg: of the tracks of the largest model.
    """
    found = [*_failure(sources), *_unregistered(sources), *_apart(sources), *_doubtful(sources)]
    found += [*_bridges(sources), *_warnings(sources), *_patterns(fields), *_focals(sources)]
    found += _shape(lengths, angles_deg)
    order = {"problem": 0, "warning": 1, "hint": 2}
    return sorted(found, key=lambda each: order[each.level])


def _failure(sources: ReportSources) -> list[Advice]:
    why, models = sources.summary["failure"], sources.summary["models"]
    if models and not why:
        return []
    if not why:
        why = f"{len(sources.verified()[0])} of the {len(sources.tried)} pairs that were matched have a geometry."
    remedy = "Every spot has to be seen from two or more places: walk around in small steps, so that each photo shows"
    remedy += " half of the one before, and some texture: smooth walls cannot be matched."
    remedy += " The matrix below shows which photos look alike."
    remedy += "" if models or sources.summary["effort"] >= 4.0 else " A longer search: --effort high."
    every = set(range(len(sources.photos)))
    best = None if models else _most_similar(sources, every, every)
    names = [] if best is None else [sources.photos[i].name for i in best]
    command = shlex.join(["unposed", "pairs", *given_photos(sources.summary), "--why", *names]) if names else ""
    return [Advice("problem", f"There is no reconstruction: {why}", remedy, command)]


def _unregistered(sources: ReportSources) -> list[Advice]:
    """Photos in no model, by reason; where to stand for the photos that would join them."""
    reasons: dict[str, list[str]] = {}
    for name, photo in sources.summary["photos"].items():
        if "reason" in photo:
            reasons.setdefault(photo["reason"], []).append(name)
    if not sources.summary["models"]:
        return []
    found = []
    for reason, names in sorted(reasons.items(), key=lambda each: -len(each[1])):
        each = "" if len(names) == 1 else ", each for this reason"
        text = f"{listed(names)} not registered{each}: {reason_in_words(reason)}."
        partner = _nearest_registered(sources, names)
        if partner is None:
            found.append(Advice("problem", text, _remedy_for_files(reason, len(names))))
            continue
        remedy = f"Take two or three photos on the way from {partner[1]} to {partner[0]}"
        remedy += "" if sources.summary["effort"] >= 4.0 else "; or let the search go on with --effort high"
        why = shlex.join(["unposed", "pairs", *given_photos(sources.summary), "--why", *partner])
        found.append(Advice("problem", text, f"{remedy}.", why))
    return found


def reason_in_words(reason: str) -> str:
    """A reason that says what is wrong with a photo, without the stage that met with it."""
    return re.sub(r"^\w+: photo: ", "", reason)


def _remedy_for_files(reason: str, files: int) -> str:
    if DAMAGED not in reason:
        return ""
    one = "it" if files == 1 else "them"
    return f"Copy {one} again from the camera, or leave {one} out: the other photos are none the worse for it."


def _apart(sources: ReportSources) -> list[Advice]:
    """Models that nothing connects."""
    models = sources.sparse.models
    if len(models) < 2:
        return []
    sets = [set(model.photos.tolist()) for model in models]
    sizes = ", ".join(str(len(each)) for each in sets)
    text = f"The photos fall into {len(models)} models ({sizes} photos), each with a frame and a scale of its own."
    best = _most_similar(sources, sets[0], sets[1])
    if best is None:
        return [Advice("problem", text, "Take photos that show parts of both.")]
    a, b = (sources.photos[i].name for i in best)
    return [Advice("problem", text, f"Take photos between {a} and {b}, which look most alike across the gap.")]


def _doubtful(sources: ReportSources) -> list[Advice]:
    found = []
    for number, model in enumerate(sources.summary["models"]):
        verdict = model.get("refinement", {}).get("verdict") or {}
        probability = verdict.get("probability")
        trusted = verdict.get("trusted", True)  # a model that is not has a warning of its own, with the same reasons
        if trusted and probability is not None and probability < LIKELY and verdict.get("reasons"):
            text = f"The poses of model {number} are uncertain: {'; '.join(verdict['reasons'])}."
            remedy = "Look at the worst pairs below. More photos from between make it firmer."
            found.append(Advice("warning", text, remedy))
    return found


def _bridges(sources: ReportSources) -> list[Advice]:
    """Single pairs that hold a model together."""
    pairs, _ = sources.trusted()
    bridges = weak_bridges(sources)
    if not bridges or not len(pairs):
        return []
    a, b, size = bridges[0]
    names = f"{sources.photos[a].name} and {sources.photos[b].name}"
    others = "" if len(bridges) == 1 else f"; so do {len(bridges) - 1} other pairs for other parts"
    cut = "one photo" if size == 1 else f"a part of {size} photos"
    text = f"A single pair, {names}, holds {cut} to the rest{others}."
    return [Advice("warning", text, f"One more photo between {names} makes it certain.")]


def weak_bridges(sources: ReportSources) -> list[tuple[int, int, int]]:
    """Pairs without which verified photos fall apart, and the size of the smaller part, the largest first; none where
    there are two photos only."""
    pairs, _ = sources.trusted()
    if len(sources.photos) < 3 or not len(pairs):
        return []
    return list(components_and_bridges(len(sources.photos), np.asarray(pairs, np.int64)).bridges)


def _warnings(sources: ReportSources) -> list[Advice]:
    """Warnings of the stages as sentences, but for what `_apart` says with a remedy."""
    apart = len(sources.sparse.models) > 1
    told = [text for text in sources.summary["warnings"] if not (apart and text.startswith(NOTHING_JOINS))]
    return [Advice("warning", _sentence(text)) for text in told]


def _sentence(text: str) -> str:
    """With a capital, unless it begins with the name of a photo, and a full stop."""
    first = text.partition(" ")[0].rstrip(":,")
    capital = text[:1].upper() if first.isalpha() else text[:1]
    return f"{capital}{text[1:]}{'' if text.endswith('.') else '.'}"


def _patterns(fields: Iterable[ResidualField]) -> list[Advice]:
    odd = [number for number, field in enumerate(fields) if field.pattern > PATTERN]
    if not odd:
        return []
    cameras = "A camera leaves" if len(odd) == 1 else f"{len(odd)} cameras leave"
    return [
        Advice(
            "hint",
            f"{cameras} a pattern of errors over the sensor: the lens distorts in a way that its model cannot express.",
            "Use a richer camera model: --set cameras.model=OPENCV (OPENCV_FISHEYE for a fisheye).",
        )
    ]


def _focals(sources: ReportSources) -> list[Advice]:
    priors, found = sources.priors, []
    if priors is None:
        return []
    for model in sources.sparse.models:
        for photo, camera in zip(model.photos.tolist(), model.camera_of_photo.tolist(), strict=True):
            start = int(priors.camera_of_photo[photo])
            ratio = model.cameras[camera].params[0] / priors.cameras[start].params[0]
            if priors.focal_source[start] != "guess" and not 1.0 / FOCAL_RATIO <= ratio <= FOCAL_RATIO:
                found.append((sources.photos[photo].name, ratio))
    if not found:
        return []
    names = listed([name for name, _ in found])
    text = f"{names} found to have {found[0][1]:.2f} times the focal length of the EXIF data."
    return [Advice("hint", text, "Cropped or zoomed photos do that. If they are not, the poses deserve a second look.")]


def _shape(lengths: Index, angles_deg: Array) -> list[Advice]:
    found = []
    if len(angles_deg) and float(np.median(angles_deg)) < NARROW_DEG:
        text = (
            f"Half of the points are seen under less than {np.median(angles_deg):.1f} degrees, so their depth is vague."
        )
        found.append(
            Advice("hint", text, "Step sideways between photos, about a tenth of the distance to the subject.")
        )
    if len(lengths) and float(np.mean(lengths >= 3)) < SHORT_TRACKS:
        text = f"Only {np.mean(lengths >= 3):.0%} of the points are seen by a third photo."
        found.append(
            Advice("hint", text, "Let every spot appear in three photos or more: smaller steps from photo to photo.")
        )
    return found


def _nearest_registered(sources: ReportSources, names: list[str]) -> tuple[str, str] | None:
    """Of these photos and the registered ones, the two that look most alike."""
    index = {photo.name: i for i, photo in enumerate(sources.photos.photos)}
    lost = {index[name] for name in names if name in index}
    registered = {i for model in sources.sparse.models for i in model.photos.tolist()}
    best = _most_similar(sources, lost, registered)
    return None if best is None else (sources.photos[best[0]].name, sources.photos[best[1]].name)


def _most_similar(sources: ReportSources, one: set[int], other: set[int]) -> tuple[int, int] | None:
    """The most similar pair of a photo of one set and a photo of the other, in this order."""
    ranking = sources.ranking
    if ranking is None:
        return None
    for row in np.argsort(-ranking.similarity, kind="stable").tolist():
        a, b = ranking.pairs[row].tolist()
        if a in one and b in other:
            return a, b
        if b in one and a in other:
            return b, a
    return None


def usual_reason(photos: Mapping[str, Mapping[str, Any]]) -> str:
    """The reason that most photos without a model share, with their number; empty where none is known."""
    reasons = Counter(_without_numbers(facts["reason"]) for facts in photos.values() if facts.get("reason"))
    if not reasons:
        return ""
    reason, number = reasons.most_common(1)[0]
    return f"{'each' if number == len(photos) else f'{number} of them'}: {reason}"


def _without_numbers(reason: str) -> str:
    """A reason as photos share it, which differ in how many key points or partners they have."""
    return re.sub(r"matches with \d+ photos?", "matches with others", re.sub(r"only \d+ key", "too few key", reason))


def listed(names: list[str]) -> str:
    """`a, b and 3 more photos are`."""
    some, more = names[:NAMED], len(names) - NAMED
    if more > 0:
        return f"{', '.join(some)} and {more} more {'photo' if more == 1 else 'photos'} are"
    return f"{', '.join(some[:-1])} and {some[-1]} are" if len(some) > 1 else f"{some[0]} is"
