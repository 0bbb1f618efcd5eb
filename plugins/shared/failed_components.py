"""Components of a collection are mapped one by one, and a bug that one of them meets costs no other its model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from unposed.pipeline.errors import UnposedError
from unposed.pipeline.logs import module_logger
from unposed.pipeline.stage import InputUnavailable, StageError

LOG = module_logger(__name__)

T = TypeVar("T")

NOT_OURS = (UnposedError, StageError, InputUnavailable, MemoryError, OSError)
"""What ends the stage, whatever was mapped before: the user, the collection, or a lack that may have passed by the next
run; a result that was made under it must not be stored."""


@dataclass
class FailedComponents:
    """What went wrong in a stage, component by component."""

    doing: str
    """What is attempted, as a warning says it: `mapping`."""
    errors: list[Exception] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def attempt(self, photos: int, call: Callable[[], T]) -> T | None:
        """What the call gives, or None, with a warning about a component of so many photos, if it has a bug."""
        try:
            return call()
        except NOT_OURS:
            raise
        except Exception as error:
            LOG.exception("%s a component of %d photos", self.doing, photos)
            self.errors.append(error)
            line = " ".join(str(error).split())
            self.warnings.append(
                f"{photos} photos that belong together are in no model: {self.doing} them failed with an unexpected "
                f"{type(error).__name__}: {line}"
            )
            return None

    def raise_if_nothing(self, found: int) -> None:
        """Raise the first error again, if there was one and nothing was found."""
        if self.errors and not found:
            raise self.errors[0]
