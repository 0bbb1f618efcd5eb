"""Shell completion by argcomplete, instantly: plugins are not imported, their options are read from their source.

eval "$(unposed completion bash)"              # likewise zsh
unposed completion fish | source
"""

from __future__ import annotations

import argparse
from importlib.metadata import entry_points
from typing import Any

import argcomplete
from argcomplete.completers import FilesCompleter
from argcomplete.shell_integration import shellcode

from unposed.pipeline.errors import UnposedError
from unposed.pipeline.presets import list_presets, read_preset

from .option_names import option_names

GROUP = "unposed.plugins"


def script(shell: str) -> str:
    """The script that the shell evaluates."""
    return str(shellcode(["unposed"], shell=shell))


def complete_line(parser: argparse.ArgumentParser) -> None:
    """Complete the words that the shell passes in the environment, and end the process."""
    for command, verb in _commands(parser).items():
        for action in verb._actions:
            if (completer := _completer(command, action.dest)) is not None:
                setattr(action, "completer", completer)  # noqa: B010 (the attribute is argcomplete's)
    argcomplete.autocomplete(parser, always_complete_options=False)


def settings_of(preset: str) -> list[str]:
    """`node.key=` of every node and option of a preset."""
    nodes = {name: node for name, node in read_preset(preset).items() if isinstance(node, dict)}
    found = []
    for name, node in nodes.items():
        use = str(nodes.get(str(node.get("like")), node).get("use", ""))
        plugin = use if "." in use else f"{node.get('like', name)}.{use}"
        found += [f"{name}.{option}=" for option in ("use", *option_names(_targets().get(plugin, "")))]
    return found


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    verbs = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(verbs.choices)


def _completer(command: str, parameter: str) -> Any:
    def plugins(slot: str) -> list[str]:
        return [name.partition(".")[2] for name in _targets() if name.startswith(f"{slot}.")]

    def presets(prefix: str, **_: Any) -> list[str]:
        return [name for name, _ in list_presets()] + list(FilesCompleter(("yaml", "yml"))(prefix))

    def settings(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        preset = getattr(parsed_args, "preset", "auto")
        try:
            return settings_of("classic" if preset == "auto" else preset)
        except UnposedError:  # a preset that is not there, or half typed
            return []

    def export_options(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        target = _targets().get(f"export.{getattr(parsed_args, 'to', '')}", "")
        return [f"{option}=" for option in option_names(target)]

    def preset_names(**_: Any) -> list[str]:
        return [name for name, _ in list_presets()]

    def weights(**_: Any) -> list[str]:
        from unposed.pipeline.weights.catalogue import CATALOGUE

        return [each.name for each in CATALOGUE]

    table = {
        "preset": presets,
        "settings": settings,
        "executor": lambda **_: plugins("executor"),
        "to": lambda **_: plugins("export"),
        "exports": lambda **_: plugins("export"),
        "options": export_options,
        "what": lambda **_: sorted(_targets()),
        "stage": lambda **_: sorted(_targets()),
        "name": {"presets": preset_names, "weights": weights}.get(command),
    }
    return table.get(parameter)


def _targets() -> dict[str, str]:
    """Every plugin `slot.name`, and its module:attribute."""
    return {entry.name: entry.value for entry in entry_points(group=GROUP)}
