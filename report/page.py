"""The page: one file that needs no other, no network and no WebGL."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from unposed.pipeline.artifacts import Bytes

from .given_photos import given_photos
from .pair_drawings import pair_drawings, shown_pairs
from .panels import graph_panel, ground_panels, intrinsics_rows, model_figures, photo_rows, quality_panel, settings_text
from .photo_findings import header_findings, pixel_findings, still_findings
from .photo_quality import photo_quality
from .pictures import COVERAGE, small_images, thumbnails
from .scene_points import ERROR_STEP_PX, scene_data
from .sources import ReportSources
from .still_matches import still_matches
from .words import Advice, advice, headline

if TYPE_CHECKING:
    import jinja2


def report_page(sources: ReportSources) -> str:
    """The report as HTML. Names and reasons are text of strangers: the template escapes all values, and a content
    security policy keeps every script but the page's own from running, and the page from asking the network."""
    chosen = shown_pairs(sources)
    images = small_images(sources.photos, {photo for pair in chosen for photo in pair.photos})
    small = thumbnails(images, len(sources.photos))
    figures = model_figures(sources)
    fields = () if figures is None else tuple(field for _, field in figures.fields)
    no_tracks = np.zeros(0, np.int64), np.zeros(0)
    lengths, angles = no_tracks if figures is None else (figures.lengths, figures.angles_deg)
    quality = [photo_quality(_grey(images[i])) for i in sorted(images)]
    seen = [sources.photos[i].name for i in sorted(images)]
    script = _text("report.js")
    return _template("page.html").render(
        summary=sources.summary,
        folder=sources.summary["photos_folder"],
        headline=headline(dict(sources.summary)),
        advice=[*standing_still(sources), *advice(sources, fields, lengths, angles)],
        photo_findings=[*header_findings(sources.photos), *pixel_findings(seen, quality, sharp=False)],
        scene={"models": scene_data(sources.photos, sources.sparse.models), "errorStep": ERROR_STEP_PX},
        photos=photo_rows(sources, small),
        ground=list(ground_panels(sources)),
        coverage=_coverage_legend(),
        graph=graph_panel(sources),
        pairs=pair_drawings(sources, chosen, images),
        quality=None if figures is None else quality_panel(figures),
        intrinsics=intrinsics_rows(sources),
        stages=_stages(sources.summary),
        settings=settings_text(sources.summary),
        command=sources.command,
        style=_text("report.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
    )


def standing_still(sources: ReportSources) -> list[Advice]:
    """What stands still while the rest moves, unless masks hide parts of the photos already."""
    if sources.view_graph is None or any(photo.mask is not None for photo in sources.photos.photos):
        return []
    return still_findings(given_photos(sources.summary), *still_matches(sources.view_graph))


def _grey(image: Bytes) -> Bytes:
    """(h, w) luma of (h, w, 3)."""
    luma: Bytes = (image @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)
    return luma


def _stages(summary: Any) -> list[dict[str, Any]]:
    """Rows of the stages that had something to do, with their share of the longest."""
    rows = [{"name": name, **stage} for name, stage in summary["stages"].items()]
    longest = max((row["wall_s"] for row in rows), default=0.0) or 1.0
    for row in rows:
        machines = row["machines"].values()
        row["share"] = row["wall_s"] / longest
        row["cpu_s"] = row["cpu_s"] + sum(each["cpu_s"] if isinstance(each, dict) else each.cpu_s for each in machines)
    return [row for row in rows if row["computed"] or row["reused"] or row["failed"] or row["dropped"]]


def _coverage_legend() -> list[tuple[str, str]]:
    """Colour and label of each class of the map of coverage."""
    least = [number for number, _ in COVERAGE]
    labels = [str(a) if b == a + 1 else f"{a}–{b - 1}" for a, b in pairwise(least)]
    colours = [f"rgb{colour}" for _, colour in COVERAGE]
    return list(zip(colours, [*labels, f"{least[-1]} or more"], strict=True))


@cache
def _template(name: str) -> jinja2.Template:
    import jinja2  # here: the command line starts without it

    loader = jinja2.FunctionLoader(_text)
    engine = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    engine.filters["figure"] = _figure
    engine.filters["seconds"] = _seconds
    return engine.get_template(name)


def _text(name: str) -> str:
    return files(__package__).joinpath("page-parts", name).read_text(encoding="utf-8")


def _figure(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 60 else f"{int(value) // 60} min {int(value) % 60} s"
