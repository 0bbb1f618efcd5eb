"""The similarities that known positions, poses, lengths or the photos themselves determine, model by model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np

from unposed.optim.alignment.control_points import ControlOptions
from unposed.optim.alignment.geodesy import GeodeticOrigin, enu_m, median_origin
from unposed.optim.alignment.robust_similarity import (
    FittedSimilarity,
    RobustSimilarityOptions,
    composed_similarity,
    fit_level_positions,
    fit_poses,
    fit_positions,
)
from unposed.optim.alignment.up_axis import UpAxisOptions, ground_plane, level_rotation, up_of_photos
from unposed.optim.arrays import Array
from unposed.optim.evaluation import rotation_and_centre
from unposed.optim.option_ranges import Share, Within
from unposed.optim.similarity import Similarity
from unposed.pipeline.artifacts import Photo, SparseModel
from unposed.pipeline.errors import InputError
from unposed.pipeline.pose_files import read_poses

from ..evaluation import match_names
from ..model import Model

MIN_FOR_SIGMA = 4
"""Positions from which the standard deviation of a scale can be told."""


@dataclass(frozen=True)
class AlignmentOptions:
    """How robust similarities and up axes are found."""

    similarity: RobustSimilarityOptions = field(default_factory=RobustSimilarityOptions)
    """Fit to known positions."""
    up: UpAxisOptions = field(default_factory=UpAxisOptions)
    """Up axis of photos and planes."""
    control: ControlOptions = field(default_factory=ControlOptions)
    """Ground control points."""
    max_relative_error: Share = 0.4
    """RMS error of positions over their own scatter above which they do not belong to the model, as those of a wrong
    hemisphere, which are mirrored."""
    min_upright: Annotated[float, Within("[-1, 1]")] = -0.5
    """Median cosine between the up that positions say and that of the photos below which they turn the photos upside
    down: mirrored positions of nearly one height do, and fit."""


@dataclass(frozen=True)
class ModelAlignment:
    """How one model was aligned."""

    similarity: Similarity
    """New frame from old frame."""
    facts: Mapping[str, object]
    """What supports it, for summary.json."""
    adjusted: SparseModel | None = None
    """The model in its old frame, where it is not only moved."""
    sigma: float | None = None
    """Standard deviation of the scale, as a share, where the similarity gives metres; None: not known."""
    source: str = ""
    """What gave the scale, where the name of the target does not say it."""
    metres_per_unit: float | None = 1.0
    """Of the new frame, where the target gives it its scale; None: the unit of that is not known."""


def from_gps(models: Sequence[Model], options: AlignmentOptions) -> tuple[list[ModelAlignment | str], GeodeticOrigin]:
    """Align to the positions in EXIF: metres, x to the east, y to the north, z up; a reason for models that cannot."""
    tagged = [photo for model in models for photo in _photos(model) if has_position(photo)]
    if not tagged:
        raise InputError("no photo of the models has a GPS position in its EXIF data")
    origin = median_origin(*_geodetic(tagged).T)
    return [_to_gps(model, origin, options) for model in models], origin


def from_poses(models: Sequence[Model], file: Path, options: AlignmentOptions) -> list[ModelAlignment | str]:
    """Align to the poses of photos of the same names in a file, or without folders and endings where only one has that
    name. The unit is that of the file, if it says one."""
    listed = read_poses(file)
    out: list[ModelAlignment | str] = []
    for model in models:
        alike = [match_names(model.photo_names, each.names) for each in listed]
        which = max(range(len(listed)), key=lambda number: len(alike[number]))
        best, common = listed[which], sorted(alike[which].items())
        if len(common) < 2:
            out.append(f"{file.name} has poses of {len(common)} of its photos, two are needed")
            continue
        own, other = np.array(common).T
        rotation, centre = rotation_and_centre(np.asarray(model.cam_from_world, np.float64)[own])
        other_rotation, other_centre = rotation_and_centre(best.cam_from_world[other])
        turns = other_rotation.transpose(0, 2, 1) @ rotation
        fitted = fit_poses(centre, other_centre, turns, options.similarity)
        names = [model.photo_names[row] for row in own.tolist()]
        found = _checked(fitted, other_centre, names, options)
        metres = None if best.millimetres is None else best.millimetres / 1000.0
        if isinstance(found, ModelAlignment):
            found = replace(found, facts={**found.facts, "metres_per_unit": metres}, metres_per_unit=metres)
        out.append(found)
    return out


def from_gravity(models: Sequence[Model], options: AlignmentOptions) -> list[ModelAlignment | str]:
    """Turn z up as the photos suggest, which are rarely rolled; scale and middle stay."""
    out: list[ModelAlignment | str] = []
    for model in models:
        found = up_of_photos(np.asarray(model.cam_from_world, np.float64), options.up)
        out.append(ModelAlignment(_turned(level_rotation(found.up)), {"spread_deg": round(found.spread_deg, 3)}))
    return out


def from_plane(models: Sequence[Model], options: AlignmentOptions) -> list[ModelAlignment | str]:
    """Make the largest plane below the cameras z = 0."""
    out: list[ModelAlignment | str] = []
    for model in models:
        centre = rotation_and_centre(np.asarray(model.cam_from_world, np.float64))[1]
        found = ground_plane(np.asarray(model.points, np.float64), centre, options.up)
        if found is None:
            out.append("no plane has enough of its points with the cameras on one side")
            continue
        rotation = level_rotation(found.up)
        moved = Similarity(1.0, rotation, -rotation @ found.origin)
        facts = {"points_on_plane": int(found.on_plane.sum()), "points_of_model": len(model.points)}
        out.append(ModelAlignment(moved, facts))
    return out


def from_length(models: Sequence[Model], first: str, second: str, metres: float) -> list[ModelAlignment | str]:
    """Scale so that two photos are so many metres apart."""
    out: list[ModelAlignment | str] = []
    for model in models:
        missing = [name for name in (first, second) if name not in model.images]
        if missing:
            out.append(f"{missing[0]} is not in it")
            continue
        length = float(np.linalg.norm(model.images[first].center - model.images[second].center))
        if length == 0.0 or first == second:
            raise InputError(f"{first} and {second} are at one place: give two photos that are apart")
        moved = Similarity(metres / length, np.eye(3), np.zeros(3))
        out.append(ModelAlignment(moved, {"before": length, "metres": metres}))
    return out


def has_position(photo: Photo) -> bool:
    """Whether EXIF says where a photo was taken."""
    return photo.exif.latitude_deg is not None and photo.exif.longitude_deg is not None


def _to_gps(model: Model, origin: GeodeticOrigin, options: AlignmentOptions) -> ModelAlignment | str:
    photos = _photos(model)
    rows = [row for row, photo in enumerate(photos) if has_position(photo)]
    if len(rows) < 2:
        return f"{len(rows)} of its photos have a GPS position, two are needed"
    geodetic = _geodetic([photos[row] for row in rows])
    height_known = np.isfinite(geodetic[:, 2])
    geodetic[~height_known, 2] = origin.height_m
    target = enu_m(geodetic[:, 0], geodetic[:, 1], geodetic[:, 2], origin)
    poses = np.asarray(model.cam_from_world, np.float64)
    source = rotation_and_centre(poses)[1][rows]
    names = [photos[row].name for row in rows]
    free = fit_positions(source, target, options.similarity) if height_known.all() else None
    heights = int(height_known.sum())
    if free is not None and free.tilt_deg <= options.similarity.min_tilt_deg:
        upright = float(np.median(-poses[:, 1, :3] @ free.similarity.rotation[2]))
        if upright < options.min_upright:
            return (
                "its known positions would turn the photos upside down: they are mirrored, as where the hemisphere of "
                "latitudes or longitudes is wrong"
            )
        return _checked(free, target, names, options, up="positions", heights=heights)
    # Few positions, those along a street, or heights that are off by more than the ground is wide: photos say what is
    # up, and positions the rest.
    level = _turned(level_rotation(up_of_photos(poses, options.up).up))
    fitted = fit_level_positions(level(source), target, options.similarity)
    if fitted is not None:
        whole = composed_similarity(fitted.similarity, level)
        fitted = FittedSimilarity(whole, fitted.errors, fitted.inliers, fitted.tilt_deg)
    return _checked(fitted, target, names, options, up="photos", heights=heights)


def _checked(
    fitted: FittedSimilarity | None, target: Array, names: Sequence[str], options: AlignmentOptions, **facts: object
) -> ModelAlignment | str:
    """The alignment, unless the positions do not belong to the model."""
    if fitted is None or fitted.similarity.scale <= 0:
        return "its known positions coincide, or are too few"
    inside = target[fitted.inliers]
    scatter = float(np.sqrt(((inside - inside.mean(axis=0)) ** 2).sum(axis=1).mean()))
    if not fitted.rms <= options.max_relative_error * scatter:
        return (
            f"its known positions do not fit: RMS error {fitted.rms:.3g} over a scatter of {scatter:.3g}; "
            "they are of another place, mirrored, or too inexact"
        )
    errors = zip(names, fitted.errors.tolist(), fitted.inliers.tolist(), strict=True)
    return ModelAlignment(
        fitted.similarity,
        {
            **facts,
            "positions": len(names),
            "rms": float(f"{fitted.rms:.4g}"),
            "wrong": {name: float(f"{error:.4g}") for name, error, inlier in errors if not inlier},
        },
        sigma=_scale_sigma(fitted, scatter),
    )


def _scale_sigma(fitted: FittedSimilarity, scatter: float) -> float | None:
    """Standard deviation of the logarithm of the scale: rms / (scatter sqrt(3 n - 7)) of n positions that fit.

    Errors of a deviation s along each axis leave a scale with one of s / (scatter sqrt(n)). A similarity has seven
    parameters, so that the sum of the squares of what is left of 3 n coordinates is (3 n - 7) s^2 = n rms^2. None below
    four positions: two or three fit almost exactly, however wrong they are.
    """
    count = int(fitted.inliers.sum())
    return None if count < MIN_FOR_SIGMA else fitted.rms / (scatter * float(np.sqrt(3 * count - 7)))


def _turned(rotation: Array) -> Similarity:
    return Similarity(1.0, rotation, np.zeros(3))


def _photos(model: Model) -> list[Photo]:
    return [model.photos[index] for index in model.sparse.photos.tolist()]


def _geodetic(photos: Sequence[Photo]) -> Array:
    """(n, 3) latitude, longitude and height; NaN for unknown heights."""
    rows = [
        (photo.exif.latitude_deg, photo.exif.longitude_deg, np.nan if (h := photo.exif.altitude_m) is None else h)
        for photo in photos
    ]
    return np.array(rows, np.float64).reshape(-1, 3)
