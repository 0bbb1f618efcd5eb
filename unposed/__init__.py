"""A folder of unordered, uncalibrated photos goes in; cameras and 3D points come out.

    scene = unposed.reconstruct("photos/", "result/")

The functions live in unposed.api and are loaded when first used, so that importing unposed costs nothing, and
reconstructing only what it needs itself.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from unposed.api import (
        accept_weights,
        demo,
        doctor,
        evaluate,
        export,
        get_weights,
        list_plugins,
        list_presets,
        list_weights,
        load,
        new_plugin,
        open_cache,
        pairs,
        pairwise,
        reconstruct,
        show_plugin,
        show_preset,
    )

__all__ = [
    "accept_weights",
    "demo",
    "doctor",
    "evaluate",
    "export",
    "get_weights",
    "list_plugins",
    "list_presets",
    "list_weights",
    "load",
    "new_plugin",
    "open_cache",
    "pairs",
    "pairwise",
    "reconstruct",
    "show_plugin",
    "show_preset",
]


def __getattr__(name: str) -> Any:
    if name in ("load", "reconstruct"):  # where api has them from, without all that it has besides
        from unposed import reconstruction

        return getattr(reconstruction, name)
    if name in __all__:
        from unposed import api

        return getattr(api, name)
    raise AttributeError(f"module 'unposed' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
