"""Groups that cover the scene graph, for networks that see many photos at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from unposed.pipeline.artifacts import PhotoGroups, Photos, SceneGraph
from unposed.pipeline.stage import Grain
from unposed.retrieval.groups import CoverOptions, cover_groups


@dataclass(frozen=True)
class Cover:
    """Every pair of similar photos in one group, every photo in two or three, and groups that share photos."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    cover: CoverOptions = field(default_factory=CoverOptions)
    """Size of the groups, and how they share photos."""

    def __call__(self, photos: Photos, graph: SceneGraph) -> PhotoGroups:
        shapes = [photo.width >= photo.height for photo in photos.photos]
        chosen = cover_groups(len(photos), graph.pairs, graph.similarity, shapes, self.cover)
        groups = [each for each in chosen if len(each.photos) > 1]
        return PhotoGroups(
            tuple(np.array(each.photos, np.int32) for each in groups), tuple(each.reason for each in groups)
        )
