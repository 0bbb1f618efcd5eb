"""Serve a reconstruction to a browser, and show it anew when a run has replaced it."""

from __future__ import annotations

import importlib.util
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from unposed.pipeline.errors import ConfigError, InputError, UnposedError
from unposed.pipeline.pose_files import Poses, read_poses

from .loading import load
from .output import LOCK, SUMMARY
from .reconstruction import Reconstruction
from .so_far import at_work, folder_so_far, load_so_far
from .viewer.beside import Beside

if TYPE_CHECKING:
    from .viewer.window import Window

LOOK_AGAIN_S, REFINE_S = 1.0, 0.25
"""How often the output folder is looked at, and where browsers look."""
LOG_LINES = 12
SPLAT_PLY = "splat.ply"
"""What unposed splat writes for viewers."""
Stamp = tuple[int, int]
"""When a file was changed, and which file it is."""


def view(
    out: str | Path,
    *,
    photos: str | Path | None = None,
    compare: str | Path | None = None,
    splat: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    opened: Callable[[str], None] = print,
    ended: Callable[[], bool] = lambda: False,
) -> None:
    """Show a reconstruction in the browser until Ctrl-C: points, cameras, photos with their key points and partners.

    out: what `reconstruct` has written, or is about to write: while it runs, its log is shown with the cameras that it
    has found so far, and each result when it is complete.
    photos: where the photos are now, if they have moved.
    compare: another reconstruction or known poses of the same photos (gt.json, a COLMAP folder, transforms.json), which
    are aligned and drawn with the differences.
    splat: folder that `unposed splat` has written, or a PLY file of Gaussians in the same world, to be drawn as well.
    host, port: where to serve. Others than this machine see it only if `host` says so, such as 0.0.0.0; there is no
    password.
    opened: receives the address. ended: asked once in a while whether to end.
    """
    out = Path(out)
    if not out.is_dir():
        raise InputError(f"{out}: no such folder; give the one that unposed reconstruct writes")
    held = {each.name for each in out.iterdir()}
    if held and not held & {SUMMARY, LOCK, "run.log"}:
        raise InputError(f"{out}: no reconstruction in it; give the folder that unposed reconstruct writes")
    if importlib.util.find_spec("viser") is None:
        raise ConfigError("the viewer needs viser: pip install 'unposed[view]'; report.html needs nothing")
    other = None if compare is None else _largest(read_poses(Path(compare)), Path(compare))
    from .viewer.splats import read_splat
    from .viewer.window import opened as opened_window

    drawn = None if splat is None else read_splat(Path(splat) / SPLAT_PLY if Path(splat).is_dir() else Path(splat))
    window = opened_window(host, port)
    try:
        opened(f"http://{host}:{window.server.get_port()}")
        _watch(window, out, photos, Beside(other, drawn), ended)
    except KeyboardInterrupt:
        return
    finally:
        window.server.stop()


def _watch(window: Window, out: Path, photos: str | Path | None, beside: Beside, ended: Callable[[], bool]) -> None:
    """Show what is in the folder, whenever it has changed: what a run has found so far, or else the result."""
    shown: Stamp | None = None
    log: list[str] = []
    while True:
        running = _stamp(folder_so_far(out)) if at_work(out) else None
        now = running or _stamp(out / SUMMARY)
        if now is not None and now != shown:
            made: Reconstruction | None = None
            try:
                made = load_so_far(out, photos) if running else load(out, photos)
            except (UnposedError, OSError):
                if not running and _stamp(out / SUMMARY) == now:
                    raise
                # Else a run has replaced it meanwhile, or writes it at the moment: look again.
            if made is not None:
                window.show(made, beside)
                shown, log = now, []
        lines = _last_lines(out / "run.log")
        if (running or now is None) and lines != log:
            window.say(lines, running is not None and shown == running)
            log = lines
        if ended():
            return
        for _ in range(round(LOOK_AGAIN_S / REFINE_S)):
            time.sleep(REFINE_S)
            window.refine()


def _stamp(file: Path) -> Stamp | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _last_lines(file: Path) -> list[str]:
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            return list(deque((line.rstrip() for line in lines), LOG_LINES))
    except OSError:
        return []


def _largest(found: list[Poses], source: Path) -> Poses:
    if not found:
        raise InputError(f"{source}: no poses in it")
    return max(found, key=lambda each: len(each.names))
