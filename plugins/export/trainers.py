"""Narrower folders for one program each: what `export.splat` writes, without what this program does not read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .splat import SplatExport, SplatPart


@dataclass(frozen=True)
class InriaExport(SplatExport):
    """For Inria's code and its forks: images, images_2 ... for their -i, sparse/0 with points3D.ply and test.txt,
    and depths for their -d."""

    parts: ClassVar[frozenset[SplatPart]] = frozenset({"points", "test", "copies", "depths"})
    program: ClassVar[str] = "inria"


@dataclass(frozen=True)
class GsplatExport(SplatExport):
    """For gsplat's examples: images, images_2 ... for their --data_factor, and sparse/0."""

    parts: ClassVar[frozenset[SplatPart]] = frozenset({"copies"})
    program: ClassVar[str] = "gsplat"


@dataclass(frozen=True)
class NerfstudioExport(SplatExport):
    """For nerfstudio: images, images_2 ..., sparse/0 also as colmap/sparse/0, transforms.json with points, lists."""

    parts: ClassVar[frozenset[SplatPart]] = frozenset({"copies", "transforms", "colmap", "lists"})
    program: ClassVar[str] = "nerfstudio"


@dataclass(frozen=True)
class BrushExport(SplatExport):
    """For Brush: images, masks and sparse/0, in full size only."""

    parts: ClassVar[frozenset[SplatPart]] = frozenset()
    program: ClassVar[str] = "brush"


@dataclass(frozen=True)
class OpenSplatExport(SplatExport):
    """For OpenSplat: images and sparse/0, in full size only. It reads no masks: see `bake`."""

    parts: ClassVar[frozenset[SplatPart]] = frozenset()
    program: ClassVar[str] = "opensplat"


@dataclass(frozen=True)
class LichtFeldExport(SplatExport):
    """For LichtFeld Studio: images, images_2 ..., masks, and sparse/0 with points3D.ply."""

    parts: ClassVar[frozenset[SplatPart]] = frozenset({"points", "copies"})
    program: ClassVar[str] = "lichtfeld"
