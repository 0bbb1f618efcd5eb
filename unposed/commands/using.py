"""Commands that show a finished reconstruction, or make something of it."""

from __future__ import annotations

import argparse

import unposed
from unposed.pipeline.plain_text import say

from ..show import (
    dense_rows,
    judged_rows,
    splat_rows,
    table,
)
from .shared import given_options, print_json


def view(arguments: argparse.Namespace) -> int:
    """`unposed view OUT`."""
    said = {n: v for n, v in vars(arguments).items() if n in ("compare", "splat", "host", "port")}
    photos = getattr(arguments, "photos_folder", None)
    unposed.view(arguments.out, photos=photos, opened=lambda address: say(f"{address}  (Ctrl-C ends it)"), **said)
    return 0


def export(arguments: argparse.Namespace) -> int:
    """`unposed export OUT --to FORMAT -o DIR [--set KEY=VALUE]`."""
    photos, settings = getattr(arguments, "photos_folder", None), getattr(arguments, "options", ())
    seeds = getattr(arguments, "seeds", None)
    how = {"settings": settings, "seeds": seeds, "original": arguments.original}
    unposed.export(arguments.out, arguments.to, arguments.folder, photos, **how)
    say(f"written to {arguments.folder}")
    if (arguments.folder / "README.txt").is_file():
        say(f"what is in it, and what is left out: {arguments.folder}/README.txt")
    return 0


def lint(arguments: argparse.Namespace) -> int:
    """`unposed lint DIR [--for TRAINER,...]`; exit code 2 if a trainer stops or trains something wrong."""
    given = {"trainers": arguments.trainers} if "trainers" in arguments else {}
    found = unposed.lint(arguments.folder, **given, settings=getattr(arguments, "limits", ()))
    if arguments.json:
        print_json([finding.to_json() for finding in found])
    else:
        say("\n".join(finding.line() for finding in found) or "nothing found")
    return 2 if any(not finding.advice for finding in found) else 0


def dense(arguments: argparse.Namespace) -> int:
    """`unposed dense OUT -o DIR`."""
    photos, settings = getattr(arguments, "photos_folder", None), getattr(arguments, "options", ())
    given = given_options(arguments, unposed.dense) | {"settings": settings}
    facts = unposed.dense(arguments.out, arguments.folder, photos, **given).facts()
    if arguments.json:
        return print_json(facts)
    say(table(dense_rows(facts, arguments.folder)))
    return 0


def judge(arguments: argparse.Namespace) -> int:
    """`unposed judge OUT`."""
    photos, settings = getattr(arguments, "photos_folder", None), getattr(arguments, "how", ())
    given = given_options(arguments, unposed.judge) | {"settings": settings}
    judged = unposed.judge(arguments.out, photos, **given)
    if arguments.json:
        return print_json(judged.facts())
    say(table(judged_rows(judged, arguments.out)))
    return 0


def splat(arguments: argparse.Namespace) -> int:
    """`unposed splat OUT -o DIR`."""
    photos, settings = getattr(arguments, "photos_folder", None), getattr(arguments, "options", ())
    given = given_options(arguments, unposed.splat) | {"settings": settings}
    facts = unposed.splat(arguments.out, arguments.folder, photos, **given).facts()
    if arguments.json:
        return print_json(facts)
    say(table(splat_rows(facts, arguments.folder)))
    return 0


def eval(arguments: argparse.Namespace) -> int:
    """`unposed eval MODEL --gt GT`."""
    errors = unposed.evaluate(arguments.model, arguments.gt)
    if arguments.json:
        return print_json(errors.to_json())
    say(table(errors.table()))
    return 0
