"""Report the errors of networks as errors of the pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from unposed.networks.errors import ImageSizeError, NetworkError
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.stage import StageError


@contextmanager
def pipeline_errors() -> Iterator[None]:
    """Convert errors of networks: a wrong weight file or device becomes a ConfigError, which ends the run; an image
    that does not suit the network becomes a StageError of its photo."""
    try:
        yield
    except NetworkError as error:
        raise ConfigError(str(error)) from error
    except ImageSizeError as error:
        raise StageError(str(error)) from error
