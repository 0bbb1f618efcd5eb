"""The slots of the pipeline: one typed protocol for what a plugin of each slot is.

Type checkers see them (`_: Matcher = MyMatcher()` in the plugin's module), and the checks when a plugin is loaded are
derived from the same classes. The parameters of `__call__` are wiring, so their names and number are free; the grain
and the result are fixed. A new slot is a protocol here and its line in PROTOCOLS.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Protocol, get_args, get_type_hints

from unposed.optim.alignment.metric_scale import MetricScale
from unposed.optim.arrays import Array
from unposed.optim.view_graph import ViewGraph
from unposed.surface.gaussians.scene import Gaussians, SplatRun, SplatState, TrainingOptions

from .artifacts import (
    Bytes,
    CameraPriors,
    DepthGrid,
    Depths,
    Doubts,
    Features,
    InitialModels,
    LocalScene,
    PairMatches,
    PhotoCalibration,
    PhotoGroups,
    PhotoMask,
    Photos,
    Ranking,
    SceneGraph,
    SparseModel,
    SparseModels,
    Tokens,
    TwoViewGeometry,
)
from .executor import Executor
from .stage import Grain, Resources


class Stage(Protocol):
    """What all stages have in common; `Grain` says in stage.py what each grain sees."""

    @property
    def version(self) -> int:
        """A class variable, to be raised when results change: stored ones are then recomputed."""


class Calibrator(Stage, Protocol):
    """Slot `calibration`: estimate the focal length of one photo from its pixels alone."""

    @property
    def grain(self) -> Literal[Grain.PHOTO]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> PhotoCalibration: ...


class CameraGrouper(Stage, Protocol):
    """Slot `cameras`: decide which photos share a camera, and what is known of it before any geometry."""

    @property
    def grain(self) -> Literal[Grain.COLLECTION]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> CameraPriors: ...


class FeatureExtractor(Stage, Protocol):
    """Slot `features`: find the key points of one photo, or encode it for a network."""

    @property
    def grain(self) -> Literal[Grain.PHOTO]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Features | Tokens: ...


class MaskPredictor(Stage, Protocol):
    """Slot `masks`: say what of a photo is not to be used, such as moving objects."""

    @property
    def grain(self) -> Literal[Grain.PHOTO]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> PhotoMask: ...


class DepthPredictor(Stage, Protocol):
    """Slot `depth`: predict the depth of one photo from its pixels alone, up to scale."""

    @property
    def grain(self) -> Literal[Grain.PHOTO]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> DepthGrid: ...


class Retriever(Stage, Protocol):
    """Slot `retrieval`: rank the pairs of photos by similarity."""

    @property
    def grain(self) -> Literal[Grain.COLLECTION]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Ranking: ...


class SceneGraphBuilder(Stage, Protocol):
    """Slot `graph`: choose the pairs to match."""

    @property
    def grain(self) -> Literal[Grain.COLLECTION]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> SceneGraph: ...


class GroupChooser(Stage, Protocol):
    """Slot `groups`: choose the groups of photos that are looked at together."""

    @property
    def grain(self) -> Literal[Grain.COLLECTION]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> PhotoGroups: ...


class LocalReconstructor(Stage, Protocol):
    """Slot `local`: find cameras and depths of a group of photos at once."""

    @property
    def grain(self) -> Literal[Grain.GROUP]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> LocalScene: ...


class Matcher(Stage, Protocol):
    """Slot `matching`: find correspondences between two photos."""

    @property
    def grain(self) -> Literal[Grain.PAIR]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> PairMatches: ...


class Verifier(Stage, Protocol):
    """Slot `verification`: estimate the two-view geometry of a pair, or the geometry of a group."""

    @property
    def grain(self) -> Literal[Grain.PAIR, Grain.GROUP]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> TwoViewGeometry: ...


class ViewGraphBuilder(Stage, Protocol):
    """Slot `view_graph`: collect key points and verified correspondences of all pairs."""

    @property
    def grain(self) -> Literal[Grain.COLLECTION]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> ViewGraph: ...


class DoubtFinder(Stage, Protocol):
    """Slot `doubts`: find verified pairs that mappers should leave out, such as doppelgangers."""

    @property
    def grain(self) -> Literal[Grain.COLLECTION]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Doubts: ...


class CoarseMapper(Stage, Protocol):
    """Slot `coarse`: find poses and intrinsics from the view graph; whole models, with points, are welcome too."""

    @property
    def grain(self) -> Literal[Grain.COLLECTION]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> InitialModels: ...


class FineMapper(Stage, Protocol):
    """Slot `fine`: refine the models."""

    @property
    def grain(self) -> Literal[Grain.COLLECTION]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> SparseModels: ...


class Exporter(Protocol):
    """Slot `export`: write the models for another program. No node of a graph."""

    def __call__(self, sparse: SparseModels, photos: Photos, folder: Path) -> None: ...


class DenseStereo(Protocol):
    """Slot `dense`: estimate depth maps of the photos of a finished model, and fuse them to points. No node of a
    graph."""

    def __call__(self, model: SparseModel, photos: Photos, resources: Resources) -> Depths: ...


class MetricEstimator(Protocol):
    """Slot `metric`: estimate how many metres a unit of a finished model is, where nothing that is known says it. No
    node of a graph. Raises StageError with the reason where it cannot."""

    def __call__(self, model: SparseModel, photos: Photos, resources: Resources) -> MetricScale: ...


class GaussianPredictor(Protocol):
    """Slot `gaussians`: Gaussians of a finished model, in its world, for a training to begin with, as networks predict
    them from the photos. No node of a graph. Raises StageError with the reason where it cannot."""

    def __call__(self, model: SparseModel, photos: Photos, resources: Resources) -> Gaussians: ...


class SplatTrainer(Protocol):
    """Slot `splat`: train Gaussians on the photos of a finished model, from points (n, 3) with colours, or from where
    an earlier training was left. The rotations of the photos are known to `sigma_deg` (p,). No node of a graph."""

    @property
    def training(self) -> TrainingOptions:
        """An option of this name, the same for all trainers."""

    def __call__(
        self,
        model: SparseModel,
        photos: Photos,
        xyz: Array,
        rgb: Bytes,
        sigma_deg: Array,
        resume: SplatState | None,
        resources: Resources,
    ) -> SplatRun: ...


PROTOCOLS: dict[str, type] = {
    "calibration": Calibrator,
    "cameras": CameraGrouper,
    "features": FeatureExtractor,
    "masks": MaskPredictor,
    "depth": DepthPredictor,
    "retrieval": Retriever,
    "graph": SceneGraphBuilder,
    "groups": GroupChooser,
    "local": LocalReconstructor,
    "matching": Matcher,
    "verification": Verifier,
    "view_graph": ViewGraphBuilder,
    "doubts": DoubtFinder,
    "coarse": CoarseMapper,
    "fine": FineMapper,
    "export": Exporter,
    "dense": DenseStereo,
    "metric": MetricEstimator,
    "gaussians": GaussianPredictor,
    "splat": SplatTrainer,
    "executor": Executor,
}
"""The protocol of each slot. A plugin is found as `<slot>.<plugin>`."""


@dataclass(frozen=True)
class Slot:
    """The grains and the artifact that a protocol fixes; no grains: its plugins are no nodes of a graph."""

    grains: tuple[Grain, ...]
    gives: type | UnionType | None

    @classmethod
    def of(cls, protocol: Any) -> Slot:
        """Read a protocol."""
        if not hasattr(protocol, "grain"):
            return cls((), None)
        grains = get_args(get_type_hints(protocol.grain.fget)["return"])
        return cls(grains, get_type_hints(protocol.__call__)["return"])


SLOTS: dict[str, Slot] = {name: Slot.of(protocol) for name, protocol in PROTOCOLS.items()}

STAGE_SLOTS = tuple(name for name, slot in SLOTS.items() if slot.grains)
