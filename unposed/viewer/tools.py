"""What the buttons of the viewer do."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .frusta import CHOSEN
from .shown import nearest_to_ray

if TYPE_CHECKING:
    from .window import Window


def measure(window: Window) -> None:
    """The next two clicks on points give their distance."""
    window.measured.clear()
    window.controls["distance"].content = "Click two points."

    @window.server.scene.on_click()
    def clicked(event: Any) -> None:
        points = np.concatenate([each.model.points for each in window.models])
        found = nearest_to_ray(points, np.array(event.ray_origin), np.array(event.ray_direction))
        if found is None or len(window.measured) >= 2:
            return
        window.measured.append(points[found])
        if len(window.measured) == 2:
            window.server.scene.remove_click_callback(clicked)
            ends = np.array(window.measured, np.float32)[None]
            window.server.scene.add_line_segments("/measure", ends, CHOSEN, thickness=3.0, thickness_units="screen")
            gap = float(np.linalg.norm(window.measured[0] - window.measured[1]))
            window.controls["distance"].content = f"**{gap:.4g}** units of the model"


def save_picture(event: Any) -> None:
    """Send the view to whoever asked, as a PNG."""
    if event.client is None:
        return
    camera, data = event.client.camera, io.BytesIO()
    height, width = camera.image_height, camera.image_width
    Image.fromarray(event.client.get_render(height, width, transport_format="png")).save(data, "PNG")
    event.client.send_file_download("unposed.png", data.getvalue())
