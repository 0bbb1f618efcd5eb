"""Every option of the command line, defined once: its Python parameter, flags, parser and help.

An option that is not given is not passed on, so that defaults exist in the Python signatures only. Only the standard
library is imported.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from .options import DEFAULTS, EFFORTS


@dataclass(frozen=True)
class Flag:
    """An option of the command line that sets a Python parameter."""

    help: str
    metavar: str | tuple[str, ...] | None = None
    read: Callable[[str], Any] = str
    choices: Sequence[str] | None = None
    repeated: bool = False
    few: bool = False
    """One value or more; `metavar` names the first and the others."""
    switch: bool = False
    off: bool = False
    """A switch that sets its parameter to False."""
    names: tuple[str, ...] = ()
    """Empty: two dashes and the parameter's name."""


def whole(text: str) -> int:
    """0, 1, -1, ..."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None


def whole_above_zero(text: str) -> int:
    """1, 2, ..."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


def effort(text: str) -> str | float:
    """low, normal, high, or a number of at least 0."""
    if text in EFFORTS:
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < inf:
        raise argparse.ArgumentTypeError(f"expected {', '.join(EFFORTS)} or a number of at least 0, got {text!r}")
    return value


def device(text: str) -> str:
    """auto, cpu, cuda or cuda:i."""
    kind, colon, index = text.partition(":")
    if kind in ("auto", "cpu", "cuda") and (not colon or (kind == "cuda" and index.isdecimal())):
        return text
    raise argparse.ArgumentTypeError(f"expected auto, cpu, cuda or cuda:1, got {text!r}")


def size_bytes(text: str) -> int:
    """A size such as 8G, 500 MB or a plain number of bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"expected a size such as 8G or 500M, got {text!r}")
    number, unit = match.groups()
    return int(float(number) * 1024 ** " KMGT".index(unit.upper() or " "))


def trainers(text: str) -> tuple[str, ...]:
    """Names of programs, with commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


FLAGS: dict[str, Flag] = {
    "preset": Flag("see unposed presets (default: auto)", "NAME|FILE"),
    "settings": Flag("change one setting; NODE=null drops the node", "NODE.KEY=VALUE", repeated=True, names=("--set",)),
    "cameras": Flag("which photos share one camera", choices=("auto", "single", "folder", "image")),
    "intrinsics": Flag("known intrinsics: JSON or COLMAP's cameras.txt", "FILE", Path),
    "poses": Flag("known or rough poses; they set frame and scale", "FILE", Path),
    "rigs": Flag("which photos were taken by cameras fixed to each other, COLMAP's rig_config.json", "FILE", Path),
    "masks": Flag("masks named like the photos; black hides", "DIR", Path),
    "write_masks": Flag(
        "write masks there that hide what stands still in the photos", "DIR", Path, names=("--write-masks",)
    ),
    "include": Flag("only photos whose name matches", "GLOB", repeated=True),
    "exclude": Flag("no photos whose name matches", "GLOB", repeated=True),
    "frames": Flag("of each video, at most (default: 2 a second, 60 to 300)", "N", whole_above_zero),
    "require": Flag("exit 3 if a smaller share of the photos is registered", "FRACTION", fraction),
    "anew": Flag("map all anew, also where OUT has a result of most of the photos", switch=True),
    "device": Flag(f"default: {DEFAULTS.device}", "auto|cpu|cuda[:i]", device),
    "executor": Flag(f"plugin that spreads the work (default: {DEFAULTS.executor})", "NAME[:ADDRESS]"),
    "workers": Flag("items computed at once (default: one per core)", "N", whole_above_zero),
    "effort": Flag(f"work where a first pass fails (default: {DEFAULTS.effort})", "low|normal|high|N", effort),
    "seed": Flag(f"start of every random choice (default: {DEFAULTS.seed})", "N", whole),
    "cache": Flag("folder of stored results (default: the user's)", "DIR", Path),
    "verify_photos": Flag("read all photos again, changed or not", switch=True, names=("--verify-photos",)),
    "reproducible": Flag("the same bytes on all x86-64 machines, slower", switch=True),
    "ram_bytes": Flag("memory to stay within, e.g. 8G (default: what is free)", "SIZE", size_bytes, names=("--ram",)),
    "vram_bytes": Flag("the same on the GPU", "SIZE", size_bytes, names=("--vram",)),
    "compare": Flag("other poses of the same photos, to see the differences", "GT|DIR", Path),
    "splat": Flag("a splat of it, as unposed splat has written, or its PLY file", "DIR|PLY", Path),
    "host": Flag("serve to others than this machine, e.g. 0.0.0.0 (default: 127.0.0.1)", "ADDRESS"),
    "port": Flag("where to serve (default: 8080)", "N", whole_above_zero),
    "report": Flag("no report.html and no overview.jpg", switch=True, off=True, names=("--no-report",)),
    "exports": Flag("also export to OUT/FORMAT, e.g. splat", "FORMAT", repeated=True, names=("--export",)),
    "to": Flag("an export plugin, see unposed plugins", "FORMAT"),
    "photos_folder": Flag("where the photos are now, if they have moved", "DIR", Path, names=("--photos",)),
    "seeds": Flag("with the dense points that unposed dense has written there", "DIR", Path),
    "gaussians": Flag("begin with Gaussians of a plugin of this slot, in place of seeds", "NAME"),
    "method": Flag("a plugin of the slot, see unposed plugins", "NAME"),
    "options": Flag("an option of the format", "KEY=VALUE", repeated=True, names=("--set",)),
    "trainers": Flag("programs that are to read it (default: all)", "NAME,...", trainers, names=("--for",)),
    "limits": Flag("change a limit of the checks", "KEY=VALUE", repeated=True, names=("--set",)),
    "camera": Flag(
        "auto: that of the model's photos of the same kind, or one that explains more; free: estimated",
        choices=("auto", "model", "free"),
    ),
    "how": Flag("an option of the command, see the documentation", "KEY=VALUE", repeated=True, names=("--set",)),
    "without": Flag("take this photo out", "NAME", repeated=True),
    "original": Flag("in the frame of the reconstruction, before unposed align", switch=True),
    "folder": Flag("folder for poses.json, TUM and COLMAP files", "DIR", Path, names=("-o", "--out")),
    "gt": Flag("gt.json, a COLMAP folder, or transforms.json", "GT", Path),
    "keep": Flag("prune: the least recently used go until this is left", "SIZE", size_bytes),
    "unused": Flag("prune: what no run has used for so many days", "DAYS", whole_above_zero),
    "stage": Flag("prune: results of this stage only, or images; all unless limited", "SLOT.PLUGIN|images"),
    "of_preset": Flag("get, accept: all that this preset needs and that is not here", "NAME|FILE", names=("--preset",)),
    "accept": Flag("get: the licence is known and accepted", switch=True),
    "why": Flag("after PHOTOS: why two photos are connected or not (B: the one most like A)", ("A", "B"), few=True),
    "quiet": Flag("no progress, only the result", switch=True),
    "json": Flag("print the result as JSON", switch=True),
}
"""By Python parameter; those from `to` on belong to the command line alone."""

RUN = (
    *(
        "preset",
        "settings",
        "effort",
        "device",
        "executor",
        "workers",
        "seed",
        "cache",
        "verify_photos",
        "reproducible",
    ),
    *("ram_bytes", "vram_bytes", "quiet", "json"),
)
"""Options of a run, whatever the photos are."""


MACHINE = ("device", "workers", "seed", "cache", "ram_bytes", "vram_bytes")
"""Those of a command that works on a finished reconstruction."""


def add_flags(parser: argparse.ArgumentParser, *parameters: str, required: Sequence[str] = ()) -> None:
    """Give a command these options."""
    for parameter in parameters:
        flag = FLAGS[parameter]
        names = flag.names or (f"--{parameter}",)
        more: dict[str, Any] = {"dest": parameter, "help": flag.help}
        if flag.switch:
            parser.add_argument(*names, action="store_false" if flag.off else "store_true", **more)
            continue
        parser.add_argument(
            *names,
            action="append" if flag.repeated else "store",
            nargs="+" if flag.few else len(flag.metavar) if isinstance(flag.metavar, tuple) else None,
            type=flag.read,
            choices=flag.choices,
            metavar=flag.metavar,
            required=parameter in required,
            default=argparse.SUPPRESS,
            **more,
        )
