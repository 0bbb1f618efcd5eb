"""Coarse mapping from groups that a network has seen together, and from verified pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.optim.bundle.intrinsics import Intrinsics
from unposed.optim.groups.focals import focals_of_groups
from unposed.optim.groups.fusion import FusedGroups, GroupFusionOptions, PairDirections, fuse_groups
from unposed.optim.mapping.relative_poses import RelativePoseOptions, estimate_relative_poses
from unposed.optim.parallel import lent_threads
from unposed.optim.view_graph import ViewGraph
from unposed.pipeline.artifacts import CameraPriors, Doubts, LocalScene, Photos, PredictedModels, TwoViewGeometry
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, PerGroup, PerPair, Resources, StageError
from unposed.pipeline.threads import hold_this_thread

from ..shared.group_scenes import OverlapTrust, group_scenes
from ..shared.models import PRIOR_NOISE, initial_model, intrinsics_of_priors, reasons_left_out, without_doubts

_REMEDY = "what the network says of these photos, or its weights, may be worth nothing; the preset classic does without"


@dataclass(frozen=True)
class GroupMapper(OverlapTrust):
    """Fuse the cameras of groups to one model, with the relative poses of verified pairs as further measurements.

    A group of its own frame and scale counts as one opinion, however many pairs it has; groups that others contradict
    are left out. A network that regresses relative poses of pairs may be wired as `regressed`; what it says of a pair
    counts where the pair has no verified pose.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 4

    min_photos: Annotated[int, Within("[2, inf)")] = 3
    """Parts with fewer photos give no model, unless there is no larger one."""
    min_consistent: Annotated[float, Within("[0, 1]")] = 0.5
    """Share of consistent groups, or of pairs that agree with them, below which a warning says that the network may not
    be relied on."""
    max_epipolar_error: Annotated[float, Within("(0, inf)")] = 1.0
    """Inliers of relative poses of pairs, in expected key point errors."""
    half_weight_matches: Annotated[float, Within("(0, inf)")] = 30.0
    """Inliers at which a pair has half of its full weight: fewer fit a wrong pose by chance."""
    regressed_weight: Annotated[float, Within("(0, 1]")] = 0.5
    """Weight of a relative pose that a network regresses from two photos without matches: that of a pair with so many
    inliers as give half of the full weight."""
    prior_noise: Annotated[float, Within("(0, inf)")] = PRIOR_NOISE
    """Noise that priors of intrinsics are weighed against, in expected key point errors."""
    seed: int = 0
    relative_pose: RelativePoseOptions = field(default_factory=RelativePoseOptions)
    """Relative poses of the pairs."""
    fusion: GroupFusionOptions = field(default_factory=GroupFusionOptions)
    """Fusion of the groups."""

    def __call__(
        self,
        photos: Photos,
        cameras: CameraPriors,
        view_graph: ViewGraph,
        local: PerGroup[LocalScene],
        resources: Resources,
        doubts: Doubts | None = None,
        regressed: PerPair[TwoViewGeometry] | None = None,
    ) -> PredictedModels:
        graph = without_doubts(view_graph, doubts)
        priors = intrinsics_of_priors(cameras, graph.keypoint_error_px, self.prior_noise)
        known = np.array([source != "guess" for source in cameras.focal_source])
        scenes = group_scenes(local, graph.keypoints.size.astype(np.float64), self)
        intrinsics = focals_of_groups(scenes, priors, known)
        pairs = self._pairs(graph, intrinsics, resources)
        if regressed is not None:
            pairs = self._with_regressed(pairs, regressed, doubts)
        found: list[FusedGroups] = []
        while len(scenes.group):
            part = fuse_groups(scenes, len(photos), pairs, self.fusion, resources.report)
            if part is None:
                break
            registered = np.isfinite(part.cam_from_world[:, 0, 0])
            if not registered.any() and not found and np.isfinite(part.agreement).sum() > 1:
                raise StageError(f"all groups are inconsistent with each other or with the verified pairs: {_REMEDY}")
            if registered.any() and (not found or registered.sum() >= self.min_photos):
                found.append(part)
            # What is left of the other groups; groups of this part are used up, whether they were consistent or not.
            inside = np.isfinite(part.agreement)
            scenes = scenes.select(~inside[scenes.group] & ~registered[scenes.photo])
        models = tuple(initial_model(intrinsics, each.cam_from_world, graph.keypoints) for each in found)
        return PredictedModels(models, reasons_left_out(graph, models), self._warnings(found, len(local)))

    def _pairs(self, graph: ViewGraph, intrinsics: Intrinsics, resources: Resources) -> PairDirections:
        with lent_threads(resources.threads, hold_this_thread):
            relative = estimate_relative_poses(
                graph,
                intrinsics.models,
                intrinsics.values,
                intrinsics.camera_of_photo,
                max_error_px=self.max_epipolar_error * graph.keypoint_error_px,
                options=self.relative_pose,
                seed=self.seed,
            )
        weight = relative.weight / (relative.weight + self.half_weight_matches)
        return PairDirections(graph.pairs[relative.edge], relative.b_from_a, weight)

    def _with_regressed(
        self, pairs: PairDirections, regressed: PerPair[TwoViewGeometry], doubts: Doubts | None
    ) -> PairDirections:
        """The pairs, and those besides them that a network has a relative pose of, unless they are doubted."""
        settled = {tuple(pair) for pair in pairs.pairs.tolist()}
        settled |= set() if doubts is None else {tuple(pair) for pair in doubts.pairs.tolist()}
        more = [pair for pair, said in regressed.items() if said.kind != "none" and pair not in settled]
        if not more:
            return pairs
        said = np.array([regressed[pair].b_from_a for pair in more], np.float64)
        return PairDirections(
            np.concatenate([pairs.pairs, np.array(more, np.int64)]),
            np.concatenate([pairs.b_from_a, said]),
            np.concatenate([pairs.weight, np.full(len(more), self.regressed_weight)]),
        )

    def _warnings(self, found: list[FusedGroups], groups: int) -> tuple[str, ...]:
        inside = sum(int(np.isfinite(each.agreement).sum()) for each in found)
        wrong = inside - sum(int(each.consistent.sum()) for each in found)
        warnings = []
        if wrong and inside - wrong < self.min_consistent * inside:
            warnings.append(f"{wrong} of {groups} groups are inconsistent with the others: {_REMEDY}")
        elif wrong:
            warnings.append(f"{wrong} of {groups} groups are inconsistent with the others and were left out")
        if any(each.pair_agreement < self.min_consistent for each in found):
            warnings.append(f"most verified pairs are inconsistent with the groups: {_REMEDY}")
        return tuple(warnings)
