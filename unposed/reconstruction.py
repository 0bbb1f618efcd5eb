"""The result of a reconstruction: inspect, export, convert to pycolmap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unposed.pipeline.artifacts import Photo, Photos, SparseModels
from unposed.pipeline.colmap_model import from_colmap, to_colmap
from unposed.pipeline.config import build
from unposed.pipeline.errors import InputError
from unposed.pipeline.images.photos import scan
from unposed.pipeline.registry import Registry
from unposed.pipeline.threads import one_thread_each

from . import summary as facts
from .amounts import count
from .export_folder import replaced_export
from .model import Model
from .options import DEFAULTS, RunChanges, RunOptions, Settings
from .run_setup import workplace
from .settings import built_options

if TYPE_CHECKING:
    import pycolmap

    from .localization.camera_guess import CameraSource
    from .localization.localizer import Localizer


@dataclass(frozen=True, eq=False, repr=False)
class Reconstruction:
    """All models of one photo collection, the largest first, and why the other photos are in none.

    `rec[0]` or `rec.models[0]` is the largest model, `len(rec)` the number of models.
    """

    photos: Photos
    """The whole collection, registered or not."""
    sparse: SparseModels
    """The models as arrays, as exporters read them."""
    summary: Mapping[str, Any]
    """The content of summary.json."""
    folder: Path | None = None
    """Output folder, if it was written."""

    @cached_property
    def models(self) -> tuple[Model, ...]:
        """Connected sets of registered photos, the largest first."""
        return tuple(Model(each, self.photos) for each in self.sparse.models)

    @property
    def unregistered(self) -> dict[str, str]:
        """Reason by name of every photo that is in no model."""
        return {name: photo["reason"] for name, photo in self.summary["photos"].items() if "reason" in photo}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to check before trusting the result, a line each."""
        return tuple(self.summary["warnings"])

    @property
    def probabilities(self) -> tuple[float | None, ...]:
        """Probability of each model that its poses are right within 5 degrees; None where there is no verdict."""
        verdicts = [each.get("refinement", {}).get("verdict") for each in self.summary["models"]]
        return tuple(None if verdict is None else verdict["probability"] for verdict in verdicts)

    def export(self, to: str, folder: str | Path, **options: Any) -> None:
        """Write the models for another program: `to` is an export plugin (`ply`, `splat`, `colmap`), `options` are its
        options. An older export in the folder is replaced."""
        plugin: Any = build(Registry().find("export", to), options, f"export.{to}")
        from .alignment.metres import add_metres

        with replaced_export(Path(folder)) as new:
            plugin(self.sparse, self.photos, new)
            if self.sparse.models:
                add_metres(new, self.summary["models"][0])

    def to_pycolmap(self, model: int = 0) -> pycolmap.Reconstruction:
        """Convert one of the models, the largest by default, to a pycolmap.Reconstruction."""
        if not -len(self) <= model < len(self):
            raise InputError(f"no model {model}: there {'is' if len(self) == 1 else 'are'} {count(len(self), 'model')}")
        return to_colmap(self.sparse.models[model], self.photos)

    def unaligned(self) -> Reconstruction:
        """The same in the frames that the models were reconstructed in, if they were aligned since."""
        from .alignment.frames import KEY, SCALE, original_model
        from .alignment.metres import without_contradictions

        facts = self.summary["models"]
        models = tuple(original_model(model, each) for model, each in zip(self.sparse.models, facts, strict=True))
        kept = [{key: value for key, value in each.items() if key not in (KEY, SCALE)} for each in facts]
        warnings = without_contradictions(self.summary["warnings"], range(len(models)))
        summary = {**self.summary, "models": kept, "warnings": warnings}
        return replace(self, sparse=replace(self.sparse, models=models), summary=summary)

    def localizer(
        self,
        *,
        camera: CameraSource = "auto",
        settings: Settings = (),
        options: RunOptions = DEFAULTS,
        **changes: Unpack[RunChanges],
    ) -> Localizer:
        """A function that says where other photos were taken; arguments as of `unposed.localize`.

        Features of the models' photos are read from the cache, or computed where it lacks them.
        """
        from .localization.options import LocalizationOptions
        from .localization.prepare import make_localizer

        with (
            workplace(options.merged(changes)) as (place, shown),
            place.open_store(lambda line: None) as store,
            one_thread_each(),
        ):
            return make_localizer(
                self,
                store,
                place.resources,
                camera=camera,
                options=built_options(LocalizationOptions, settings, "localize"),
                seed=place.options.seed,
                progress=shown,
            )

    @classmethod
    def from_pycolmap(
        cls, models: pycolmap.Reconstruction | Sequence[pycolmap.Reconstruction], photos: str | Path | None = None
    ) -> Reconstruction:
        """Convert models of pycolmap, to inspect or export them. `photos` is the folder that their image names are
        relative to.

        Without it the collection has the registered images only, and exporters that read pixels cannot be used.
        """
        import pycolmap

        listed = [models] if isinstance(models, pycolmap.Reconstruction) else list(models)
        collection = _collection_of(listed) if photos is None else scan(photos)
        sparse = sorted((from_colmap(each, collection) for each in listed), key=lambda each: -len(each.photos))
        registered = {index for each in sparse for index in each.photos.tolist()}
        others = set(range(len(collection))) - registered
        found = SparseModels(tuple(sparse), dict.fromkeys(sorted(others), "not in the given models"))
        return cls(collection, found, {**facts.registration(collection, found), "failure": None, "warnings": []})

    def __len__(self) -> int:
        return len(self.sparse.models)

    def __getitem__(self, model: int) -> Model:
        return self.models[model]

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models)

    def __repr__(self) -> str:
        parts = [f"registered {self.summary['registered']} of {self.summary['total']} photos"]
        parts.append(count(len(self), "model"))
        if self.models and (error := self.models[0].mean_reprojection_px) is not None:
            parts.append(f"{count(len(self.models[0].points), 'point')}, mean reprojection error {error:.2f} px")
        if self.folder is not None:
            parts.append(f"in {self.folder}")
        return f"<Reconstruction: {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: a table of the models and a top view of the cameras."""
        from .notebook import reconstruction_html

        return reconstruction_html(self)


def _collection_of(models: Sequence[pycolmap.Reconstruction]) -> Photos:
    """The registered images as photos without a file."""
    sizes = {
        image.name: (image.camera.width, image.camera.height)
        for model in models
        for image in model.images.values()
        if image.has_pose
    }
    return Photos(tuple(Photo(name, Path(name), "", *size) for name, size in sorted(sizes.items())), {})
