"""Merge two finished reconstructions of one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Unpack

import numpy as np
from scipy.spatial import cKDTree

from unposed.optim.alignment.robust_similarity import RobustSimilarityOptions, fit_positions
from unposed.optim.arrays import Array, Mask
from unposed.optim.option_ranges import Angle, Count, Positive, Share, Within
from unposed.optim.poses import camera_centres
from unposed.optim.rotations import rotation_angle_deg
from unposed.optim.similarity import Similarity
from unposed.pipeline.errors import InputError
from unposed.pipeline.store.store import Store
from unposed.pipeline.threads import one_thread_each

from .. import summary as facts
from ..loading import load
from ..localization.prepare import make_localizer
from ..model import Model
from ..options import DEFAULTS, RunChanges, RunOptions, Settings
from ..output import keep_georeference, locked_folder
from ..reconstruction import Reconstruction
from ..run_log import RunLog
from ..run_setup import Workplace, typed_command, workplace
from ..runs import export_again, write_result
from ..settings import built_options
from .add import GrowthOptions, as_reconstruction, joined_photos, report_growth
from .known_models import KnownModel, KnownPose, known_model, moved_known, similarity_between
from .mapped_anew import mapped_anew_if_better
from .new_photos import localized_photos, pairs_by_votes
from .warm_run import WarmStart, known_pairs, name_pair, warm_run


@dataclass(frozen=True)
class MergeOptions(GrowthOptions):
    """When two models belong together, and how their photos are matched."""

    crossing_photos: Count = 30
    """Photos of the second model that are localized in the first one, evenly picked, where few are in both."""
    crossing_partners: Count = 5
    """Photos of the first model that each photo of the second one is matched with, by retrieval."""
    min_photos: Count = 3
    """Photos that are in both models, or localized, and consistent with one similarity, at least."""
    min_consistent: Share = 0.6
    """Two models of whose common photos a smaller share is consistent do not belong together."""
    max_angle_deg: Angle = 3.0
    """A photo whose rotations in the two models differ by more is inconsistent,"""
    max_offset: Positive = 0.1
    """and one whose positions differ by more, in units of the median distance of the first model's points from the
    middle of the common photos."""
    max_focal_ratio: Annotated[float, Within("[1, inf)")] = 1.03
    """Where one camera has focal lengths in the two models that differ by more, one of them is wrong, and all is mapped
    anew if that is surer. Focal lengths of right models differ by less than a hundredth, where three photos share
    them."""
    max_aligned_px: Positive = 2.0
    """Two models have a key point of one photo where each has aligned it: parts of a pixel apart, rarely more."""
    similarity: RobustSimilarityOptions = field(default_factory=RobustSimilarityOptions)
    """Fit to common points and photos."""


def merge(
    a: str | Path,
    b: str | Path,
    out: str | Path | None = None,
    *,
    settings: Settings = (),
    options: RunOptions = DEFAULTS,
    **changes: Unpack[RunChanges],
) -> Reconstruction:
    """Merge the finished reconstruction in `b` into that in `a`: in its place, or into `out`.

    The largest models are joined by the photos that are in both, whatever their names, or by photos of `b` that are
    localized in `a`. Photos and points of both are one afterwards, in the frame and by the preset of `a`, and all is
    adjusted. Other models stay as they are, unless mapping all anew joins them.
    settings: options of `unposed.growth.merge.MergeOptions`.
    Raises InputError with the reason where the models do not belong together.
    """
    started = facts.Clock.now()
    how = built_options(MergeOptions, settings, "merge")
    first, second = load(a), load(b)
    for made, folder in ((first, a), (second, b)):
        if not made.models:
            raise InputError(f"{folder}: the reconstruction has no model to merge")
    target = Path(a) if out is None else Path(out)
    with workplace(options.merged(changes)) as (place, shown), ExitStack() as stack:
        new_folder = stack.enter_context(locked_folder(target))
        first, second = load(a), load(b)  # again: another run may have ended since
        log = stack.enter_context(RunLog(None, shown))
        with place.open_store(log.note) as store:
            start, link = _merged(first, second, how, place, store, log)
            settings_of_a = first.summary["settings"]
            result = warm_run(start, settings_of_a, place, store, log)
            new = {photo.name for photo in start.photos.photos} - {photo.name for photo in first.photos.photos}
            anew = None
            if how.anew:
                suspected = _is_suspected(first, second, link["focal_ratio"], how)
                anew = mapped_anew_if_better(result, start, new, settings_of_a, place, store, log, suspected=suspected)
            result = anew or result
            merged = {"from": str(Path(b).absolute()), **link}
            grown = {"merged": merged, "moved": result.moved, "anew": anew is not None}
            made = as_reconstruction(first, start.photos, result, {"grown": grown, **started.elapsed()}, target)
            words = ["merge", str(a), str(b), *([] if out is None else ["-o", str(out)])]
            report_growth(made, result, typed_command(words, settings), new_folder, log)
        keep_georeference(Path(a), new_folder)
        write_result(made, new_folder, target)
        export_again(made, target, log.note)
    return made


def _merged(
    first: Reconstruction, second: Reconstruction, how: MergeOptions, place: Workplace, store: Store, log: RunLog
) -> tuple[WarmStart, dict[str, Any]]:
    """Both reconstructions in the frame of the first one, and what joins them."""
    joined = joined_photos(first.photos.photos, second.photos.photos)
    name_of = {photo.content: photo.name for photo in joined.all.photos}
    names = {photo.name: name_of[photo.content] for photo in second.photos.photos}
    known_a = [known_model(model, first.photos) for model in first.sparse.models]
    known_b = [
        {names[name]: pose for name, pose in known_model(model, second.photos).items()}
        for model in second.sparse.models
    ]
    with one_thread_each():
        localizer = make_localizer(first, store, place.resources, options=how, seed=place.options.seed, progress=log)
        pairs = pairs_by_votes(localizer, joined.new, how.crossing_partners, place, store, log)
        common = sorted(known_a[0].keys() & known_b[0].keys())
        link = _link_by_photos(first[0], second[0], names, common, how.max_aligned_px)
        inside = [photo for photo in joined.new if photo.name in known_b[0]]
        across = len(common) < how.min_photos and bool(inside)
        if across:
            some = [inside[k] for k in np.unique(np.linspace(0, len(inside) - 1, how.crossing_photos).astype(int))]
            cameras = {photo.name: known_b[0][photo.name].camera for photo in some}
            found = localized_photos(localizer, some, cameras, place, store, log)
            link = _link_by_localization(found, second[0], names, how.max_aligned_px)
            pairs |= {name_pair(each.photo.name, other) for each in found for other in each.matched_photos}
    similarity, support = _similarity(link, known_b[0], first[0], across, how)
    whole: dict[str, KnownPose] = {**moved_known(known_b[0], similarity), **known_a[0]}
    others = []
    for model in (*known_a[1:], *known_b[1:]):  # parts of one that the other holds together
        attached = _attached(whole, model, support["distance"], how)
        if attached is None:
            others.append(model)
        else:
            whole = attached
    taken = set(whole)
    rest: list[dict[str, KnownPose]] = []
    for model in others:
        rest.append({name: pose for name, pose in model.items() if name not in taken})
        taken |= set(model)
    pairs |= known_pairs(first.summary)
    pairs |= {name_pair(names[x], names[y]) for x, y in known_pairs(second.summary) if names[x] != names[y]}
    models = (whole, *(model for model in rest if len(model) > 1))
    return WarmStart(joined.all, frozenset(pairs), models, tuple(known_a)), support


def _is_suspected(first: Reconstruction, second: Reconstruction, focal_ratio: float, how: MergeOptions) -> bool:
    """Whether one of two models is probably wrong: by its own verdict, or by a camera that both have."""
    reports = [made.summary["models"][0].get("refinement", {}) for made in (first, second)]
    warned = any((each.get("verdict") or {}).get("trusted") is False for each in reports)
    return warned or max(focal_ratio, 1.0 / focal_ratio) > how.max_focal_ratio


def _focal_ratio(a: KnownModel, b: KnownModel) -> float:
    """Median over photos in two models of the focal length in the first one over that in the second; 1 without any."""
    ratios = [a[name].camera.params[0] / b[name].camera.params[0] for name in sorted(a.keys() & b.keys())]
    return float(f"{np.median(ratios):.6g}") if ratios else 1.0


@dataclass(frozen=True, eq=False)
class _Link:
    """What two models have in common."""

    poses: Mapping[str, KnownPose]
    """Poses in the first model of photos of the second one."""
    points_b: Array
    points_a: Array
    """(n, 3) the same points in both frames, as far as matches are right."""


def _link_by_photos(
    a: Model, b: Model, names: Mapping[str, str], common: Sequence[str], max_aligned_px: float
) -> _Link:
    """Photos in both models, and the points that the same key points of these see."""
    own = {new: old for old, new in names.items() if old in b.images}
    rows_a, rows_b = [], []
    for name in common:
        image_a, image_b = a.images[name], b.images[own[name]]
        at_a, at_b = _same_pixels(image_a.xy, image_b.xy, max_aligned_px)
        point_a, point_b = image_a.point3D_ids[at_a] - 1, image_b.point3D_ids[at_b] - 1
        both = (point_a >= 0) & (point_b >= 0)
        rows_a.append(point_a[both])
        rows_b.append(point_b[both])
    known = known_model(a.sparse, a.photos)
    points_a, points_b = (np.asarray(model.points, np.float64) for model in (a, b))
    return _with_points({name: known[name] for name in common}, points_a, points_b, rows_a, rows_b)


def _link_by_localization(found: Sequence[Any], b: Model, names: Mapping[str, str], max_aligned_px: float) -> _Link:
    """Photos of the second model localized in the first one, and the points that their inliers see in both."""
    own = {new: old for old, new in names.items()}
    poses, source, target = {}, [np.zeros((0, 3))], [np.zeros((0, 3))]
    for each in found:
        if each.pose is None or each.ambiguous or each.pose.model != 0:
            continue
        poses[each.photo.name] = KnownPose(each.pose.camera, each.pose.cam_from_world)
        image = b.images[own[each.photo.name]]
        at_found, at_b = _same_pixels(each.pose.xy, image.xy, max_aligned_px)
        point_b = image.point3D_ids[at_b] - 1
        source.append(b.points[point_b[point_b >= 0]])
        target.append(each.pose.xyz[at_found[point_b >= 0]])
    return _Link(poses, np.concatenate(source), np.concatenate(target))


def _similarity(
    link: _Link, known_b: Mapping[str, KnownPose], a: Model, across: bool, how: MergeOptions
) -> tuple[Similarity, dict[str, Any]]:
    """The similarity from the second model to the first; InputError where the photos do not agree on one."""
    poses = sorted(link.poses)
    what = "localized in the first one" if across else "in both"
    if len(poses) < how.min_photos:
        raise InputError(
            f"the models do not belong together: {len(poses)} of their photos are {what}, {how.min_photos} are needed"
        )
    pose_a, pose_b = (np.array([each[name].cam_from_world for name in poses]) for each in (link.poses, known_b))
    centre_a, centre_b = (camera_centres(pose) for pose in (pose_a, pose_b))
    source, target = np.concatenate([centre_b, link.points_b]), np.concatenate([centre_a, link.points_a])
    fitted = fit_positions(source, target, how.similarity)
    if fitted is None:
        raise InputError(f"the models do not belong together: no similarity fits the {len(poses)} photos {what}")
    found = fitted.similarity
    distance = float(np.median(np.linalg.norm(a.points - np.median(centre_a, axis=0), axis=1)))
    angle, consistent = _consistent(pose_b, pose_a, found, distance, how)
    if consistent.sum() < max(how.min_photos, how.min_consistent * len(poses)):
        raise InputError(
            f"the models do not belong together: {int(consistent.sum())} of the {len(poses)} photos {what} agree on "
            "how they lie to each other"
        )
    return found, {
        "by": "localized photos" if across else "common photos",
        "photos": len(poses),
        "consistent": int(consistent.sum()),
        "points": len(link.points_a),
        "focal_ratio": _focal_ratio(link.poses, known_b),
        "scale": found.scale,
        "distance": distance,
        "median_deg": float(f"{np.median(angle[consistent]):.4g}"),
    }


def _consistent(
    pose_b: Array, pose_a: Array, similarity: Similarity, distance: float, how: MergeOptions
) -> tuple[Array, Mask]:
    """(n,) degrees that photos differ by after the similarity, and (n,) which agree with it."""
    angle = rotation_angle_deg(pose_b[:, :, :3] @ similarity.rotation.T @ pose_a[:, :, :3].transpose(0, 2, 1))
    centre_a, centre_b = (camera_centres(pose) for pose in (pose_a, pose_b))
    offset = np.linalg.norm(similarity(centre_b) - centre_a, axis=1) / distance
    return angle, (angle <= how.max_angle_deg) & (offset <= how.max_offset)


def _attached(whole: KnownModel, part: KnownModel, distance: float, how: MergeOptions) -> dict[str, KnownPose] | None:
    """The whole with another model that enough photos have in common with it; None if these are few or disagree."""
    fitted, common = similarity_between(part, whole)
    if fitted is None or len(common) < how.min_photos:
        return None
    of_part, of_whole = (np.array([model[name].cam_from_world for name in common]) for model in (part, whole))
    agree = _consistent(of_part, of_whole, fitted.similarity, distance, how)[1]
    if agree.sum() < max(how.min_photos, how.min_consistent * len(common)):
        return None
    return {**moved_known(part, fitted.similarity), **whole}


def _with_points(
    poses: Mapping[str, KnownPose], points_a: Array, points_b: Array, rows_a: Sequence[Any], rows_b: Sequence[Any]
) -> _Link:
    if not rows_a:
        return _Link(poses, np.zeros((0, 3)), np.zeros((0, 3)))
    a, b = np.unique(np.column_stack([np.concatenate(rows_a), np.concatenate(rows_b)]), axis=0).T
    return _Link(poses, points_b[b], points_a[a])


def _same_pixels(a: Any, b: Any, max_aligned_px: float) -> tuple[Any, Any]:
    """Rows of two lists of key points of one photo that are each other's nearest, and as near as alignment in the
    pixels of the photos leaves them."""
    one, other = (np.ascontiguousarray(xy, np.float64).reshape(-1, 2) for xy in (a, b))
    if not len(one) or not len(other):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    distance, nearest = (np.asarray(each) for each in cKDTree(other).query(one))
    back = np.asarray(cKDTree(one).query(other)[1])
    at_a = np.flatnonzero((back[nearest] == np.arange(len(one))) & (distance < max_aligned_px))
    return at_a, nearest[at_a]
