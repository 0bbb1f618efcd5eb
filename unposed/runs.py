"""From photos to a reconstruction."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack

from unposed.pipeline.artifacts import Photos, SparseModels
from unposed.pipeline.colmap_model import write_models
from unposed.pipeline.errors import ConfigError, InputError, NoReconstruction, StageCrashed, UnposedError
from unposed.pipeline.registry import Registry
from unposed.pipeline.store.store import Store
from unposed.pipeline.whole_panoramas import whole_panoramas
from unposed.report.given_photos import given_photos
from unposed.synthetic.sample import sample_folder

from . import summary as facts
from .clip_pairs import CHOSEN, holds_clips
from .evaluation import Evaluation, evaluate
from .export_folder import MARK as EXPORT_MARK, older_export
from .options import DEFAULTS, RunChanges, RunOptions, Settings
from .output import OF_RESULT, SUMMARY, keep_georeference, locked_folder, publish
from .photo_sources import PhotoSource, collect, paths_given
from .posed_pairs import NEAR
from .reconstruction import Reconstruction
from .run_log import RunLog
from .run_report import gathered, run_command, still_notes, write_report
from .run_setup import Workplace, checked_graph, chosen_preset, effort_of, preset_worth_a_try, workplace
from .so_far import discard, preview_of

EXPORTS = "exports"
"""Key of summary.json: export plugins that were part of the run."""
NAMED = 3
"""Photos that cannot be used, of those that a message has by name."""


def reconstruct(
    photos: PhotoSource,
    out: str | Path | None = None,
    *,
    preset: str | Path = "auto",
    settings: Settings = (),
    cameras: Literal["auto", "single", "folder", "image"] | None = None,
    intrinsics: str | Path | None = None,
    poses: str | Path | None = None,
    rigs: str | Path | None = None,
    masks: str | Path | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    frames: int | None = None,
    require: float = 0.0,
    report: bool = True,
    exports: Sequence[str] = (),
    anew: bool = False,
    options: RunOptions = DEFAULTS,
    **changes: Unpack[RunChanges],
) -> Reconstruction:
    """Reconstruct cameras and 3D points from photos, and write them to `out` if a folder is given.

    photos: a folder, searched with its sub-folders; a photo or a video; a list of these; or images (height, width, 3)
    uint8 RGB in a list, an array or a mapping of name to image. Videos count as their frames.
    preset: name or YAML file of the graph of stages; `auto` chooses one that suits the machine.
    settings: `node.key=value`, or a mapping of `node.key` to value, on top of the preset.
    cameras: which photos share their intrinsics; a short form of the setting `cameras.grouping`.
    intrinsics, poses: files with known values, which stay constant unless they say how exact they are; short forms of
    `cameras.intrinsics` and `cameras.poses`. Poses choose pairs, too.
    rigs: file that says which photos were taken by cameras that are fixed to each other; short for `cameras.rigs`.
    masks: folder of masks named like the photos; black hides.
    include, exclude: shell patterns of photo names.
    frames: of each video that are taken, at most; None: two a second, or as many as overlap, from 60 to 300.
    require: share of the photos that must be registered, else NoReconstruction (the result is still written).
    report: whether report.html and overview.jpg are written beside the models.
    exports: export plugins, such as `splat`; each writes a folder of its name in `out` when the models are there.
    anew: whether all is mapped anew where `out` has the result of the same request for all but a few of the photos.
    Otherwise the run goes on from that, if it is safe (see `unposed.growth.grown_folder`).
    options: how to run; its fields may also be given as keywords (`device="cpu"`, `workers=2`, `cache=...`).
    Raises ConfigError, InputError, NoReconstruction, Interrupted; each has a message of one line with the remedy.
    """
    started = facts.Clock.now()
    _check_exports(exports, out)
    with workplace(options.merged(changes)) as (place, shown), ExitStack() as stack:
        effort = effort_of(place.options.effort)
        name = chosen_preset(preset)
        given_cameras = {"grouping": cameras, "intrinsics": intrinsics, "poses": poses, "rigs": rigs}
        checked = partial(checked_graph, name, settings, given_cameras, Registry())
        checked(clips=True)  # before any photo is read, and without knowing whether there are clips
        videos: list[str] = []
        collection, folder = collect(
            photos,
            place.cache,
            include=include,
            exclude=exclude,
            masks=masks,
            verify=place.options.verify_photos,
            frames=frames,
            note=videos.append,
        )
        out = None if out is None else Path(out)
        new = None if out is None else stack.enter_context(locked_folder(out))
        log = stack.enter_context(RunLog(None if out is None else out / "run.log", shown))
        graph = place.affordable(checked(clips=holds_clips(collection)), log.note)
        place, collection = place.fitting(graph, collection, log.note)
        for line in videos:
            log.note(line)
        log.write(f"{len(collection)} photos in {folder}, preset {name}, seed {place.options.seed}")
        if NEAR in graph.nodes:
            log.write("given poses choose pairs, beside what photos look like (they do not with --set near=null)")
        if CHOSEN in graph.nodes:
            log.write("frames are paired along their clips, too (they are not with --set along=null)")
        if preset == "auto" and (other := preset_worth_a_try(place.resources.device)):
            log.note(f"{other} can run here as well, but was never judged with these weights: --preset {other}")
        given = paths_given(photos) or [str(folder)]
        mask_folder = None if masks is None else Path(masks)
        origin = facts.origin(folder, given, mask_folder, name, graph, effort, place.options.seed, place.resources)
        origin |= {EXPORTS: list(exports)} if exports else {}
        command = run_command(
            given,
            Path() if out is None else out,
            name,
            settings,
            place.options,
            {"include": include, "exclude": exclude, "exports": exports},
            cameras=cameras,
            intrinsics=intrinsics,
            poses=poses,
            rigs=rigs,
            masks=masks,
            frames=frames,
            require=require or None,
            anew=anew,
        )
        failure: str | None = None
        crash: StageCrashed | None = None
        still: list[str] = []
        with place.open_store(log.note) as store:
            if out is not None and new is not None and not anew and not place.options.reproducible:
                grown = _grown(out, new, collection, origin, command if report else None, started, place, store, log)
                if grown is not None:
                    if complaint := _shortfall(grown, require, [], {}):
                        raise complaint
                    export_within(grown, out, exports, log.note)
                    return grown
            try:
                done = place.run(graph, collection, store, log, preview_of(collection, folder, new))
                sparse = done.sparse or SparseModels((), {})
            except (NoReconstruction, StageCrashed) as error:
                failure, done, sparse = str(error), error.run, SparseModels((), {})
                crash = error if isinstance(error, StageCrashed) else None
                if _spares_older_result(out, error.__cause__):
                    raise
            try:
                outcome = facts.outcome(collection, sparse, done, failure)
                facts.add_files(outcome, collection, folder)
                outcome["warnings"] += [] if done is None else facts.camera_notes(graph, done)
                if not sparse.models:
                    still = still_notes(graph, collection, {**origin, **outcome}, done)
            except UnposedError:
                raise
            except Exception as error:  # what is known goes to the summary all the same
                if _spares_older_result(out, error):
                    raise _crashed("summing up the result", error) from error
                sparse, crash = SparseModels((), {}), crash or _crashed("summing up the result", error)
                failure = failure or str(crash)
                outcome = facts.outcome(collection, sparse, None, failure)
            made = Reconstruction(collection, sparse, {**origin, **outcome, **started.elapsed()}, out)
            if out is not None and new is not None and report:
                write_report(gathered(graph, collection, sparse, made.summary, done, command), new, log.note)
            # Only now: the report has found it itself, and says more of it.
            made = replace(made, summary={**made.summary, "warnings": [*outcome["warnings"], *still]})
        if out is not None and new is not None:
            try:
                write_result(made, new, out)
            except UnposedError:
                raise
            except Exception as error:
                crash = crash or _crashed("writing the result", error)
                nothing = SparseModels((), {})
                lost = {**origin, **facts.outcome(collection, nothing, done, str(crash)), **started.elapsed()}
                made = Reconstruction(collection, nothing, lost, out)
                shutil.rmtree(new, ignore_errors=True)
                new.mkdir()
                write_result(made, new, out)
        log.write(failure or f"registered {made.summary['registered']} of {made.summary['total']} photos")
        lost = {} if done is None else done.lost_photos
        complaint = crash or _shortfall(made, require, still, lost)
        if out is not None and complaint is None:
            export_within(made, out, exports, log.note)
    if complaint is not None:
        raise complaint
    return made


def _grown(
    out: Path,
    new: Path,
    collection: Photos,
    origin: Mapping[str, Any],
    command: str | None,
    started: facts.Clock,
    place: Workplace,
    store: Store,
    log: RunLog,
) -> Reconstruction | None:
    """What the result in a folder has grown to by a few new photos, written in its place; None if all is to be mapped.
    command: for the report; None: there is none."""
    try:
        before = json.loads((out / SUMMARY).read_bytes())["photos"].keys()
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None
    if not before < {photo.name for photo in collection.photos} | collection.rejected.keys():
        return None
    from .growth.add import report_growth  # not needed by other runs
    from .growth.grown_folder import gone_on

    growth = gone_on(out, collection, origin, started, place, store, log)
    if growth is None:
        return None
    if command is not None:
        report_growth(growth.made, growth.result, command, new, log)
    keep_georeference(out, new)
    write_result(growth.made, new, out)
    log.write(f"registered {growth.made.summary['registered']} of {growth.made.summary['total']} photos")
    return growth.made


def _check_exports(exports: Sequence[str], out: str | Path | None) -> None:
    """Before anything is computed: there are such plugins, and a folder for what they write."""
    for name in exports:
        Registry().find("export", name)
    if exports and out is None:
        raise ConfigError("exports are written into the output folder: give one")
    for name in exports:
        older_export(Path(str(out)) / name)


def export_within(made: Reconstruction, out: Path, exports: Sequence[str], note: Callable[[str], None]) -> None:
    """Write exports of a result into its folder; those of an older result that are not made again are noted."""
    stale = sorted(mark.parent.name for mark in out.glob(f"*/{EXPORT_MARK}") if mark.parent.name not in exports)
    for name in stale:
        note(f"{out / name} was exported from an older result: export it again")
    for name in exports:
        try:
            made.export(name, out / name)
        except InputError as error:
            raise InputError(f"{out} has the result, but {name} was not exported: {error}") from error


def export_again(made: Reconstruction, out: Path, note: Callable[[str], None]) -> None:
    """Exports that were part of the run, after its result has changed; others within the folder are noted."""
    export_within(made, out, made.summary.get(EXPORTS, ()), note)


def demo(
    out: str | Path = "unposed-demo",
    *,
    preset: str | Path = "auto",
    settings: Settings = (),
    report: bool = True,
    options: RunOptions = DEFAULTS,
    **changes: Unpack[RunChanges],
) -> tuple[Reconstruction, Evaluation]:
    """Reconstruct the bundled sample and evaluate the result; options are those of `reconstruct`."""
    sample = sample_folder()
    made = reconstruct(sample, out, preset=preset, settings=settings, report=report, options=options, **changes)
    return made, evaluate(out, sample / "gt.json")


def _spares_older_result(out: Path | None, error: BaseException | None) -> bool:
    """Whether trouble of the moment, such as no free file handle or memory, ends a run that would replace a result."""
    return isinstance(error, OSError | MemoryError) and out is not None and (out / "summary.json").exists()


def _crashed(doing: str, error: Exception) -> StageCrashed:
    crash = StageCrashed(f"{doing} failed with an unexpected {type(error).__name__}: {' '.join(str(error).split())}")
    crash.__cause__ = error
    return crash


def write_result(made: Reconstruction, new: Path, out: Path) -> None:
    """Write the result aside, then publish it, so that a full disk spoils nothing."""
    try:
        if made.sparse.models:
            write_models(made.sparse.models, made.photos, new / "sparse")
            if any(photo.view for photo in made.photos.photos):
                write_models(*whole_panoramas(made.sparse.models, made.photos), new / "panoramas")
        _publish_with_summary(made, new, out)
    except OSError as error:
        raise _not_written(out, error) from error


def write_summary(made: Reconstruction, new: Path, out: Path) -> None:
    """Publish a summary beside the models, the report and whatever else belongs to a result, which stay as they are."""
    try:
        for name in OF_RESULT:
            if (out / name).is_dir():
                shutil.copytree(out / name, new / name)
            elif name != SUMMARY and (out / name).exists():
                shutil.copy2(out / name, new / name)
        _publish_with_summary(made, new, out)
    except OSError as error:
        raise _not_written(out, error) from error


def _publish_with_summary(made: Reconstruction, new: Path, out: Path) -> None:
    text = json.dumps(made.summary, indent=1, ensure_ascii=False)
    # Names that are not UTF-8 were rejected, and are listed: as escapes, which JSON has as well.
    (new / SUMMARY).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    discard(new)
    publish(new, out)


def _not_written(out: Path, error: OSError) -> InputError:
    return InputError(
        f"{out} cannot be written ({error.strerror or error}); run again when it can: what was computed is kept"
    )


def _shortfall(
    made: Reconstruction, require: float, still: Sequence[str], lost: Mapping[str, str]
) -> UnposedError | None:
    """Why a result is none, or not what is required; still: what is known of a background that stands still; lost:
    photos that turned out to be damaged, or gave nothing for another reason, by name."""
    where = "".join(f"; {line[:1].lower()}{line[1:]}" for line in still)
    where += f"; {made.folder}/summary.json says why, photo by photo" if made.folder else ""
    total, registered = made.summary["total"], made.summary["registered"]
    if made.summary["failure"]:
        return NoReconstruction(f"{made.summary['failure']}{where}")
    if not made.sparse.models:
        folder, unusable = made.summary["photos_folder"], {**made.photos.rejected, **lost}
        named = "; ".join(f"{name} cannot be used: {why}" for name, why in list(unusable.items())[:NAMED])
        named += f"; and {len(unusable) - NAMED} more" if len(unusable) > NAMED else ""
        where = f"; {named}{where}" if named else where
        if (usable := total - len(unusable)) < 2:
            found = "only one usable photo" if usable else "no usable photo"
            return InputError(f"{found} in {folder}: at least two that overlap are needed{where}")
        from unposed.report.words import usual_reason  # here: not needed where all is well

        reason = usual_reason({name: each for name, each in made.summary["photos"].items() if name not in unusable})
        look = shlex.join(["unposed", "pairs", *given_photos(made.summary)])
        return NoReconstruction(
            f"none of the {total} photos could be registered{f' ({reason})' if reason else ''}: "
            f"every spot has to be seen from two or more places; {look} lists what was matched with what{where}"
        )
    if registered < require * total:
        return NoReconstruction(f"registered only {registered} of {total} photos, {require:.0%} are required{where}")
    return None
