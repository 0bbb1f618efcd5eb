"""Commands that compute: from photos to reconstructions."""

from __future__ import annotations

import argparse

import unposed
from unposed.pipeline.plain_text import say

from ..show import (
    check_rows,
    pair_list,
    pair_rows,
    reconstruction_rows,
    table,
)
from .shared import given_options, photo_source, print_json


def reconstruct(arguments: argparse.Namespace) -> int:
    """`unposed reconstruct PHOTOS ... -o OUT`."""
    made = unposed.reconstruct(photo_source(arguments.photos), **given_options(arguments, unposed.reconstruct))
    if arguments.json:
        return print_json(made.summary)
    rows = reconstruction_rows(made.summary, arguments.out, getattr(arguments, "preset", "auto"))
    say(table([*rows, *(("exported", f"{arguments.out / name}") for name in getattr(arguments, "exports", ()))]))
    return 0


def check(arguments: argparse.Namespace) -> int:
    """`unposed check PHOTOS ...`."""
    names = ("include", "exclude", "write_masks", "workers", "cache")
    found = unposed.check(photo_source(arguments.photos), **{n: v for n, v in vars(arguments).items() if n in names})
    if arguments.json:
        return print_json(found.to_json())
    say(table(check_rows(found, arguments.photos, "write_masks" in arguments)))
    return 0


def pairs(arguments: argparse.Namespace) -> int:
    """`unposed pairs PHOTOS ... [-o DIR] [--why A [B ...]]`."""
    found = unposed.pairs(photo_source(arguments.photos), **given_options(arguments, unposed.pairs))
    if "why" in arguments:
        a, *others = arguments.why
        lines = [line for b in others or [None] for line in found.why(a, b)]
        if arguments.json:
            return print_json(lines)
        say("\n".join(lines))
        return 0
    if arguments.json:
        return print_json(found.to_json())
    say(table(pair_list(found)))
    if "out" in arguments:
        say(f"drawn: {arguments.out}/similarity.png and {arguments.out}/graph.png")
    return 0


def pairwise(arguments: argparse.Namespace) -> int:
    """`unposed pairwise A B -o OUT`."""
    found = unposed.pairwise(arguments.photo_a, arguments.photo_b, **given_options(arguments, unposed.pairwise))
    if arguments.json:
        return print_json(found.facts())
    say(table(pair_rows(found.facts(), arguments.out)))
    return 0


def demo(arguments: argparse.Namespace) -> int:
    """`unposed demo`."""
    made, errors = unposed.demo(**given_options(arguments, unposed.demo))
    if arguments.json:
        return print_json({"summary": made.summary, "evaluation": errors.to_json()})
    assert made.folder is not None
    say(table(reconstruction_rows(made.summary, made.folder, getattr(arguments, "preset", "auto"))))
    say("\nmeasured against the true cameras of the sample:")
    say(table(errors.table(), indent="  "))
    return 0
