"""Notebook view of a reconstruction: a table of its models, and a top view of the cameras of the largest."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unposed.optim.poses import camera_centres
from unposed.report.ground import upright_axes

from .amounts import NAMED, count

if TYPE_CHECKING:
    from .model import Model
    from .reconstruction import Reconstruction

SIDE = 260
"""Of the drawing in pixels."""
MAX_CAMERAS, MAX_POINTS = 500, 400
"""Largest number of drawn cameras and points, evenly chosen, to keep notebook files small."""


def reconstruction_html(rec: Reconstruction) -> str:
    """HTML without scripts or external references, in the colours of the page."""
    facts = rec.summary
    lines = [f"<b>Reconstruction</b>: registered {facts['registered']} of {count(facts['total'], 'photo')}"]
    rows = ["<tr><th>model</th><th>photos</th><th>points</th><th>mean reprojection error</th></tr>"]
    for number, model in enumerate(rec.models):
        error = "–" if model.mean_reprojection_px is None else f"{model.mean_reprojection_px:.2f} px"
        rows.append(f"<tr><td>{number}</td><td>{len(model)}</td><td>{len(model.points)}</td><td>{error}</td></tr>")
    lines.append(f"<table>{''.join(rows)}</table>")
    left_out = list(rec.unregistered.items())
    texts = [f"{name}: {reason}" for name, reason in left_out[:NAMED]]
    if len(left_out) > NAMED:
        texts.append(f"{count(len(left_out) - NAMED, 'photo')} more not registered")
    texts += [f"warning: {warning}" for warning in rec.warnings[:NAMED]]
    lines += [f"<div>{escape(text)}</div>" for text in texts]
    drawing = top_view_svg(rec.models[0]) if rec.models else ""
    return f"<div>{'<br>'.join(lines[:1])}{''.join(lines[1:])}{drawing}</div>"


def top_view_svg(model: Model) -> str:
    """Top view: cameras as triangles that open in their viewing direction, points as dots."""
    pose = model.cam_from_world[_chosen(len(model), MAX_CAMERAS)]
    centres = camera_centres(pose)
    right, forward, _ = upright_axes(pose)
    axes = np.stack([right, -forward])  # y of a drawing points down
    flat, looks = centres @ axes.T, pose[:, 2, :3] @ axes.T
    middle = np.median(flat, axis=0)
    reach = max(float(np.abs(flat - middle).max()), 1e-9)
    near = model.points[_chosen(len(model.points), MAX_POINTS)] @ axes.T
    near = near[np.abs(near - middle).max(axis=1) < 2.0 * reach]  # far points would make the cameras small
    everything = np.concatenate([flat, near])
    low, high = everything.min(axis=0), everything.max(axis=0)
    scale = 0.86 * SIDE / max(float((high - low).max()), 1e-9)

    def place(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((xy - (low + high) / 2) * scale + SIDE / 2)

    dots = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in place(near).tolist())
    cameras = []
    for centre, look in zip(place(flat), looks, strict=True):
        ahead = 12.0 * look
        aside = 0.5 * np.array([-ahead[1], ahead[0]])
        corners = [centre, centre + ahead + aside, centre + ahead - aside]
        cameras.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners) + "Z")
    return (
        f'<svg width="{SIDE}" height="{SIDE}" viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="cameras from above" '
        f'fill="none" stroke="currentColor"><path d="{dots}" stroke-width="2" stroke-linecap="round" opacity="0.35"/>'
        f'<path d="{"".join(cameras)}" stroke="#d97706" stroke-width="1.2"/></svg>'
    )


def _chosen(total: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, total - 1, min(total, most)).astype(np.int64)) if total else np.zeros(0, np.int64)
