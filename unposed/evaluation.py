"""Evaluate a model against known poses: match names, choose the model, and report the figures as text and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from unposed.optim.evaluation import PoseErrors, evaluate_poses
from unposed.pipeline.errors import InputError
from unposed.pipeline.pose_files import PointFigures, Poses, read_poses

from .output import settled


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The errors of one model against known camera poses."""

    model: Path
    """The evaluated model: the one that registers most photos with known poses."""
    models: int
    names: tuple[str, ...]
    """The photos with known poses, in the order of the per-photo arrays of `errors`."""
    errors: PoseErrors
    millimetres: float | None
    """Length of one unit of the known poses, if they have one."""
    point_figures: PointFigures | None

    @property
    def ate_mm(self) -> float | None:
        """ATE in millimetres."""
        ate = self.errors.ate_rmse
        return None if ate is None or self.millimetres is None else ate * self.millimetres

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`; angles in degrees, lengths in units of the known poses unless named otherwise."""
        e, s = self.errors, self.point_figures
        return {
            "model": str(self.model),
            "models": self.models,
            "registered": e.registered,
            "total": e.photos,
            "pairs": e.pairs,
            "pairs_without_baseline": e.pairs_without_baseline,
            "RRA": _by_threshold(e.rra),
            "RTA": _by_threshold(e.rta),
            "AUC": _by_threshold(e.auc),
            "mAA30": e.maa30,
            "rel_rot_median_deg": e.relative_rotation_median_deg,
            "rel_dir_median_deg": e.relative_direction_median_deg,
            "extent": e.extent,
            "alignment": e.aligned_by,
            "scale": e.scale,
            "ate_rmse": e.ate_rmse,
            "ate_median": e.ate_median,
            "ate_max": e.ate_max,
            "ate_rmse_rel": e.ate_relative,
            "ate_rmse_mm": self.ate_mm,
            "abs_rot_mean_deg": e.rotation_mean_deg,
            "abs_rot_max_deg": e.rotation_max_deg,
            "focal_rel_error_median": e.focal_error,
            "num_points3D": s.points if s else None,
            "num_observations": s.observations if s else None,
            "mean_track_length": s.mean_track_length if s else None,
            "mean_reproj_error_px": s.mean_reprojection_px if s else None,
            "photos": {
                name: {"centre_error": float(centre), "rotation_error_deg": float(rotation)}
                for name, centre, rotation in zip(self.names, e.centre_error, e.rotation_error_deg, strict=True)
                if np.isfinite(centre)
            },
        }

    def table(self) -> list[tuple[str, str]]:
        """The main figures, as rows of label and text."""
        e, s = self.errors, self.point_figures
        rows = [
            (
                "registered",
                f"{e.registered} of {e.photos} photos"
                + (f", in the best of {self.models} models" if self.models > 1 else ""),
            ),
            ("relative rotation within", _shares(e.rra)),
            ("relative translation within", _shares(e.rta)),
            ("AUC of the larger of both", _shares(e.auc)),
            ("mAA(30)", _percent(e.maa30)),
        ]
        if e.ate_rmse is not None:
            length = f"{self.ate_mm:.2f} mm" if self.ate_mm is not None else f"{e.ate_rmse:.6g} units"
            share = "" if e.ate_relative is None else f" = {100 * e.ate_relative:.4f} % of the extent"
            rows.append(("camera positions, ATE RMSE", length + share))
            rows.append(("absolute rotation error", f"mean {e.rotation_mean_deg:.4f}°, max {e.rotation_max_deg:.4f}°"))
        if e.focal_error is not None:
            rows.append(("focal length, median error", f"{100 * e.focal_error:.3f} %"))
        if s is not None:
            seen = "" if s.mean_track_length is None else f", mean track length {s.mean_track_length:.2f}"
            error = (
                "" if s.mean_reprojection_px is None else f", mean reprojection error {s.mean_reprojection_px:.3f} px"
            )
            rows.append(("3D points", f"{s.points}{seen}{error}"))
        return rows


def evaluate(model: str | Path, gt: str | Path, unsigned: bool = False) -> Evaluation:
    """Evaluate a model against known camera poses; each is a COLMAP folder, a transforms.json or a gt.json.

    model: also OUT of `reconstruct`. Of several models the one that registers most photos of the ground truth is
    evaluated, and of these the one with most points.
    unsigned: count a direction and its opposite as the same.
    """
    truths = read_poses(Path(gt))
    truth = max(truths, key=lambda poses: len(poses.names))
    if not truth.names:
        raise InputError(f"{truth.source}: no photo with a known pose")
    candidates = read_poses(settled(Path(model)))
    matched = [match_names(truth.names, poses.names) for poses in candidates]
    best = max(range(len(candidates)), key=lambda c: (len(matched[c]), _points(candidates[c]), -c))
    poses, rows = candidates[best], matched[best]
    if not rows:
        example = f"{poses.names[0]!r} and {truth.names[0]!r}" if poses.names else "it has none"
        raise InputError(f"{poses.source}: none of its photos is in {truth.source} ({example})")

    estimate = np.full((len(truth.names), 3, 4), np.nan)
    focal = np.full(len(truth.names), np.nan)
    here, there = list(rows), list(rows.values())
    estimate[here], focal[here] = poses.cam_from_world[there], poses.focal[there]
    errors = evaluate_poses(truth.cam_from_world, estimate, truth.focal, focal, unsigned)
    return Evaluation(poses.source, len(candidates), truth.names, errors, truth.millimetres, poses.point_figures)


def match_names(wanted: Sequence[str], given: Sequence[str]) -> dict[int, int]:
    """Match wanted and given names, by position: first equal paths, then equal file names, then equal stems.

    Looser comparisons see only the names that stricter ones left, and match nothing where a file name or stem is not
    unique on both sides.
    """
    found: dict[int, int] = {}
    for key in _KEYS:
        of_kind = Counter(map(key, wanted))
        taken = set(found.values())
        free = [index for index in range(len(given)) if index not in taken]
        left = Counter(key(given[index]) for index in free)
        index_of = {key(given[index]): index for index in free}
        for row, name in enumerate(wanted):
            kind = key(name)
            if row not in found and of_kind[kind] == 1 and left[kind] == 1:
                found[row] = index_of[kind]
    return found


_KEYS: tuple[Callable[[str], str], ...] = (
    lambda name: name,
    lambda name: PurePosixPath(name).name,
    lambda name: PurePosixPath(name).stem.lower(),
)


def _points(poses: Poses) -> int:
    return poses.point_figures.points if poses.point_figures else 0


def _by_threshold(shares: dict[int, float | None]) -> dict[str, float | None]:
    return {str(threshold): share for threshold, share in shares.items()}


def _shares(shares: dict[int, float | None]) -> str:
    return "   ".join(f"{threshold}°: {_percent(share)}" for threshold, share in shares.items())


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
