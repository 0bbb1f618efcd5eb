"""Export of finished reconstructions for other programs."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from unposed.pipeline.errors import InputError
from unposed.pipeline.registry import Registry

from .dense_points import with_seeds
from .loading import load
from .options import Settings
from .settings import options_of


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
