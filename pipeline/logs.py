"""Loggers of the project: `unposed.pipeline.engine` and so on, named after their modules, all below `unposed`.

They print nothing until the program that uses unposed configures logging:

    logging.basicConfig(level=logging.INFO)
    logging.getLogger("unposed.pipeline").setLevel(logging.DEBUG)

`unposed.run` has the lines of OUT/run.log: nodes that begin and end, warnings, and how a run ended.
"""

from __future__ import annotations

import logging

ROOT = logging.getLogger("unposed")
ROOT.addHandler(logging.NullHandler())  # without it Python prints warnings of unconfigured programs to stderr


def module_logger(name: str) -> logging.Logger:
    """The logger of a module, by its `__name__`."""
    return logging.getLogger(name)
