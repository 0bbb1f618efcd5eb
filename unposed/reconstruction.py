"""The result of a reconstruction: inspect, load, export, convert to pycolmap."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Unpack

from unposed.pipeline.artifacts import Photo, Photos, SparseModels
from unposed.pipeline.colmap_files import keypoints_by_image
from unposed.pipeline.colmap_model import from_colmap, read_model, to_colmap
from unposed.pipeline.config import build
from unposed.pipeline.errors import InputError
from unposed.pipeline.images.photos import scan, single_photos
from unposed.pipeline.registry import Registry
from unposed.pipeline.regular_files import read_text
from unposed.pipeline.store.overlay import open_store
from unposed.pipeline.threads import one_thread_each

from . import summary as facts
from .amounts import count
from .export_folder import replaced_export
from .model import Model
from .options import DEFAULTS, RunChanges, RunOptions, Settings
from .output import settled
from .run_setup import workplace
from .settings import built_options, options_of

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
        from .alignment.align import in_original_frame

        return in_original_frame(self)

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

        with workplace(options.merged(changes)) as (place, shown), open_store(place.cache) as store, one_thread_each():
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


def load(out: str | Path, photos: str | Path | None = None) -> Reconstruction:
    """Load the result that `reconstruct` wrote to `out`. `photos` is the photo folder, if it has moved."""
    out = settled(Path(out))
    summary = _read_summary(out)
    models = [out / model["model"] for model in summary["models"]]
    folder, masks = Path(photos or summary["photos_folder"]), summary["masks_folder"]
    reasons = {name: photo.get("reason") for name, photo in summary["photos"].items()}
    if photos is None and not folder.is_dir():
        raise InputError(f"{out}: its photos are no longer in {folder}: say where they are (--photos DIR)")
    files = {name: photo["file"] for name, photo in summary["photos"].items() if "file" in photo}
    below = [name for name in reasons if name not in files]
    collection = scan(folder, names=below, masks=masks if masks and Path(masks).is_dir() else None, least=0)
    collection = with_files(collection, files)
    sparse = tuple(from_colmap(read_model(model), collection, keypoints_by_image(model)) for model in models)
    left_out = {index: why for index, photo in enumerate(collection.photos) if (why := reasons[photo.name]) is not None}
    return Reconstruction(collection, SparseModels(sparse, left_out, tuple(summary["warnings"])), summary, out)


def with_files(photos: Photos, files: Mapping[str, str | Path]) -> Photos:
    """The collection with photos of other folders: their files by name."""
    found, rejected = list(photos.photos), dict(photos.rejected)
    for name, file in files.items():
        try:
            found.append(replace(single_photos(file)[0], name=name))
        except InputError as error:
            rejected[name] = str(error)
    return Photos(tuple(sorted(found, key=lambda photo: photo.name)), rejected)


def _read_summary(out: Path) -> dict[str, Any]:
    """The summary of a finished reconstruction. InputError if there is none, or it is not as `reconstruct` writes it:
    names in it are paths that are read, and written by exporters, so they stay within their folders."""
    file = out / "summary.json"
    try:
        summary = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{out}: no finished reconstruction (summary.json) in it") from None
    kinds: dict[str, type | tuple[type, ...]] = {"models": list, "photos": dict, "warnings": list}
    kinds |= {"photos_folder": str, "masks_folder": (str, type(None))}
    if isinstance(summary, dict):
        summary.setdefault("masks_folder", None)
    if not isinstance(summary, dict) or not all(isinstance(summary.get(key), kind) for key, kind in kinds.items()):
        raise InputError(f"{file}: not as a reconstruction is summed up: run unposed reconstruct again")
    for name, photo in summary["photos"].items():
        known = isinstance(photo, dict) and all(isinstance(photo.get(key), str | None) for key in ("reason", "file"))
        if not known or not _is_below(name):
            raise InputError(f"{file}: {name!r} is no photo of the folder")
    for model in summary["models"]:
        place = model.get("model") if isinstance(model, dict) else None
        if not isinstance(place, str) or not _is_below(place):
            raise InputError(f"{file}: {place!r} is no folder of a model")
    if not all(isinstance(warning, str) for warning in summary["warnings"]):
        raise InputError(f"{file}: its warnings are no lines of text")
    return summary


def _is_below(name: str) -> bool:
    """Whether a relative path stays below the folder that it is relative to."""
    path = PurePath(name)
    return not (path.is_absolute() or path.drive or ".." in path.parts)


def export(
    out: str | Path,
    to: str,
    folder: str | Path,
    photos: str | Path | None = None,
    *,
    settings: Settings = (),
    seeds: str | Path | None = None,
    original: bool = False,
    **options: Any,
) -> None:
    """Export the finished reconstruction in `out` for another program; `to` is an export plugin.

    settings: options of the plugin as lines `key=value`, in addition to keywords.
    seeds: folder that `unposed dense` has written, whose points are exported, too; depth maps by exporters that have
    the option `depths`.
    original: in the frame that it was reconstructed in, if it was aligned since.
    """
    made = load(out, photos)
    if seeds is not None:
        from .dense_points import with_seeds

        models = with_seeds(made.sparse.models, seeds)
        made = replace(made, sparse=replace(made.sparse, models=models))
    aligned, made = made, made.unaligned() if original else made
    said = {**options_of(settings), **options}
    if seeds is not None and "depths" in _option_names(to):
        said.setdefault("depths", str(seeds))
    if said.get("depths") and made.summary["models"] != aligned.summary["models"]:
        raise InputError(
            f"{said['depths']}: its depth maps have the scale of the aligned model: export without --original, or with "
            "--set depths=null"
        )
    made.export(to, folder, **said)


def _option_names(exporter: str) -> set[str]:
    plugin: Any = Registry().find("export", exporter)
    return {each.name for each in fields(plugin)} if is_dataclass(plugin) else set()


def _collection_of(models: Sequence[pycolmap.Reconstruction]) -> Photos:
    """The registered images as photos without a file."""
    sizes = {
        image.name: (image.camera.width, image.camera.height)
        for model in models
        for image in model.images.values()
        if image.has_pose
    }
    return Photos(tuple(Photo(name, Path(name), "", *size) for name, size in sorted(sizes.items())), {})
