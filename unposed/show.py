"""Results as text: short tables without colours or control characters."""

from __future__ import annotations

import shlex
import statistics
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import acos, degrees
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unposed.report.given_photos import given_photos

from .amounts import NAMED, count, duration, size
from .options import EFFORTS

if TYPE_CHECKING:
    from .judging import JudgedModel
    from .localization.result import Localization
    from .photo_check import PhotoCheck
    from .view_graph.pair_table import PairTable

BARE_SHARE = 0.01
"""Of the pixels of a photo: one with less agreed depth than this is named."""

WHY = "it was judged on real photos, and runs on any machine"
"""Why `auto` chooses its preset."""


def table(rows: Iterable[Sequence[str]], indent: str = "") -> str:
    """Align columns; the last one may be long."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(indent + line.rstrip() for line in lines)


def paragraph(text: str, indent: str = "") -> str:
    """Wrap to a readable width."""
    return textwrap.fill(" ".join(text.split()), 100, initial_indent=indent, subsequent_indent=indent)


def reconstruction_rows(facts: Mapping[str, Any], out: Path, asked: str) -> list[tuple[str, str]]:
    """The main figures of a reconstruction, from summary.json, as rows for `table`; `asked` is the preset."""
    largest = facts["models"][0]
    rows = [("photos", f"registered {facts['registered']} of {facts['total']} photos")]
    if panoramas := facts["panoramas"]:
        from unposed.pipeline.images.panoramas import VIEWS  # here: no other line of output waits for numpy

        whole = sum("model" in each for each in panoramas.values())
        rows.append(("panoramas", f"registered {whole} of {len(panoramas)}, each as {len(VIEWS)} photos"))
    if len(facts["models"]) > 1:
        *others, last = (str(model["photos"]) for model in facts["models"])
        sizes = f"{', '.join(others)} and {last}"
        rows.append(("models", f"{len(facts['models'])} disconnected models ({sizes} photos)"))
    points = str(largest["points"])
    if largest["points"]:
        points += f", mean track length {largest['mean_track_length']:.1f}"
        points += ", in the largest model" if len(facts["models"]) > 1 else ""
    rows.append(("points", points))
    if largest["points"]:
        rows.append(("error", f"mean reprojection error {largest['mean_reprojection_px']:.2f} px"))
    if (probability := largest_probability(facts)) is not None:
        loud = "" if _trusted(facts) else "do not rely on this model: "
        rows.append(("verdict", f"{loud}poses right within 5 degrees with probability {probability:.2f}"))
    memory = f", {size(facts['peak_mb'] * 1e6)} of memory" if facts["peak_mb"] else ""
    rows.append(("time", duration(facts["wall_s"]) + memory))
    rows.append(("preset", facts["preset"] + (f", chosen by auto: {WHY}" if asked == "auto" else "")))
    # Later nodes of a plugin, such as second helpings, find what the first one has stored in this run.
    firsts = {stage["plugin"]: stage for stage in reversed(facts["stages"].values())}.values()
    if reused := sum(stage["reused"] for stage in firsts):
        total = reused + sum(stage["computed"] for stage in firsts)
        rows.append(("stored", f"{reused} of {count(total, 'result')} of its stages were there from an earlier run"))
    rows += [("second look", reason) for reason in facts["helpings"].values()]
    rows += [("not registered", text) for text in _left_out(facts["photos"])]
    if lost := _without_partners(facts):
        harder = "" if facts["effort"] >= EFFORTS["high"] else "--effort high looks harder for partners of these; "
        look = shlex.join(["unposed", "pairs", *given_photos(facts), "--why", lost])
        rows.append(("", f"{harder}{look} says what joins it to the photo most like it, or not"))
    rows += [("warning", warning) for warning in facts["warnings"][:NAMED]]
    if (more := len(facts["warnings"]) - NAMED) > 0:
        rows.append(("warning", f"{count(more, 'warning')} more in summary.json"))
    rows.append(("result", f"{out}/sparse/0 is a COLMAP model; {out}/summary.json has the rest"))
    if (out / "report.html").exists():
        rows.append(
            ("report", f"{out}/report.html shows it in a browser: what was found, what is doubtful, what to do")
        )
    if (out / "overview.jpg").exists():
        rows.append(("picture", f"{out}/overview.jpg: cameras and points from above and from aside"))
    folder = shlex.quote(str(out))
    rows.append(("next", f"unposed export {folder} --to ply -o points/  to look at it in any viewer of point clouds"))
    rows.append(("", f"unposed export {folder} --to splat -o scene/  to train Gaussian splats of it"))
    if not _trusted(facts):
        rows.append(("but first", "do not rely on this model before you have looked at it: the warning above says why"))
    return rows


def localization_rows(found: Mapping[str, Localization]) -> list[tuple[str, str]]:
    """A row for every photo, and one about all of them."""
    rows = []
    for name, each in found.items():
        pose = each.pose
        if pose is None:
            rows.append((name, each.reason or ""))
            continue
        where = ", ".join(f"{value:.4g}" for value in pose.centre)
        text = f"at {where} in model {pose.model}: {len(pose.xy)} inliers, sigma {pose.sigma_deg:.2g} degrees"
        text += f" and {pose.sigma_centre:.2g} units"
        if each.ambiguous:
            text += f"; fits another place as well ({len(each.hypotheses[1].xy)} inliers): either may be wrong"
        rows.append((name, text))
    localized = sum(each.pose is not None for each in found.values())
    return [*rows, ("photos", f"localized {localized} of {count(len(found), 'photo')}")]


def alignment_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the models lie to the frames that they were reconstructed in, as rows for `table`."""
    rows = []
    for number, model in enumerate(facts["models"]):
        entry = model.get("alignment")
        if entry is None:
            rows.append((f"model {number}", "in the frame that it was reconstructed in"))
            continue
        last = entry["steps"][-1]
        text = f"aligned to {last['to']}, {entry['scale']:.6g} times as large as it was reconstructed"
        if "rms" in last:
            right = last["positions"] - len(last["wrong"])
            kind = "control point" if "points" in last else "position"
            text += f"; RMS error {last['rms']:.3g} over {right} of {count(last['positions'], kind)}"
        if "points_on_plane" in last:
            text += f"; {last['points_on_plane']} of {count(last['points_of_model'], 'point')} on the plane"
        rows.append((f"model {number}", text))
        rows += _scale_rows(model, last)
        wrong = sorted(last.get("wrong", {}).items(), key=lambda each: -each[1])
        rows += [("wrong", f"{name}: off by {error:.3g}, not used") for name, error in wrong[:NAMED]]
        if len(wrong) > NAMED:
            rows.append(("wrong", f"{len(wrong) - NAMED} more, see summary.json"))
        rows += _control_rows(last)
    from .alignment.metres import IN_METRES  # here: no other command waits for what aligns

    about = [each for each in facts["warnings"] if "not aligned" in each or each.endswith(IN_METRES)]
    return rows + [("warning", each) for each in about]


def _scale_rows(model: Mapping[str, Any], step: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How far metres can be relied on, and photos that predicted depth is wrong of."""
    rows = []
    if (scale := model.get("scale")) is not None:
        error = "" if scale["sigma"] is None else f", give or take {100 * scale['sigma']:.2g} %"
        unit = "metres" if scale["metres_per_unit"] == 1.0 else f"a unit is {scale['metres_per_unit']:g} metres"
        rows.append(("scale", f"{unit} by {scale['from']}{error}"))
    if "kept" in step:
        said = f"predicted depth says that a unit is {step['metres_per_unit']:.3g} metres"
        rows.append(("scale", f"kept, as {step['kept']} gave it; {said}, give or take {100 * step['sigma']:.2g} %"))
    named = [f"{name}: {scale:.3g} metres per unit, not used" for name, scale in step.get("disagree", {}).items()]
    return rows + [("disagrees", text) for text in named[:NAMED]]


def _control_rows(step: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Residuals of ground control points, and marks that were not used."""
    rows = []
    for mark, error in list(step.get("wrong_marks", {}).items())[:NAMED]:
        rows.append(("wrong mark", f"{mark}: {error:.3g} pixels from where the others see it, not used"))
    for name, each in step.get("points", {}).items():
        if each["error_m"] is None:
            rows.append((name, "no two photos see it at one place, not used"))
        elif each["used"]:
            text = f"off by {each['error_m']:.3g} m, {each['error_px']:.3g} pixels in {count(each['photos'], 'photo')}"
            rows.append((name, text))
    return rows


def growth_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What adding or merging has changed, as rows for `table`."""
    grown = facts["grown"]
    rows = [("photos", f"registered {facts['registered']} of {facts['total']} photos")]
    new = grown.get("added", {})
    if new:
        joined = sum(each["registered"] for each in new.values())
        rows.append(("added", f"registered {joined} of {count(len(new), 'photo')}"))
    for name, each in new.items():
        if not each["registered"]:
            rows.append(("not registered", f"{name}: {each.get('reason', facts['photos'][name].get('reason', ''))}"))
    if not grown.get("changed", True):
        rows.append(("model", "as it was: no photo found a place in it"))
    link = grown.get("merged")
    if link:
        rows.append(("merged", f"by {link['consistent']} of {link['photos']} {link['by']}, scale {link['scale']:.4g}"))
    if grown.get("without"):
        rows.append(("taken out", ", ".join(grown["without"])))
    rows += [("passed over", f"{name}: {why}") for name, why in list(grown.get("passed_over", {}).items())[:NAMED]]
    moved = grown.get("moved")
    if moved:
        rows.append(("old photos", _moves(moved)))
    rows.append(("time", duration(facts["wall_s"])))
    return rows + [("warning", warning) for warning in facts["warnings"][:NAMED]]


HELD_DEG = 1e-9
"""Old photos that turned by less were held: it is what rounding leaves."""


def _moves(moved: Mapping[str, float]) -> str:
    """How far the photos of a grown model have moved."""
    if moved["largest_deg"] < HELD_DEG:
        return "held where they were: the new ones say nothing against it"
    return (
        f"turned by {moved['median_deg']:.2g} degrees (largest {moved['largest_deg']:.2g}), moved by "
        f"{100 * moved['median_share_of_extent']:.2g} % of the extent "
        f"(largest {100 * moved['largest_share_of_extent']:.2g} %)"
    )


def largest_probability(facts: Mapping[str, Any]) -> float | None:
    """Probability that the poses of the largest model are right; None where there is no verdict."""
    verdict = facts["models"][0].get("refinement", {}).get("verdict")
    return None if verdict is None else verdict["probability"]


def _trusted(facts: Mapping[str, Any]) -> bool:
    """Whether the largest model has no warning about it as a whole."""
    verdict = facts["models"][0].get("refinement", {}).get("verdict") or {}
    return bool(verdict.get("trusted", True))


def check_rows(found: PhotoCheck, photos: Sequence[Path], with_masks: bool = False) -> list[tuple[str, str]]:
    """What was found about photos, as rows for `table`; with_masks: whether masks were asked for."""
    megapixels = sorted(each.width * each.height / 1e6 for each in found.photos.photos)
    least, most = f"{megapixels[0]:.1f}", f"{megapixels[-1]:.1f}"
    rows = [("photos", f"{len(found.photos)}, of {least if least == most else f'{least} to {most}'} megapixels")]
    partners = sorted(found.partners)
    if partners:
        of = "" if len(partners) == len(found.photos) else f" of {len(partners)} of them"
        rows.append(
            (
                "overlap",
                f"each shares key points with {partners[len(partners) // 2]} others{of}; the least, {partners[0]}",
            )
        )
    for each in found.findings:
        rows.append((each.level, each.text))
        if each.remedy:
            rows.append(("", each.remedy))
    if found.masks:
        rows.append(("masks", f"written for {count(len(found.masks), 'photo')}: look at them, and paint what is wrong"))
    elif with_masks:
        panoramas = any(each.view for each in found.photos.photos)
        where = " outside of panoramas, which have no masks" if panoramas else ""
        rows.append(("masks", f"nothing stands still{where}: none are written"))
    if not found.findings:
        rows.append(("findings", "none: nothing speaks against these photos"))
    if found.cost is not None:
        pairs, seconds = count(found.cost.pairs, "pair"), duration(found.cost.cpu_s)
        rows.append(
            ("to expect", f"about {seconds} of CPU time for {pairs}, {size(found.cost.memory_bytes)} of memory")
        )
    chosen = found.suggested
    rows.append(("preset", f"{chosen.preset}: {chosen.why}"))
    words = ["unposed", "reconstruct", *map(str, photos), "-o", "result/", "--preset", chosen.preset, *chosen.options]
    first = [] if found.masks else [each.command for each in found.findings if each.command]
    rows.append(("next", first[0] if first else shlex.join(words)))
    return rows


def pair_list(found: PairTable) -> list[tuple[str, ...]]:
    """All matched pairs, best first, as rows for `table`, then remarks."""
    matched = sorted((pair for pair in found.pairs if pair.chosen), key=lambda pair: (-pair.verified, pair.photos))
    rows: list[tuple[str, ...]] = [("photo", "photo", "similarity", "matches", "verified", "geometry")]
    for pair in matched:
        alike = "-" if pair.similarity is None else f"{pair.similarity:.4f}"
        rows.append((*pair.photos, alike, str(pair.matches), str(pair.verified), pair.verdict))
    rows += [(*names[:2], "", "", "", f"copies of one file, {len(names)} in all") for names in found.same_file]
    connected = {name for pair in found.pairs if pair.kind != "none" and not pair.doubt for name in pair.photos}
    isolated = (photo.name for photo in found.photos.photos if photo.name not in connected)
    rows += [(name, "-", "", "", "", found.lost.get(name, "connected with no other photo")) for name in isolated]
    return rows + [(name, "-", "", "", "", f"not read: {why}") for name, why in found.photos.rejected.items()]


def _without_partners(facts: Mapping[str, Any]) -> str | None:
    """The first photo that was read and is in no model; None if there is none."""
    unread = ("not read: ", *(f"{node}: " for node in facts["stages"]))
    left_out = ((name, photo["reason"]) for name, photo in facts["photos"].items() if "reason" in photo)
    return next((name for name, reason in left_out if not reason.startswith(unread)), None)


def _left_out(photos: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Few photos by name, many by reason."""
    reasons = {name: photo["reason"] for name, photo in photos.items() if "reason" in photo}
    if len(reasons) <= NAMED:
        return [f"{name}: {reason}" for name, reason in reasons.items()]
    counts = Counter(reasons.values()).most_common()
    lines = [f"{count(n, 'photo')}: {reason}" for reason, n in counts[:NAMED]]
    others = sum(n for _, n in counts[NAMED:])
    return lines + ([f"{count(others, 'photo')} for other reasons, see summary.json"] if others else [])


def pair_rows(facts: Mapping[str, Any], out: Path) -> list[tuple[str, str]]:
    """The main figures of two photos, from pair.json, as rows for `table`."""
    trace = sum(facts["b_from_a"][i][i] for i in range(3))
    turn_deg = degrees(acos(max(-1.0, min(1.0, (trace - 1.0) / 2.0))))
    centre = [-sum(row[i] * row[3] for row in facts["b_from_a"]) for i in range(3)]
    towards = ", ".join(f"{each:.3f}" for each in centre) if facts["kind"] != "rotation" else "same place"
    return [
        ("matches", f"{facts['inliers']} of {facts['matches']} verified"),
        ("geometry", f"{facts['kind']}, median triangulation angle {facts['angle_deg']:.1f} degrees"),
        ("focal lengths", " and ".join(f"{focal:.0f} px" for focal in facts["focals_px"])),
        ("relative rotation", f"{turn_deg:.2f} degrees"),
        ("second camera at", f"{towards}, in the frame of the first"),
        ("points", str(facts["points"])),
        ("written to", str(out)),
    ]


def dense_rows(facts: Mapping[str, Any], folder: Path) -> list[tuple[str, str]]:
    """Dense points by model, and the photos without depth that others agree with, as rows for `table`."""
    rows = []
    for number, model in enumerate(facts["models"]):
        label = "dense points" if len(facts["models"]) == 1 else f"model {number}"
        rows.append(
            (label, f"{count(model['points'], 'point')}, each seen by {model['views_per_point']:.1f} photos on average")
        )
        bare = [name for name, share in model["agreed_share"].items() if share < BARE_SHARE]
        if bare:
            more = f" and {len(bare) - NAMED} more" if len(bare) > NAMED else ""
            rows.append(("hardly any in", ", ".join(bare[:NAMED]) + more))
    return [*rows, ("written to", str(folder))]


def judged_rows(judged: JudgedModel, out: Path) -> list[tuple[str, str]]:
    """Whether a splat will train well, and what is amiss with which photos, as rows for `table`."""
    rows = [("splat", judged.line)]
    rows += [("hurts", f"{each.name}: {each.reason}") for each in judged.hurting]
    unknown = [each for each in judged.photos if not each.tested]
    rows += [("unknown", f"{each.name}: {each.reason}") for each in unknown[:NAMED]]
    if len(unknown) > NAMED:
        rows.append(("unknown", f"{len(unknown) - NAMED} more, see --json"))
    if judged.error_px == judged.error_px:
        rows.append(("points", f"median error of those that other photos place: {judged.error_px:.2f} px"))
    if judged.hurting and judged.outlook != "badly":
        words = [word for each in judged.hurting for word in ("--without", each.name)]
        rows.append(("next", shlex.join(["unposed", "add", str(out), *words])))
    return rows


def splat_rows(facts: Mapping[str, Any], folder: Path) -> list[tuple[str, str]]:
    """Size of a splat and its scores on the photos held out, the worst named, as rows for `table`."""
    rows = [("splat", count(facts["gaussians"], "Gaussian"))]
    if facts["psnr"] is not None:
        number = len(facts["held_out"])
        rows.append(("held out", f"PSNR {facts['psnr']:.2f} dB, SSIM {facts['ssim']:.3f}, {count(number, 'photo')}"))
        worst = min(facts["held_out"], key=lambda each: each["psnr"])
        rows.append(("worst", f"{worst['name']}: PSNR {worst['psnr']:.2f} dB"))
    if (poses := facts.get("poses")) is not None:
        turned = statistics.median(each["turned_deg"] for each in poses["moved"])
        change = f"PSNR {poses['psnr_of_given']:.2f} to {poses['psnr_of_trained']:.2f} dB held out"
        kept = f"kept, see {folder / 'refined'}" if poses["kept"] else "those of the model stay"
        rows.append(("poses", f"moved by {turned:.2g} degrees in the median, {change}: {kept}"))
    return [*rows, ("written to", str(folder))]
