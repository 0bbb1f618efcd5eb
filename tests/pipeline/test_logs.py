"""What the modules of the pipeline log, and that a program which configures nothing sees none of it."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from unposed.pipeline.registry import Registry


def test_every_module_has_a_logger_of_its_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "unposed.pipeline"):
        Registry().find("graph", "exhaustive")
    (record,) = caplog.records
    assert record.name == "unposed.pipeline.registry"
    assert record.message.startswith("graph.exhaustive is unposed.plugins.graph.exhaustive:ExhaustiveGraph of")


def test_programs_that_configure_no_logging_see_nothing() -> None:
    script = "from unposed.pipeline.logs import module_logger; module_logger('unposed.pipeline.x').warning('seen')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
