"""The window of the viewer: a viser server with the controls, and what happens when they are used."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import viser

from unposed.optim.arrays import Array, Index
from unposed.optim.poses import camera_centres
from unposed.optim.rotations import rotation_from_quaternion
from unposed.optim.spread import spread
from unposed.pipeline.artifacts import Bytes, Photos
from unposed.pipeline.images.pixels import photo_per_px
from unposed.pipeline.pose_files import Poses
from unposed.report.ground import upright_axes
from unposed.report.pair_drawings import lined
from unposed.report.pictures import readable_rgb

from ..reconstruction import Reconstruction
from .beside import Beside
from .frusta import CHOSEN, EDGE, INK, OTHER, add_frustum
from .shown import (
    COLOURINGS,
    Eye,
    PointFilter,
    ShownModel,
    aligned_poses,
    frustum_scale,
    pair_lines,
    shown_model,
)
from .splats import ShownSplat
from .tools import measure, save_picture

FIRST_POINTS = 200_000
"""Points that are drawn at first, half of them in the view: more are slow without a GPU, and a slider away."""
DETAIL_SIZE = 0.5
"""Size of the points that are added to a view over that of the others: they are denser, and large ones near to the eye
take a processor without a GPU seconds to fill."""
STILL_S = 0.3
"""How long a browser has to hold still before it gets the points of its view."""
THUMBNAIL_PX, MOST_THUMBNAILS = 64, 100
"""Of photos in cameras; of more, only outlines are drawn at first: each photo is 2 ms a frame where no GPU draws."""
IMAGE_PX = 640
ALL_MODELS = "all, each in a frame of its own"
POINTS_PER_REACH = 160.0
"""Points side by side between the middle of the scene and its cameras, at size 1."""


@dataclass(eq=False)
class Window:
    """A server and what it shows. Everything is below one name in its scene, so that it is replaced at once."""

    server: viser.ViserServer
    photos: Photos | None = None
    models: list[ShownModel] = field(default_factory=list)
    names: tuple[str, ...] = ()
    chosen: tuple[int, int] | None = None
    """Model, and row of the photo in it."""
    controls: dict[str, Any] = field(default_factory=dict)
    frusta: dict[tuple[int, int], Any] = field(default_factory=dict)
    thumbnails: dict[tuple[int, int], Bytes | None] = field(default_factory=dict)
    measured: list[Array] = field(default_factory=list)
    details: dict[int, tuple[float, list[Any]]] = field(default_factory=dict)
    """By browser when it last moved, and the points that were drawn for it alone."""
    lock: Any = field(default_factory=threading.RLock)
    """Held while points are drawn: controls and browsers are served in threads of their own."""
    log: Any = None
    """The last lines of a run at work, where they are shown."""

    def show(self, made: Reconstruction, beside: Beside, model: int | None = 0) -> None:
        """Show a model of a reconstruction in place of what was there; None: all models, though nothing says how they
        lie to each other."""
        self.server.scene.reset()
        self.server.gui.reset()
        self.measured.clear()
        with self.lock:
            self.frusta.clear()
            self.thumbnails.clear()
            self._forget_details()
        self.log = None
        self.photos, self.chosen = made.photos, None
        every = made.sparse.models
        self.models = [shown_model(each, k) for k, each in enumerate(every if model is None else every[model:][:1])]
        self.names = tuple(photo.name for photo in made.photos.photos)
        if not self.models:
            self.server.gui.add_markdown("This run registered no photo: report.html says why.")
            return
        axes = upright_axes((first := self.models[0].model).cam_from_world)
        self.server.scene.set_up_direction(tuple(axes[2].tolist()))
        middle = np.median(first.points if len(first.points) else camera_centres(first.cam_from_world), axis=0)
        reach = float(np.quantile(np.linalg.norm(camera_centres(first.cam_from_world) - middle, axis=1), 0.9))
        self.server.initial_camera.look_at = middle
        self.server.initial_camera.position = middle + 2.0 * reach * (0.5 * axes[2] - axes[1])
        self._add_controls(reach)
        if len(every) > 1:
            self._add_switch(made, beside, model)
        self._draw_points()
        self._draw_cameras()
        self._draw_photos()
        self._draw_edges(made)
        if beside.poses is not None:
            self._draw_other(beside.poses)
        if beside.splat is not None and not model:  # it is in the frame of the largest
            self._draw_splat(beside.splat)

    def say(self, lines: list[str], some: bool) -> None:
        """Show the last lines of the log of a run at work: alone, or below what it has found so far."""
        text = "\n".join(lines).replace("`", "'") or "nothing was written yet"
        head = "**Still running:** this is what is there so far." if some else "**No result yet.**"
        content = f"{head} The run says:\n\n```\n{text}\n```"
        if not some:
            self.server.gui.reset()
            self.log = None
        if self.log is None:
            self.log = self.server.gui.add_markdown(content, order=-1.0)
        else:
            self.log.content = content

    def _add_controls(self, reach: float) -> None:
        gui, total = self.server.gui, sum(len(each.model.points) for each in self.models)
        errors = np.concatenate([each.model.error_px for each in self.models])
        top = float(np.quantile(errors, 0.99)) if len(errors) else 1.0
        c = self.controls = {}
        cameras = sum(len(each.model.photos) for each in self.models)
        gui.add_markdown(f"**{cameras} photos, {total:,} points**")
        with gui.add_folder("Points"):
            c["colour"] = gui.add_dropdown("colour", COLOURINGS)
            c["most"] = gui.add_slider("shown", 1000, max(total, 1001), 1000, min(max(total, 1000), FIRST_POINTS))
            c["size"] = gui.add_slider("size", 0.1, 5.0, 0.1, 1.0)
            c["length"] = gui.add_slider("photos per point", 2, 20, 1, 2)
            c["error"] = gui.add_slider("error below, px", 0.0, top, top / 100, top)
        with gui.add_folder("Cameras and pairs"):
            c["cameras"] = gui.add_checkbox("cameras", True)
            c["scale"] = gui.add_slider("camera size", 0.1, 5.0, 0.1, 1.0)
            c["pictured"] = gui.add_slider("with photo", 0, cameras, 1, cameras if cameras <= MOST_THUMBNAILS else 0)
            c["edges"] = gui.add_checkbox("pairs", False)
        with gui.add_folder("Photo"):
            c["photo"] = gui.add_dropdown("photo", ("none", *self._registered()))
            c["partner"] = gui.add_dropdown("matches with", ("none",))
            c["facts"] = gui.add_markdown("Click a camera, or choose a photo.")
            c["image"] = gui.add_image(np.zeros((2, 2, 3), np.uint8), visible=False)
        with gui.add_folder("Tools"):
            c["measure"] = gui.add_button("measure between two clicks")
            c["distance"] = gui.add_markdown("")
            c["picture"] = gui.add_button("save this view as a picture")
        c["unit"] = reach / POINTS_PER_REACH
        for name in ("colour", "most", "size", "length", "error"):
            c[name].on_update(lambda _: self._draw_points())
        c["scale"].on_update(lambda _: self._draw_cameras())
        c["pictured"].on_update(lambda _: self._draw_photos())
        c["cameras"].on_update(lambda _: self._show_cameras())
        c["photo"].on_update(lambda _: self._choose_by_name(c["photo"].value))
        c["partner"].on_update(lambda _: self._show_pair())
        c["measure"].on_click(lambda _: measure(self))
        c["picture"].on_click(save_picture)

    def _add_switch(self, made: Reconstruction, beside: Beside, model: int | None) -> None:
        """Which of several models is shown; browsers are moved to where it is."""
        words = [f"{k}: {len(each.photos)} photos" for k, each in enumerate(made.sparse.models)] + [ALL_MODELS]
        shown = words[-1 if model is None else model]
        self.controls["model"] = self.server.gui.add_dropdown("model", words, initial_value=shown, order=-0.5)

        def switched(event: Any) -> None:
            chosen = words.index(event.target.value)
            with self.lock:
                self.show(made, beside, None if chosen == len(words) - 1 else chosen)
            for client in self.server.get_clients().values():
                client.camera.position = self.server.initial_camera.position
                client.camera.look_at = self.server.initial_camera.look_at

        self.controls["model"].on_update(switched)

    def _registered(self) -> list[str]:
        return sorted(self.names[i] for each in self.models for i in each.model.photos.tolist())

    def _draw_points(self) -> None:
        """Draw points that are spread over the scene; `refine` adds those of what a browser looks at."""
        with self.lock:
            self._forget_details()
            for each in self.models:
                rows = each.rows(self._wanted(each))
                self._draw_cloud(self.server.scene, f"/points/{each.number}", each, rows)

    def _wanted(self, shown: ShownModel) -> PointFilter:
        """Filter of the controls, with the model's share of the points; half of them where not all are drawn."""
        c, total = self.controls, max(sum(len(each.model.points) for each in self.models), 1)
        most = c["most"].value if c["most"].value >= total else c["most"].value // 2
        limit = np.inf if c["error"].value >= c["error"].max else c["error"].value
        return PointFilter(int(most * len(shown.model.points) / total) + 1, c["length"].value, limit)

    def _draw_cloud(self, scene: Any, name: str, shown: ShownModel, rows: Index, relative_size: float = 1.0) -> Any:
        c = self.controls
        return scene.add_point_cloud(
            name, shown.model.points[rows].astype(np.float32), shown.colours(rows, c["colour"].value),
            point_size=c["unit"] * c["size"].value * relative_size, point_shape="circle", point_shading="flat",
            visible="points" not in c or c["points"].value,
        )  # fmt: skip

    def refine(self) -> None:
        """Draw more points of what each browser looks at, as soon as it holds still: as many as all others together."""
        with self.lock:
            self._refine(self.server.get_clients())

    def _refine(self, clients: dict[int, Any]) -> None:
        for number in self.details.keys() - clients.keys():
            del self.details[number]  # that browser has gone
        if not self.models or self.controls["most"].value >= self.controls["most"].max:
            return
        for number, client in clients.items():
            camera, before = client.camera, self.details.get(number, (0.0, []))
            moved = camera.update_timestamp
            if moved == before[0] or time.time() - moved < STILL_S:
                continue
            for handle in before[1]:
                handle.remove()
            eye = Eye(np.asarray(camera.position), rotation_from_quaternion(camera.wxyz), camera.fov, camera.aspect)
            found = []
            for each in self.models:
                wanted = self._wanted(each)
                rows = each.detail(wanted, wanted.most, eye)
                found.append(self._draw_cloud(client.scene, f"/detail/{each.number}", each, rows, DETAIL_SIZE))
            self.details[number] = moved, found

    def _forget_details(self) -> None:
        for _, handles in self.details.values():
            for handle in handles:
                handle.remove()
        self.details.clear()

    def _draw_cameras(self) -> None:
        for each in self.models:
            model, scale = each.model, frustum_scale(each.model.cam_from_world) * self.controls["scale"].value
            cameras = [model.cameras[k] for k in model.camera_of_photo.tolist()]
            for row, (camera, pose) in enumerate(zip(cameras, model.cam_from_world, strict=True)):
                key = (each.number, row)
                if key in self.frusta:
                    self.frusta[key].scale = scale
                    continue
                name = f"/cameras/{each.number}/{row}"
                self.frusta[key] = add_frustum(self.server.scene, name, pose, camera, scale, INK)
                self.frusta[key].on_click(lambda _, key=key: self._choose(key))

    def _draw_photos(self) -> None:
        """Photos in as many cameras as the controls say, evenly spread over all of them."""
        keys = list(self.frusta)
        wanted = {keys[i] for i in spread(len(keys), self.controls["pictured"].value).tolist()}
        for key in keys:
            with self.lock:
                frustum = self.frusta.get(key)
                if frustum is None:  # what is shown was replaced meanwhile
                    return
                if (key in wanted) != (frustum.image is not None):
                    frustum.image = self._thumbnail(key) if key in wanted else None

    def _thumbnail(self, key: tuple[int, int]) -> Bytes | None:
        if key not in self.thumbnails and self.photos is not None:
            photo = int(self.models[key[0]].model.photos[key[1]])
            self.thumbnails[key] = readable_rgb(self.photos[photo], THUMBNAIL_PX)
        return self.thumbnails.get(key)

    def _show_cameras(self) -> None:
        for each in self.frusta.values():
            each.visible = self.controls["cameras"].value

    def _draw_edges(self, made: Reconstruction) -> None:
        """Verified pairs as lines between cameras, the redder the fewer of their matches agree with the model."""
        lines, good = pair_lines(self.names, [each.model for each in self.models], made.summary["models"])
        if not len(lines):
            return
        colours = np.rint(good[:, None] * np.array(EDGE) + (1 - good[:, None]) * np.array(OTHER)).astype(np.uint8)
        handle = self.server.scene.add_line_segments(
            "/pairs", lines, np.repeat(colours[:, None], 2, axis=1),
            thickness=1.0, thickness_units="screen", visible=False,
        )  # fmt: skip
        self.controls["edges"].on_update(lambda _: setattr(handle, "visible", self.controls["edges"].value))

    def _draw_other(self, other: Poses) -> None:
        """Other poses of the same photos, aligned, with lines to ours."""
        model = self.models[0].model
        ours = [self.names[i] for i in model.photos.tolist()]
        try:
            moved, lines = aligned_poses(ours, model.cam_from_world, other.names, other.cam_from_world)
        except ValueError as error:
            self.server.gui.add_markdown(f"Nothing is compared: {error}.")
            return
        scale = frustum_scale(model.cam_from_world)
        for row, pose in enumerate(moved):
            add_frustum(self.server.scene, f"/other/{row}", pose, model.cameras[0], scale, OTHER)
        self.server.scene.add_line_segments(
            "/other/differences", lines.astype(np.float32), OTHER, thickness=2.0, thickness_units="screen"
        )
        gap = np.linalg.norm(lines[:, 0] - lines[:, 1], axis=1)
        extent = float(np.linalg.norm(np.ptp(lines[:, 0], axis=0)))
        self.server.gui.add_markdown(
            f"{len(lines)} photos are in both; positions differ by {np.median(gap):.3g} in the median, "
            f"{gap.max():.3g} at most ({gap.max() / max(extent, 1e-12):.2%} of the extent)."
        )

    def _draw_splat(self, splat: ShownSplat) -> None:
        """The Gaussians in place of the points, which they would hide."""
        handle = self.server.scene.add_gaussian_splats(
            "/splat", centers=splat.centres, covariances=splat.covariances, rgbs=splat.rgb, opacities=splat.opacity
        )
        count = len(splat.centres)
        of = "" if count == splat.total else f", the largest of {splat.total:,}"
        with self.server.gui.add_folder("Splat"):
            self.controls["splat"] = self.server.gui.add_checkbox(f"{count:,} Gaussians{of}", True)
            self.controls["points"] = self.server.gui.add_checkbox("points", False)
        self.controls["splat"].on_update(lambda _: setattr(handle, "visible", self.controls["splat"].value))
        self.controls["points"].on_update(lambda _: self._draw_points())
        self._draw_points()

    def _choose_by_name(self, name: str) -> None:
        for each in self.models:
            for row, photo in enumerate(each.model.photos.tolist()):
                if self.names[photo] == name and self.chosen != (each.number, row):
                    self._choose((each.number, row))

    def _choose(self, key: tuple[int, int]) -> None:
        """Show a photo with its key points, and list its partners."""
        if self.chosen is not None and self.chosen in self.frusta:
            self.frusta[self.chosen].color = INK
        self.chosen = key
        self.frusta[key].color = CHOSEN
        shown, row = self.models[key[0]], key[1]
        c, name = self.controls, self.names[int(shown.model.photos[row])]
        partners = shown.partners(row)
        c["partner"].options = ("none", *(self.names[int(shown.model.photos[other])] for other, _ in partners))
        c["partner"].value = "none"
        c["photo"].value = name
        c["facts"].content = f"{len(shown.seen_by(row)):,} points, in common with {len(partners)} photos"
        self._show_image(key)

    def _show_image(self, key: tuple[int, int]) -> None:
        shown, row = self.models[key[0]], key[1]
        image = self._image(int(shown.model.photos[row]))
        if image is None:
            return
        start, stop = shown.model.xy_start[row : row + 2]
        seen = shown.model.obs_xy[(shown.model.obs_xy >= start) & (shown.model.obs_xy < stop)]
        xy = np.asarray(shown.model.xy, np.float64)[seen] / self._per_px(int(shown.model.photos[row]), image)
        drawn = image.copy()
        at = np.clip(np.rint(xy).astype(np.int64), 1, np.array(image.shape[1::-1]) - 2)
        for dx, dy in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
            drawn[at[:, 1] + dy, at[:, 0] + dx] = CHOSEN
        self._put(drawn)

    def _show_pair(self) -> None:
        """The photo and its partner with lines between the points that both see."""
        if self.chosen is None:
            return
        partner = self.controls["partner"].value
        if partner == "none":
            self._show_image(self.chosen)
            return
        shown, row = self.models[self.chosen[0]], self.chosen[1]
        photos = shown.model.photos.tolist()
        other = next(k for k, photo in enumerate(photos) if self.names[photo] == partner)
        a, b = self._image(photos[row]), self._image(photos[other])
        if a is None or b is None:
            return
        xy_a, xy_b = shown.common_keypoints(row, other)
        self._put(np.asarray(lined(a, xy_a / self._per_px(photos[row], a), b, xy_b / self._per_px(photos[other], b))))

    def _put(self, image: Bytes) -> None:
        self.controls["image"].image = image
        self.controls["image"].visible = True

    def _image(self, photo: int) -> Bytes | None:
        return None if self.photos is None else readable_rgb(self.photos[photo], IMAGE_PX)

    def _per_px(self, photo: int, image: Bytes) -> Array:
        assert self.photos is not None
        return np.array(photo_per_px(self.photos[photo], image))


def opened(host: str, port: int) -> Window:
    """Start a server; what it prints itself is left out."""
    with contextlib.redirect_stdout(io.StringIO()):
        return Window(viser.ViserServer(host=host, port=port, label="unposed", verbose=False))
