"""Commands that go on from a finished reconstruction."""

from __future__ import annotations

import argparse

import unposed
from unposed.pipeline.plain_text import say

from ..show import (
    alignment_rows,
    growth_rows,
    localization_rows,
    table,
)
from .shared import given_options, photo_source, print_json


def localize(arguments: argparse.Namespace) -> int:
    """`unposed localize OUT PHOTOS ... [-o DIR]`."""
    settings = getattr(arguments, "how", ())
    given = given_options(arguments, unposed.localize)
    found = unposed.localize(arguments.out, photo_source(arguments.photos), settings=settings, **given)
    if arguments.json:
        print_json({name: each.facts() for name, each in found.items()})
    else:
        say(table(localization_rows(found)))
    return 0 if any(each.pose is not None for each in found.values()) else 3


def add(arguments: argparse.Namespace) -> int:
    """`unposed add OUT [PHOTOS ...] [--without NAME]`."""
    given, settings = given_options(arguments, unposed.add), getattr(arguments, "how", ())
    photos = photo_source(arguments.photos) if arguments.photos else None
    made = unposed.add(arguments.out, **{**given, "photos": photos, "settings": settings})
    if arguments.json:
        print_json(made.summary["grown"])
    else:
        say(table(growth_rows(made.summary)))
    return 0 if made.summary["grown"]["changed"] else 3


def merge(arguments: argparse.Namespace) -> int:
    """`unposed merge A B [-o C]`."""
    given, settings = given_options(arguments, unposed.merge), getattr(arguments, "how", ())
    made = unposed.merge(arguments.a, arguments.b, **given, settings=settings)
    if arguments.json:
        return print_json(made.summary["grown"])
    say(table(growth_rows(made.summary)))
    return 0


def align(arguments: argparse.Namespace) -> int:
    """`unposed align OUT --to gps|poses FILE|points FILE|gravity|plane|scale NAME1 NAME2 METRES|depth|original`."""
    settings, photos = getattr(arguments, "how", ()), getattr(arguments, "photos_folder", None)
    given = {"device": arguments.device} if "device" in arguments else {}
    made = unposed.align(arguments.out, *arguments.target, settings=settings, photos=photos, **given)
    if arguments.json:
        return print_json([model.get("alignment") for model in made.summary["models"]])
    say(table(alignment_rows(made.summary)))
    return 0
