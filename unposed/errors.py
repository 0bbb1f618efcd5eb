"""The exceptions of unposed. Each says in one line what went wrong and what to do about it."""

from unposed.pipeline.errors import ConfigError, InputError, Interrupted, NoReconstruction, StoreError, UnposedError

__all__ = ["ConfigError", "InputError", "Interrupted", "NoReconstruction", "StoreError", "UnposedError"]
