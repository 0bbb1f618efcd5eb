"""The command line: parse the arguments, then call the command of that name.

Only the standard library is imported until a command runs, so that help and error messages are instant.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from unposed import __version__
from unposed.pipeline.errors import Interrupted, UnposedError
from unposed.pipeline.plain_text import printable
from unposed.pipeline.stage import InputUnavailable
from unposed.pipeline.variables import REPRODUCIBLE

from .flags import MACHINE, RUN, add_flags
from .process import configure_process, end_as_by_ctrl_c, escape_what_cannot_be_printed

EPILOG = """\
examples:
  unposed demo                                  try it on the bundled sample
  unposed check photos/                         what is amiss with them, and what a run will take
  unposed reconstruct photos/ -o result/        a folder of photos to a COLMAP model
  unposed reconstruct photos/ -o result/ --set matching.max_ratio=0.75
  unposed eval result/ --gt gt.json             measure against known poses

exit codes: 0 done, 2 bad usage, settings or input, 3 no reconstruction possible, 4 interrupted (resumable)
"""


PHOTOS = "photos, videos, and folders of both, searched with their sub-folders"
"""What a command takes that reads photos."""
LONGEST_LINE = 2000
"""Characters of an error that are printed; values that it quotes may be as long as their file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns its exit code."""
    debug = _debugs() or "--debug" in (sys.argv if argv is None else argv)
    try:
        end_as_by_ctrl_c()
        return _run(argv)
    except BrokenPipeError:  # whoever read our output has left: `unposed plugins | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail(Interrupted("interrupted: the same command goes on where this one stopped"), debug)
    except Exception as error:
        return _fail(error, debug)


def _debugs() -> bool:
    """Whether the environment asks where errors are raised."""
    return os.environ.get("UNPOSED_DEBUG", "") not in ("", "0")


def _run(argv: Sequence[str] | None) -> int:
    escape_what_cannot_be_printed()
    grammar = parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what may follow
        from .completion import complete_line

        complete_line(grammar)
    arguments = grammar.parse_args(argv)
    if getattr(arguments, "reproducible", False) and REPRODUCIBLE not in os.environ:
        from .reproducible import start_again

        return start_again(sys.argv[1:] if argv is None else argv)
    configure_process(getattr(arguments, "ram_bytes", None))
    _print_warnings()
    command: Callable[[argparse.Namespace], int] = getattr(import_module("unposed.commands"), arguments.command)
    code = command(arguments)
    sys.stdout.flush()  # here, where a reader that has left can be told from a mistake
    return code


def _print_warnings() -> None:
    """Show what loading and exporting warn of. What runs warn of is in their tables."""
    for name in ("unposed.loading", "unposed.plugins.export"):
        logger = logging.getLogger(name)
        if not any(isinstance(each, _Warnings) for each in logger.handlers):
            logger.addHandler(_Warnings(logging.WARNING))


class _Warnings(logging.Handler):
    """A line to stderr each."""

    def emit(self, record: logging.LogRecord) -> None:
        print("unposed: warning:", printable(record.getMessage()), file=sys.stderr)


def _fail(error: Exception, debug: bool) -> int:
    """Print the error in one line, with a traceback if requested; returns the exit code."""
    if debug:
        sys.stderr.write(printable("".join(traceback.format_exception(error))))
    if isinstance(error, UnposedError):
        line, code = str(error), error.exit_code
    elif isinstance(error, InputUnavailable):
        line, code = str(error), 2
    elif isinstance(error, OSError) and error.strerror:
        line, code = f"{error.filename or 'a file'}: {error.strerror}", 2
    else:
        line, code = f"unexpected {type(error).__name__}: {error} (--debug shows where)", 1
    line = " ".join(line[: 2 * LONGEST_LINE].split())
    line = line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ..."
    print("unposed:", printable(line), file=sys.stderr)
    return code


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that name the nearest option."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, formatter_class=_Help, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but unknown arguments are an error here, where the known options are at hand."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = {name.lstrip("-"): name for action in self._actions for name in action.option_strings}
            if not unknown[0].startswith("-"):
                several = any(action.nargs in ("+", "*") and not action.option_strings for action in self._actions)
                self.error(f"one argument too many: {unknown[0]!r}" + (", paths stand side by side" if several else ""))
            near = difflib.get_close_matches(unknown[0].partition("=")[0].lstrip("-"), options, n=1)  # dashes are alike
            self.error(f"unknown argument {unknown[0]!r}" + (f", did you mean {options[near[0]]}?" if near else ""))
        return known, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse, naming the nearest choice instead of all of them, where one is near."""
        near = difflib.get_close_matches(str(value), map(str, action.choices or ()), n=1)
        if near and value not in (action.choices or ()):
            what = "command" if action.metavar == "COMMAND" else action.dest
            raise argparse.ArgumentError(None, f"no such {what}: {str(value)!r}, did you mean {near[0]}?")
        super()._check_value(action, value)

    def error(self, message: str) -> NoReturn:
        """One line to stderr, exit code 2."""
        self.exit(2, printable(f"{self.prog}: {message} (see {self.prog} --help)\n"))


class _Help(argparse.RawDescriptionHelpFormatter):
    """Wide columns; commands without a headline of their own, so that each fits beside what it does."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)

    def _format_action(self, action: argparse.Action) -> str:
        if isinstance(action, argparse._SubParsersAction):
            return "".join(super(_Help, self)._format_action(each) for each in action._get_subactions())
        return super()._format_action(action)


def parser() -> Parser:
    """The parser of the whole command line."""
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

    p = verb("reconstruct", "estimate the cameras and 3D points of a folder of photos")
    _positional(p, "photos", PHOTOS, few=True)
    _out(p, "folder for the result; an older result is replaced")
    add_flags(p, *RUN, "cameras", "intrinsics", "poses", "rigs", "masks", "include", "exclude", "frames", "require")
    add_flags(p, "anew", "report", "exports")

    p = verb("check", "look at photos before work: what is amiss, what overlaps, what a run will take")
    _positional(p, "photos", PHOTOS, few=True)
    add_flags(p, "write_masks", "include", "exclude", "workers", "cache", "json")

    p = verb("pairs", "list the pairs that are matched and verified, and draw the view graph")
    _positional(p, "photos", PHOTOS, few=True)
    _out(p, "draw the similarity matrix and the view graph there", required=False)
    add_flags(p, "why", *RUN, "masks", "include", "exclude")

    p = verb("pairwise", "match two photos, and estimate their relative pose")
    _positional(p, "photo_a", "a photo", metavar="A")
    _positional(p, "photo_b", "another one that shows a part of the same", metavar="B")
    _out(p, "folder for figures, drawing, points and depth")
    add_flags(p, *RUN)

    p = verb("localize", "say where photos were taken, by a finished reconstruction that stays as it is")
    _positional(p, "out", "what unposed reconstruct has written")
    _positional(p, "photos", PHOTOS, few=True)
    add_flags(p, "folder", "camera", "intrinsics", "how", "photos_folder", *MACHINE, "quiet", "json")

    p = verb("add", "add photos to a finished reconstruction, or take some out, going on from where it was")
    _positional(p, "out", "what unposed reconstruct has written; it is changed")
    p.add_argument("photos", nargs="*", type=Path, metavar="PHOTOS", help=PHOTOS)
    add_flags(p, "without", "how", "photos_folder", *MACHINE, "quiet", "json")

    p = verb("merge", "merge two finished reconstructions of one place")
    _positional(p, "a", "what unposed reconstruct has written; it is changed unless -o is given")
    _positional(p, "b", "another one, in whose place nothing is changed")
    _out(p, "folder for the result (default: in the place of A)", required=False)
    add_flags(p, "how", *MACHINE, "quiet", "json")

    p = verb("align", "give a finished reconstruction an up axis, metres or a place on earth")
    _positional(p, "out", "what unposed reconstruct has written; it is changed")
    targets = "gps | poses FILE | points FILE | gravity | plane | scale NAME1 NAME2 METRES | depth [PLUGIN] | original"
    p.add_argument("--to", dest="target", nargs="+", required=True, metavar="TARGET", help=targets)
    add_flags(p, "how", "photos_folder", "device", "json")

    p = verb("view", "show a reconstruction in the browser, also while it is computed")
    _positional(p, "out", "what unposed reconstruct writes")
    add_flags(p, "photos_folder", "compare", "splat", "host", "port")

    p = verb("export", "write a finished reconstruction for another program")
    _positional(p, "out", "what unposed reconstruct has written")
    p.add_argument("-o", "--folder", type=Path, required=True, metavar="DIR", help="folder to write")
    add_flags(p, "to", "photos_folder", "seeds", "options", "original", required=("to",))

    p = verb("dense", "estimate depth maps and dense points of a finished reconstruction")
    _positional(p, "out", "what unposed reconstruct has written")
    p.add_argument("-o", "--folder", type=Path, required=True, metavar="DIR", help="folder to write")
    add_flags(p, "method", "photos_folder", "options", "device", "workers", "quiet", "json")

    p = verb("lint", "check a folder to train Gaussian splats from, whoever made it")
    _positional(p, "folder", "folder with images and cameras", metavar="DIR")
    add_flags(p, "trainers", "limits", "json")

    p = verb("judge", "say whether a splat will train well on a finished reconstruction, and which photos hurt")
    _positional(p, "out", "what unposed reconstruct has written")
    add_flags(p, "photos_folder", "how", "device", "quiet", "json")

    p = verb("splat", "train a Gaussian splat of a finished reconstruction, and measure it on photos held out")
    _positional(p, "out", "what unposed reconstruct has written")
    p.add_argument("-o", "--folder", type=Path, required=True, metavar="DIR", help="folder to write, or to go on with")
    add_flags(p, "method", "seeds", "gaussians", "photos_folder", "options", "device", "workers", "quiet", "json")

    p = verb("eval", "measure a model against known camera poses")
    _positional(p, "model", "OUT of reconstruct, a COLMAP folder, or transforms.json")
    add_flags(p, "gt", "json", required=("gt",))

    p = verb("demo", "reconstruct the bundled sample and measure the result")
    _out(p, "folder for the result (default: unposed-demo)", required=False)
    add_flags(p, *RUN, "report")

    p = verb("plugins", "list or explain plugins, or start a new one")
    _action(p, "list", "show", "new", name="what", metavar="NAME|DIR", help="show: a plugin; new: a folder to make")
    add_flags(p, "json")

    p = verb("presets", "list the presets, or print one with all that it inherits")
    _action(p, "list", "show", name="name", metavar="NAME|FILE", help="show: the preset to print")
    add_flags(p, "json")

    p = verb("weights", "list, accept or fetch the published weights of networks")
    _action(p, "list", "get", "accept", name="name", metavar="NAME", help="get, accept: see unposed weights list")
    add_flags(p, "of_preset", "accept", "json")

    p = verb("cache", "show, prune or verify what earlier runs stored")
    _action(p, "ls", "prune", "verify")
    add_flags(p, "cache", "keep", "unused", "stage", "json")

    p = verb("doctor", "check this installation, and name its problems")
    p.add_argument("--gpu", action="store_true", help="test the GPU for 20 s: parity with the CPU, speed, what it runs")
    add_flags(p, "cache", "json")

    p = verb("completion", "print a script that makes a shell complete commands, options and names")
    p.add_argument("shell", choices=("bash", "zsh", "fish"))

    debug = _debugs()
    for p in verbs.choices.values():
        p.add_argument("--debug", action="store_true", default=debug, help="show where an error was raised")
    return top


def _positional(p: Parser, name: str, text: str, metavar: str = "", few: bool = False) -> None:
    p.add_argument(name, nargs="+" if few else None, type=Path, metavar=metavar or name.upper(), help=text)


def _out(p: Parser, text: str, required: bool = True) -> None:
    default = None if required else argparse.SUPPRESS
    p.add_argument("-o", "--out", type=Path, required=required, default=default, metavar="DIR", help=text)


def _action(p: Parser, *choices: str, name: str = "", metavar: str = "", help: str = "") -> None:
    p.add_argument("action", nargs="?", choices=choices, default=choices[0])
    if name:
        p.add_argument(name, nargs="?", metavar=metavar, help=help)
