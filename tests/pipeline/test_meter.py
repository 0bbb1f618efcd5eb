"""Measuring never stops what is measured."""

from __future__ import annotations

import errno
from typing import Any
from unittest.mock import patch

import psutil
import pytest

from unposed.pipeline.meter import Meter


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "too many open files"), psutil.AccessDenied(1)])
def test_memory_that_cannot_be_read_costs_nothing(error: Exception) -> None:
    meter = Meter()

    def refused(*_: Any) -> None:
        raise error

    with patch.object(psutil.Process, "memory_info", refused), meter.running(), meter.charging("features"):
        pass
    assert meter.costs["features"].peak_mb == 0.0 and meter.costs["features"].wall_s > 0.0
    with meter.charging("features"):
        pass
    assert meter.costs["features"].peak_mb > 1.0
