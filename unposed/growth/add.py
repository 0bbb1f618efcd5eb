"""Add photos to a finished reconstruction, or take some out, and adjust all from where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Unpack

import numpy as np

from unposed.optim.mapping.held_photos import MAX_TENSION
from unposed.optim.option_ranges import Share, Within
from unposed.pipeline.artifacts import Photo, Photos, SparseModels
from unposed.pipeline.config import did_you_mean
from unposed.pipeline.errors import InputError
from unposed.pipeline.store.store import Store
from unposed.pipeline.threads import one_thread_each

from .. import summary as facts
from ..alignment.frames import KEY, SCALE
from ..loading import load
from ..localization.options import LocalizationOptions
from ..localization.prepare import make_localizer
from ..localization.result import Localization
from ..options import DEFAULTS, RunChanges, RunOptions, Settings
from ..output import SUMMARY, keep_georeference, locked_folder
from ..photo_sources import PhotoSource, collect, paths_given
from ..reconstruction import Reconstruction
from ..run_log import RunLog
from ..run_report import gathered, write_report
from ..run_setup import Workplace, typed_command, workplace
from ..runs import export_again, write_result, write_summary
from ..settings import built_options
from .known_models import KnownPose, known_model
from .loose_parts import with_loose_parts
from .mapped_anew import mapped_anew_if_better
from .new_photos import localized_photos, pairs_by_votes
from .warm_run import WarmResult, WarmStart, kept_findings, known_pairs, name_pair, warm_run


@dataclass(frozen=True)
class GrowthOptions(LocalizationOptions):
    """How photos are added: localization, and pairs among the new photos."""

    new_partners: Annotated[int, Within("[0, inf)")] = 5
    """Pairs of a new photo with other new ones, by retrieval: several of one spot that the model does not show."""
    max_new_share: Share = 0.1
    """Up to this share of new photos, with those that were added so before, key points of the old ones stay where they
    were aligned, and one adjustment goes on from there. More photos change enough for a full refinement."""
    max_tension: Annotated[float, Within("[0, inf)")] = MAX_TENSION
    """Then old photos are held while what the new ones say against it is at most so many times what noise alone lets
    them say. 0: everything is adjusted."""
    anew: bool = True
    """Whether all photos are mapped anew where verified pairs tie a new one to another model or to what is in none, or
    where the verdict warns, if that registers more, joins models or is surer: the work of a reconstruction, without
    features and pairs that are known."""


def add(
    out: str | Path,
    photos: PhotoSource | None = None,
    *,
    without: Sequence[str] = (),
    settings: Settings = (),
    photos_folder: str | Path | None = None,
    options: RunOptions = DEFAULTS,
    **changes: Unpack[RunChanges],
) -> Reconstruction:
    """Add photos to the finished reconstruction in `out`, in its place, and adjust it from where it was.

    photos: as of `reconstruct`, and one photo will do; what is in the reconstruction already is passed over.
    without: names of photos that are taken out.
    settings: options of `unposed.growth.add.GrowthOptions`, such as `partners=20`.
    photos_folder: the photos of the model, if they have moved.

    New photos are localized and matched with photos that see the same, and with each other; old pairs, features and
    matches are those of the store. What was not registered before is tried again. Frames stay, and `grown` in
    summary.json says how far old photos have moved. Report, and exports that were part of the run, are made again.
    Where no photo is registered that was not before, and none was taken out, the models stay as they are, and
    summary.json alone has the reasons.
    """
    started = facts.Clock.now()
    how = built_options(GrowthOptions, settings, "add")
    out = Path(out)
    summary = (out / SUMMARY).read_bytes() if (out / SUMMARY).is_file() else b""
    made = load(out, photos_folder)
    with workplace(options.merged(changes)) as (place, shown), ExitStack() as stack:
        new_folder = stack.enter_context(locked_folder(out))
        if summary != (out / SUMMARY).read_bytes():  # another run has ended since
            made = load(out, photos_folder)
        log = stack.enter_context(RunLog(None, shown))
        given = _collected(photos, place)
        _check_names(made, without)
        if not made.models:
            raise InputError(f"{out}: no model in it to add to: give all photos to unposed reconstruct")
        kept = [photo for photo in made.photos.photos if photo.name not in without]
        joined = joined_photos(kept, given.photos)
        if not joined.new and not without:
            raise InputError(f"nothing to add: {joined.reason()}")
        with place.open_store(log.note) as store:
            growth = grow(made, joined, without, how, started, place, store, log, given.rejected)
            grown_made = growth.made
            if not growth.changed:
                write_summary(grown_made, new_folder, out)
                return grown_made
            words = ["add", str(out), *paths_given(() if photos is None else photos)]
            words += [word for name in without for word in ("--without", name)]
            words += [] if photos_folder is None else ["--photos", str(photos_folder)]
            report_growth(grown_made, growth.result, typed_command(words, settings), new_folder, log)
        keep_georeference(out, new_folder)
        write_result(grown_made, new_folder, out)
        export_again(grown_made, out, log.note)
    return grown_made


@dataclass(frozen=True, eq=False)
class Growth:
    """What a reconstruction has grown to."""

    made: Reconstruction
    result: WarmResult
    changed: bool
    """Whether the models are others than before."""


def grow(
    made: Reconstruction,
    joined: JoinedPhotos,
    without: Sequence[str],
    how: GrowthOptions,
    started: facts.Clock,
    place: Workplace,
    store: Store,
    log: RunLog,
    unread: Mapping[str, str] = MappingProxyType({}),
) -> Growth:
    """A reconstruction with new photos and without others, adjusted from where it was; nothing is written.

    unread: why photos that were given are not among the new ones, by name.
    """
    start, found = _warm_start(made, joined, set(without), how, place, store, log)
    settings_of_model = made.summary["settings"]
    result = warm_run(start, settings_of_model, place, store, log)
    new = {photo.name for photo in joined.new}
    anew = mapped_anew_if_better(result, start, new, settings_of_model, place, store, log) if how.anew else None
    result = anew or result
    added = {each.photo.name: _said_of(each, result, start.photos) for each in found}
    newly = sum(each["registered"] for each in added.values())
    changed = bool(newly or without or anew)
    refined = changed and (start.kept is None or anew is not None)
    grown = {
        "added": added,
        "passed_over": {**joined.passed_over, **unread},
        "without": list(without),
        "changed": changed,
        "moved": result.moved if changed else {},
        "anew": anew is not None,
        "since_refined": 0 if refined else photos_added_since(made) + newly,
    }
    made_of = as_reconstruction if changed else _as_it_was
    grown_made = made_of(made, start.photos, result, {"grown": grown, **started.elapsed()}, made.folder)
    _give_same_reasons(grown_made.summary)
    if without:
        warnings = with_loose_parts(grown_made.summary["warnings"], result)
        grown_made = replace(grown_made, summary={**grown_made.summary, "warnings": warnings})
    return Growth(grown_made, result, changed)


@dataclass(frozen=True)
class JoinedPhotos:
    """Photos of a reconstruction and new ones, under names of their own."""

    old: tuple[Photo, ...]
    new: tuple[Photo, ...]
    passed_over: Mapping[str, str]
    """By name of what was given: why it is not new."""

    @property
    def all(self) -> Photos:
        """Sorted by name."""
        return Photos(tuple(sorted((*self.old, *self.new), key=lambda photo: photo.name)), {})

    def reason(self) -> str:
        """Why nothing is new."""
        name, why = next(iter(self.passed_over.items()), ("", "no photos were given"))
        return f"{name}: {why}" if name else why


def joined_photos(old: Sequence[Photo], given: Sequence[Photo]) -> JoinedPhotos:
    """Photos that are there already are passed over; others whose name is taken get that of their folder before it."""
    contents, names = {photo.content: photo.name for photo in old}, {photo.name for photo in old}
    new: list[Photo] = []
    passed_over: dict[str, str] = {}
    for photo in given:
        if photo.content in contents:
            passed_over[photo.name] = f"it is {contents[photo.content]}, which is there already"
            continue
        name = photo.name
        if name in names:
            name = f"{photo.path.parent.name or 'new'}/{photo.name}"
        number = 2
        while name in names:
            name, number = f"{photo.path.parent.name or 'new'}-{number}/{photo.name}", number + 1
        names.add(name)
        contents[photo.content] = name
        new.append(replace(photo, name=name))
    return JoinedPhotos(tuple(old), tuple(new), passed_over)


def as_reconstruction(
    made: Reconstruction, photos: Photos, result: WarmResult, more: Mapping[str, Any], out: Path | None
) -> Reconstruction:
    """What a warm run has made of a reconstruction, with a summary of its own."""
    there = {photo.name for photo in photos.photos}
    unread = {name: why for name, why in made.photos.rejected.items() if name not in there}
    photos = Photos(photos.photos, unread)  # they are named still
    outcome = facts.outcome(photos, result.sparse, result.run, None)
    for entry, old in zip(outcome["models"], result.old_model, strict=True):
        before = {} if old is None else made.summary["models"][old]
        entry |= {key: before[key] for key in (KEY, SCALE) if key in before}  # frames stay
    facts.add_files(outcome, photos, Path(made.summary["photos_folder"]))
    return Reconstruction(photos, result.sparse, {**made.summary, **outcome, **more}, out)


def _as_it_was(
    made: Reconstruction, photos: Photos, result: WarmResult, more: Mapping[str, Any], out: Path | None
) -> Reconstruction:
    """A reconstruction whose models stay, with photos that a warm run has tried in vain."""
    index = {photo.name: k for k, photo in enumerate(photos.photos)}
    models = tuple(
        replace(model, photos=np.array([index[made.photos[k].name] for k in model.photos.tolist()]))
        for model in made.sparse.models
    )
    sparse = SparseModels(models, result.sparse.left_out, made.sparse.warnings)
    tried = replace(result, sparse=sparse, old_model=tuple(range(len(models))))
    grown = as_reconstruction(made, photos, tried, more, out)
    stays = {key: made.summary[key] for key in ("models", "warnings", "doubts") if key in made.summary}
    registered = {name: each for name, each in made.summary["photos"].items() if "model" in each}
    each_photo = {**grown.summary["photos"], **registered}
    return replace(grown, summary={**grown.summary, **stays, "photos": each_photo})


def _give_same_reasons(summary: Mapping[str, Any]) -> None:
    """A photo that was not added has one reason: that of localization if it found no pose, since it says more."""
    for name, each in summary["grown"]["added"].items():
        if not each["registered"]:
            reason = each.get("reason", summary["photos"][name]["reason"])
            each["reason"] = summary["photos"][name]["reason"] = reason


def report_growth(made: Reconstruction, result: WarmResult, command: str, folder: Path, log: RunLog) -> None:
    """Write the report and the overview of a warm run to `folder`."""
    write_report(gathered(result.graph, made.photos, made.sparse, made.summary, result.run, command), folder, log.note)


def photos_added_since(made: Reconstruction) -> int:
    """How many photos were added since all was refined."""
    return int((made.summary.get("grown") or {}).get("since_refined", 0))


def _collected(photos: PhotoSource | None, place: Workplace) -> Photos:
    if photos is None:
        return Photos((), {})
    return collect(photos, place.cache, verify=place.options.verify_photos, least=1)[0]


def _check_names(made: Reconstruction, without: Sequence[str]) -> None:
    known = [photo.name for photo in made.photos.photos]
    for name in without:
        if name not in known:
            raise InputError(f"{name}: no photo of the reconstruction{did_you_mean(name, known)}")


def _warm_start(
    made: Reconstruction,
    joined: JoinedPhotos,
    without: set[str],
    how: GrowthOptions,
    place: Workplace,
    store: Store,
    log: RunLog,
) -> tuple[WarmStart, list[Localization]]:
    """Localize what is new, and what was not registered before; the pairs of both."""
    photos = joined.all
    before = tuple(known_model(model, made.photos) for model in made.sparse.models)
    models = [{name: pose for name, pose in model.items() if name not in without} for model in before]
    registered = {name for model in before for name in model}
    wanted = [*joined.new, *(photo for photo in joined.old if photo.name not in registered)]
    pairs = {pair for pair in known_pairs(made.summary) if not without & set(pair)}
    found: list[Localization] = []
    if wanted:
        with one_thread_each():
            localizer = make_localizer(made, store, place.resources, options=how, seed=place.options.seed, progress=log)
            found = localized_photos(localizer, wanted, {}, place, store, log)
            pairs |= pairs_by_votes(localizer, wanted, how.new_partners, place, store, log, among=True)
        for each in found:
            name = each.photo.name
            pairs |= {name_pair(name, other) for other in each.matched_photos if other not in without | {name}}
            if each.pose is not None and not each.ambiguous:
                models[each.pose.model][name] = KnownPose(each.pose.camera, each.pose.cam_from_world)
    old = tuple({name: pose for name, pose in model.items() if name not in without} for model in before)
    # Photos that are tried again in every call are no news unless they have found a pose now.
    posed = sum(each.pose is not None for each in found)
    few = photos_added_since(made) + max(len(joined.new), posed) <= how.max_new_share * len(registered)
    kept = kept_findings(made, registered - without, how.max_tension) if few else None
    return WarmStart(photos, frozenset(pairs), tuple(models), old, kept), found


def _said_of(found: Localization, result: WarmResult, photos: Photos) -> dict[str, Any]:
    """What became of a new photo."""
    index = [photo.name for photo in photos.photos].index(found.photo.name)
    model = next((k for k, each in enumerate(result.sparse.models) if index in each.photos), None)
    out: dict[str, Any] = {"localized": found.pose is not None, "registered": model is not None}
    if found.ambiguous:
        out["ambiguous"] = True
    if found.reason is not None:
        out["reason"] = found.reason
    return out
