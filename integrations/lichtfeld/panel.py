"""The panel: a folder of photos, a button, progress, and one line for each photo that has no camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import lichtfeld as lf

from .job import Job

MOST_LINES = 50
"""A panel with thousands of lines is slow to draw; summary.json has all."""


class PhotosPanel(lf.ui.Panel):
    """Reconstructs photos with unposed and opens the folder that LichtFeld Studio trains on."""

    id = "unposed_photos.panel"
    label = "Photos"
    space = lf.ui.PanelSpace.MAIN_PANEL_TAB
    order = 30
    update_interval_ms = 200
    running: ClassVar[set[Job]] = set()

    def __init__(self) -> None:
        self._photos = self._out = ""
        self._job: Job | None = None
        self._was_running = False

    @classmethod
    def stop_all(cls) -> None:
        """Stop what is under way, as the plugin is about to vanish."""
        for job in cls.running:
            job.stop()
        cls.running.clear()

    def draw(self, ui: Any) -> None:
        """Called by LichtFeld Studio whenever the panel is drawn."""
        ui.heading("Cameras from photos")
        _, self._photos = ui.path_input("Photos", self._photos, True)
        _, self._out = ui.path_input("Result", self._out, True)
        job = self._job
        if job is not None and job.running:
            ui.progress_bar(job.share, job.node)
            if ui.button_styled("Stop", "warning"):
                job.stop()
        elif ui.button_styled("Reconstruct", "primary"):
            self._start()
        if job is None:
            return
        for line in job.lines[:MOST_LINES]:
            ui.label(line)
        if len(job.lines) > MOST_LINES:
            ui.text_disabled(f"and {len(job.lines) - MOST_LINES} more, see {job.out / 'summary.json'}")
        if job.dataset is not None and ui.button_styled("Open to train", "success"):
            lf.load_file(str(job.dataset), is_dataset=True)

    def on_update(self, doc: Any) -> bool:
        """Called now and then; True asks for the panel to be drawn again, once more when a run has ended."""
        running = self._job is not None and self._job.running
        changed, self._was_running = running or self._was_running, running
        if self._job is not None and not running:
            self.running.discard(self._job)
        return changed

    def _start(self) -> None:
        if not self._photos:
            lf.log.warn("unposed: choose a folder of photos first")
            return
        photos = Path(self._photos)
        out = Path(self._out) if self._out else photos.parent / f"{photos.name}-unposed"  # not kept for other photos
        self._job = Job(photos, out)
        self.running.add(self._job)
        self._job.start()
