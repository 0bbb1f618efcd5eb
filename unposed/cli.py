"""The command line: parse, then hand over to the command of that name. Nothing is computed here.

Only the standard library is imported until a command runs, so that help and mistakes answer at once.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from unposed import __version__
from unposed.pipeline.errors import Interrupted, UnposedError

from .process import settle

EPILOG = """\
examples:
  unposed demo                                  try it on the sample that comes along
  unposed reconstruct photos/ -o result/        a folder of photos to a COLMAP model
  unposed reconstruct photos/ -o result/ --set matching.max_ratio=0.75
  unposed eval result/ --gt gt.json             how accurate is it

exit codes: 0 done, 2 bad usage, settings or input, 3 no reconstruction possible, 4 interrupted (resumable)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; gives its exit code."""
    arguments = parser().parse_args(argv)
    settle()
    try:
        command: Callable[[argparse.Namespace], int] = getattr(import_module("unposed.commands"), arguments.command)
        code = command(arguments)
        sys.stdout.flush()  # here, where a reader that has left can be told from a mistake
        return code
    except BrokenPipeError:  # whoever read our output has left: `unposed plugins | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail(Interrupted("interrupted: the same command goes on where this one stopped"), arguments.debug)
    except Exception as error:
        return _fail(error, arguments.debug)


def _fail(error: Exception, debug: bool) -> int:
    """Say what went wrong in one line; a traceback only for those who ask. Gives the exit code."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, UnposedError):
        line, code = str(error), error.exit_code
    elif isinstance(error, OSError) and error.strerror:
        line, code = f"{error.filename or 'a file'}: {error.strerror}", 2
    else:
        line, code = f"unexpected {type(error).__name__}: {error} (--debug shows where)", 1
    print("unposed:", " ".join(line.split()), file=sys.stderr)
    return code


class Parser(argparse.ArgumentParser):
    """argparse with mistakes in one line, and the nearest option named."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, formatter_class=_wide, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but what this parser does not know is an error here, where the known options are at hand."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = [name for action in self._actions for name in action.option_strings]
            near = difflib.get_close_matches(unknown[0].partition("=")[0], options, n=1)
            self.error(f"unknown argument {unknown[0]!r}" + (f", did you mean {near[0]}?" if near else ""))
        return known, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse, with the nearest choice instead of all of them, if one is near."""
        near = difflib.get_close_matches(str(value), map(str, action.choices or ()), n=1)
        if near and value not in (action.choices or ()):
            what = "command" if action.metavar == "COMMAND" else action.dest
            raise argparse.ArgumentError(None, f"no such {what}: {str(value)!r}, did you mean {near[0]}?")
        super()._check_value(action, value)

    def error(self, message: str) -> NoReturn:
        """One line to stderr, exit code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _wide(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=32)


def parser() -> Parser:
    """The whole grammar of the command line."""
    top = Parser(
        prog="unposed",
        description="A folder of unordered, uncalibrated photos goes in; cameras and 3D points come out.",
        epilog=EPILOG,
    )
    top.add_argument("--version", action="version", version=f"unposed {__version__}")
    verbs = top.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)

    def verb(name: str, summary: str) -> Parser:
        made: Parser = verbs.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        made.set_defaults(command=name)
        return made

    _reconstruct(verb("reconstruct", "find the cameras and 3D points of a folder of photos"))
    _pairs(verb("pairs", "list which photos are taken to see the same thing, and draw it"))
    _pairwise(verb("pairwise", "match two photos, and find how their cameras stand to each other"))
    _export(verb("export", "write a finished reconstruction for another program"))
    _evaluate(verb("eval", "measure a model against known camera poses"))
    _demo(verb("demo", "reconstruct the bundled sample and say how accurate it was"))
    _plugins(verb("plugins", "list, explain or start plugins"))
    _presets(verb("presets", "list the presets, or print one with all that it inherits"))
    _weights(verb("weights", "list, accept or fetch the published weights of networks"))
    _cache(verb("cache", "show, prune or verify what earlier runs stored"))
    doctor = verb("doctor", "say what this machine has, and what is amiss")
    doctor.add_argument("--cache", type=Path, metavar="DIR", help="default: the one reconstruct uses")
    _json(doctor)

    debug = os.environ.get("UNPOSED_DEBUG", "") not in ("", "0")
    for p in verbs.choices.values():
        p.add_argument("--debug", action="store_true", default=debug, help="show where an error was raised")
    return top


def _reconstruct(p: Parser) -> None:
    p.add_argument("photos", type=Path, metavar="PHOTOS", help="folder of photos, searched with its sub-folders")
    p.add_argument("-o", "--out", type=Path, required=True, help="folder for the result; an older result is replaced")
    _how(p)
    p.add_argument("--cameras", choices=("auto", "single", "folder", "image"), help="which photos share one camera")
    p.add_argument("--intrinsics", type=Path, metavar="FILE", help="known intrinsics: JSON or COLMAP's cameras.txt")
    p.add_argument("--poses", type=Path, metavar="FILE", help="known poses, JSON; they set frame and scale")
    p.add_argument("--masks", type=Path, metavar="DIR", help="pictures named like the photos; black hides")
    p.add_argument("--include", action="append", default=[], metavar="GLOB", help="only photos whose name matches")
    p.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="no photos whose name matches")
    p.add_argument(
        "--require", type=_fraction, default=0.0, metavar="FRACTION", help="exit 3 if fewer photos than that are placed"
    )


def _pairs(p: Parser) -> None:
    p.add_argument("photos", type=Path, metavar="PHOTOS", help="folder of photos, searched with its sub-folders")
    p.add_argument("-o", "--out", type=Path, metavar="DIR", help="draw the similarity matrix and the scene graph there")
    p.add_argument("--why", nargs=2, metavar=("A", "B"), help="say why two photos are joined, or are not")
    _how(p)
    p.add_argument("--masks", type=Path, metavar="DIR", help="pictures named like the photos; black hides")
    p.add_argument("--include", action="append", default=[], metavar="GLOB", help="only photos whose name matches")
    p.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="no photos whose name matches")


def _pairwise(p: Parser) -> None:
    p.add_argument("photo_a", type=Path, metavar="A", help="a photo")
    p.add_argument("photo_b", type=Path, metavar="B", help="another one that shows a part of the same")
    p.add_argument("-o", "--out", type=Path, required=True, help="folder for picture, facts, points and depth")
    _how(p)


def _how(p: Parser) -> None:
    """Options of a run, whatever the photos are."""
    p.add_argument("--preset", default="auto", metavar="NAME|FILE", help="see unposed presets (default: %(default)s)")
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.KEY=VALUE",
        dest="settings",
        help="change one setting; NODE=null drops the node",
    )
    p.add_argument("--device", type=_device, default="auto", metavar="auto|cpu|cuda[:i]", help="default: %(default)s")
    p.add_argument("--executor", default="local", metavar="NAME", help="what spreads the work (default: %(default)s)")
    p.add_argument("--workers", type=_positive, metavar="N", help="items in work at once (default: one per core)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    p.add_argument("--cache", type=Path, metavar="DIR", help="where results are kept for later runs")
    p.add_argument("--ram", type=_bytes, metavar="SIZE", help="memory to stay within, e.g. 8G (default: what is free)")
    p.add_argument("--vram", type=_bytes, metavar="SIZE", help="the same on the GPU")
    p.add_argument("--quiet", action="store_true", help="no progress, only the result")
    _json(p)


def _export(p: Parser) -> None:
    p.add_argument("out", type=Path, metavar="OUT", help="what unposed reconstruct has written")
    p.add_argument("--to", required=True, metavar="FORMAT", help="an export plugin, see unposed plugins")
    p.add_argument("-o", "--folder", type=Path, required=True, metavar="DIR", help="folder to write")
    p.add_argument("--photos", type=Path, metavar="DIR", help="where the photos are now, if they have moved")


def _evaluate(p: Parser) -> None:
    p.add_argument("model", type=Path, metavar="MODEL", help="OUT of reconstruct, a COLMAP folder, or transforms.json")
    p.add_argument("--gt", type=Path, required=True, metavar="GT", help="gt.json, a COLMAP folder, or transforms.json")
    _json(p)


def _demo(p: Parser) -> None:
    p.add_argument(
        "-o", "--out", type=Path, default=Path("unposed-demo"), help="folder for the result (default: %(default)s)"
    )
    _how(p)


def _plugins(p: Parser) -> None:
    p.add_argument("action", nargs="?", choices=("list", "show", "new"), default="list")
    p.add_argument("what", nargs="?", metavar="NAME|DIR", help="show: a plugin; new: a folder to make")
    _json(p)


def _presets(p: Parser) -> None:
    p.add_argument("action", nargs="?", choices=("list", "show"), default="list")
    p.add_argument("name", nargs="?", metavar="NAME|FILE", help="show: the preset to print")
    _json(p)


def _weights(p: Parser) -> None:
    p.add_argument("action", nargs="?", choices=("list", "get", "accept"), default="list")
    p.add_argument("name", nargs="?", metavar="NAME", help="get, accept: which weights, see unposed weights list")
    p.add_argument("--accept", action="store_true", help="get: the licence is known and accepted")
    _json(p)


def _cache(p: Parser) -> None:
    p.add_argument("action", nargs="?", choices=("ls", "prune", "verify"), default="ls")
    p.add_argument("--cache", type=Path, metavar="DIR", help="default: the one reconstruct uses")
    p.add_argument("--keep", type=_bytes, metavar="SIZE", help="prune: the least recently used go until this is left")
    p.add_argument("--unused", type=_positive, metavar="DAYS", help="prune: what no run has used for so many days")
    p.add_argument("--stage", metavar="SLOT.PLUGIN", help="prune: only results of this stage, all of them unless told")
    _json(p)


def _json(p: Parser) -> None:
    p.add_argument("--json", action="store_true", help="print the result as JSON")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


def _device(text: str) -> str:
    kind, colon, index = text.partition(":")
    if kind in ("auto", "cpu", "cuda") and (not colon or (kind == "cuda" and index.isdecimal())):
        return text
    raise argparse.ArgumentTypeError(f"expected auto, cpu, cuda or cuda:1, got {text!r}")


def _bytes(text: str) -> int:
    """A size such as 8G, 500 MB or a plain number of bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"expected a size such as 8G or 500M, got {text!r}")
    number, unit = match.groups()
    return int(float(number) * 1024 ** " KMGT".index(unit.upper() or " "))
