"""A finished model, ready to say where other photos were taken."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unposed.optim.arrays import Array, Index
from unposed.optim.cameras import FX, params_of
from unposed.optim.localization.pose_hypotheses import PoseHypothesis, PoseSearch, search_poses
from unposed.optim.mapping.keypoint_error import detected_keypoint_error_px
from unposed.optim.view_graph import KeypointOptions
from unposed.pipeline.artifacts import Bytes, Camera, Features, Photo
from unposed.pipeline.graph import PHOTOS
from unposed.pipeline.images.photos import single_photos
from unposed.pipeline.stage import StageError
from unposed.pipeline.threads import one_thread_each
from unposed.retrieval.photo_votes import VoteTable, photo_votes

from ..photo_sources import checked_image
from .camera_guess import CameraGuess
from .model_map import ModelMap, correspondences, largest_unit_rows
from .node_values import NodeValues, PhotoValues
from .options import LocalizationOptions
from .result import Localization, LocalizedPose


@dataclass(frozen=True, eq=False)
class Localizer:
    """Localizes photos in a finished model, which stays as it is. May be called from several threads at once.

        localizer = unposed.load("result/").localizer()
        found = localizer(image)    # a file, or (height, width, 3) uint8 RGB
        found.pose.cam_from_world, found.pose.sigma_centre, found.ambiguous

    A photo is compared with all photos of the model by its largest key points and matched with the most similar ones,
    then with those that see most of the points found by then, by the features and the matcher that the model was made
    with.
    """

    model_map: ModelMap
    nodes: NodeValues
    matching: str
    """Name of the node that matches."""
    appearance: str
    """Name of the node whose features retrieval compares."""
    values: tuple[dict[str, Any], ...]
    """By photo of the model: the values of nodes over photos that matching and retrieval read."""
    table: VoteTable
    cameras: CameraGuess
    options: LocalizationOptions
    seed: int = 0

    def __call__(self, photo: str | Path | Bytes, *, camera: Camera | None = None) -> Localization:
        """Localize a file or an image (height, width, 3) uint8 RGB; `camera`: its intrinsics, if they are known."""
        if isinstance(photo, str | Path):
            return self.localize(single_photos(photo)[0], camera)
        pixels = checked_image("image", photo)
        with tempfile.TemporaryDirectory(prefix="unposed-") as folder:  # stages read photos from files
            file = Path(folder) / "image.bmp"
            _, data = cv2.imencode(".bmp", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
            file.write_bytes(data.tobytes())
            height, width = pixels.shape[:2]
            return self.localize(Photo("image", file, "", width, height), camera)

    def localize(self, photo: Photo, camera: Camera | None = None, values: PhotoValues | None = None) -> Localization:
        """Localize a photo that was scanned; `values`: of its nodes, where they are known."""
        with one_thread_each():  # products of a photo are small: threads would wait for each other most of the time
            return self._found(photo, camera, values or self.nodes.of_photo(photo))

    def _found(self, photo: Photo, camera: Camera | None, values: PhotoValues) -> Localization:
        try:
            own: Features = values(self.appearance)
        except StageError as error:
            return Localization(photo, (), f"its features could not be extracted: {error}")
        if not len(own.xy):
            return Localization(photo, (), "no key points were detected")
        compared = largest_unit_rows(own, self.options.compared_keypoints)
        votes = photo_votes(self.table, compared, background=self.options.usual_quantile)
        by_votes = np.argsort(-votes, kind="stable")[: self.options.max_partners].tolist()
        try:
            return self._localized(photo, values, by_votes, camera)
        except StageError as error:
            return Localization(photo, (), f"it could not be matched: {error}")

    def _localized(self, photo: Photo, values: PhotoValues, by_votes: list[int], camera: Camera | None) -> Localization:
        options, found = self.options, _Correspondences()
        turns = [by_votes[: options.first_partners], by_votes[options.first_partners :]]
        poses: list[tuple[int, Camera, PoseHypothesis, Array, Index]] = []
        most = 0
        for turn in turns:
            self._match(values, turn, found)
            poses, most = self._poses(photo, found, camera, draft=True)
            if poses:
                break
        if poses:
            seen = self.model_map.covisible(poses[0][4][poses[0][2].inliers])
            seen[list(found.by_partner)] = 0
            rest = max(0, options.partners - len(found.by_partner))
            more = [row for row in np.argsort(-seen, kind="stable")[:rest].tolist() if seen[row] > 0]
            self._match(values, more, found)
            poses, most = self._poses(photo, found, camera)
        hypotheses = tuple(self._as_pose(photo, found, *each) for each in poses)
        xy, point = found.distinct()
        reason = _why_not(len(np.unique(xy, axis=0)), most, options.pose.min_inliers) if not hypotheses else None
        same = [each.photo.name for each in self.model_map.photos if photo.content == each.photo.content != ""]
        matched = tuple(self.model_map.photos[row].photo.name for row in found.by_partner)
        return Localization(photo, hypotheses, reason, xy, point, matched, same[0] if same else None)

    def _match(self, values: PhotoValues, rows: Iterable[int], found: _Correspondences) -> None:
        for row in rows:
            mapped = self.model_map.photos[row]
            matches = self.nodes.of_pair(self.matching, values, partial(self._value, row))
            found.by_partner[row] = correspondences(matches, mapped, self.options.max_offset_px)

    def _value(self, row: int, name: str) -> Any:
        """The value of a node over photos of a photo of the model."""
        return self.model_map.photos[row].photo if name == PHOTOS else self.values[row][name]

    def _poses(
        self, photo: Photo, found: _Correspondences, camera: Camera | None, *, draft: bool = False
    ) -> tuple[list[tuple[int, Camera, PoseHypothesis, Array, Index]], int]:
        """Poses by all models, that of most inliers first: two at most, the second only if it has as good a claim as
        another hypothesis of one model. And the most inliers that any pose has, accepted or not. A draft, which only
        says what the photo sees, takes the first camera under which there is a pose."""
        xy, point = found.distinct()
        poses: list[tuple[int, Camera, PoseHypothesis, Array, Index]] = []
        most = 0
        error_px = detected_keypoint_error_px(np.array([[photo.width, photo.height]]), KeypointOptions())
        for model in np.unique(self.model_map.point_model[point]).tolist():
            own = self.model_map.point_model[point] == model
            shape, search = self._search(photo, xy[own], point[own], model, camera, error_px, draft=draft)
            most = max(most, search.most_inliers)
            poses += [(model, shape, each, xy[own], point[own]) for each in search.hypotheses]
        poses.sort(key=lambda each: -int(each[2].inliers.sum()))
        least = self.options.pose.min_second_share * int(poses[0][2].inliers.sum()) if poses else 0
        return [each for each in poses[:2] if each[2].inliers.sum() >= least], most

    def _search(
        self,
        photo: Photo,
        xy: Array,
        point: Index,
        model: int,
        camera: Camera | None,
        error_px: float,
        *,
        draft: bool,
    ) -> tuple[Camera, PoseSearch]:
        """The search under the camera that is given or assumed, or without an assumption where that explains more."""
        best: tuple[Camera, PoseSearch] | None = None
        covariance = self.model_map.point_covariances(point) / error_px**2
        for guess in self.cameras.of_photo(photo, model, camera):
            search = search_poses(
                xy,
                self.model_map.points[point],
                guess,
                keypoint_error_px=error_px,
                point_covariance=covariance,
                options=self.options.pose,
                seed=self.seed,
            )
            shape = Camera(guess.model, photo.width, photo.height, ())
            if best is None or _inliers(search) > self.options.min_gain * _inliers(best[1]):
                best = shape, search
            enough = self.options.min_gain * _inliers(best[1]) >= len(xy)  # no camera explains so many more
            if enough or (draft and search.hypotheses):
                break
        assert best is not None
        return best

    def _as_pose(
        self,
        photo: Photo,
        found: _Correspondences,
        model: int,
        camera: Camera,
        pose: PoseHypothesis,
        xy: Array,
        point: Index,
    ) -> LocalizedPose:
        seen = point[pose.inliers]
        support = {row: int(np.isin(own, seen).sum()) for row, (_, own) in found.by_partner.items()}
        partners = [row for row in sorted(support, key=lambda row: -support[row]) if support[row] > 0]
        refined = pose.refined
        return LocalizedPose(
            model,
            refined.cam_from_world,
            replace(camera, params=params_of(camera.model, refined.intrinsics)),
            refined.sigma_deg,
            refined.sigma_centre,
            float(refined.sigma_intrinsics[FX]),
            pose.error_px,
            xy[pose.inliers],
            seen - self.model_map.first_point[model],
            self.model_map.points[seen],
            tuple(self.model_map.photos[row].photo.name for row in partners),
        )


class _Correspondences:
    """Pixels of the photo and points of the model, by the photo of the model that they were matched in."""

    def __init__(self) -> None:
        self.by_partner: dict[int, tuple[Array, Index]] = {}

    def distinct(self) -> tuple[Array, Index]:
        """All of them, each once: (m, 2) pixels and (m,) rows of points."""
        xy = np.concatenate([np.zeros((0, 2)), *(each[0] for each in self.by_partner.values())])
        point = np.concatenate([np.zeros(0, np.int64), *(each[1] for each in self.by_partner.values())])
        rows = np.unique(np.column_stack([xy, point]), axis=0)
        return rows[:, :2], rows[:, 2].astype(np.int64)


def _inliers(search: PoseSearch) -> int:
    return int(search.hypotheses[0].inliers.sum()) if search.hypotheses else 0


def _why_not(matched: int, most: int, least: int) -> str:
    if matched < least:
        return f"it shows nothing of the model: {matched} of its key points match points, {least} are needed"
    return (
        f"it could not be localized: at most {most} of its {matched} matched key points agree with one pose, "
        "as by chance: it shows another place, or the place from too far or too differently"
    )
