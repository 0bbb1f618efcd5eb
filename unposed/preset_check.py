"""Which presets can run on this machine, and which were measured with the weights that they need."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from unposed.pipeline.errors import ConfigError
from unposed.pipeline.presets import list_presets
from unposed.pipeline.registry import Registry
from unposed.pipeline.weights.files import MissingWeights, needs_weights

from .isolated import Answer
from .run_setup import checked_graph

MEASURED = frozenset({"aliked", "best", "classic", "colmap", "fast", "interior", "sift-aliked", "sift-xfeat"})
"""Presets that docs/benchmarks has figures of on real photos, with published weights where they need any."""


@dataclass(frozen=True)
class PresetState:
    """Whether a preset can run here."""

    name: str
    networks: bool
    """Whether it needs weights, and so is better with a GPU."""
    missing: tuple[str, ...]
    """Published weights that are not here."""
    problem: str
    """Why it cannot run, weights apart; empty if nothing else is in the way."""
    measured: bool
    """Whether it was measured on real photos, with published weights where it needs any."""

    @property
    def runs(self) -> bool:
        """Whether a run with it would begin."""
        return not self.missing and not self.problem

    def text(self, gpu: bool) -> str:
        """One line."""
        found = self.problem or "runs here"
        if self.missing:
            found = f"lacks {', '.join(self.missing)}: unposed weights get --preset {self.name}"
        elif self.networks and not gpu and not self.problem:
            found += ", slowly without a GPU"
        if self.measured:
            return found
        return f"{found}; not measured {'with published weights' if self.networks else 'on photos of many kinds'}"


def preset_rows() -> list[dict[str, Any]]:
    """The state of every packaged preset, as plain data."""
    registry = Registry()
    return [asdict(_state(name, registry)) for name, _ in list_presets()]


def preset_states(answer: Answer) -> tuple[list[PresetState], list[str]]:
    """States, and problems, from what `preset_rows` answered."""
    if answer.problem:
        return [], [f"presets could not be checked ({answer.problem})"]
    return [PresetState(**{**row, "missing": tuple(row["missing"])}) for row in answer.value], []


def _state(name: str, registry: Registry) -> PresetState:
    measured = name in MEASURED
    try:
        graph = checked_graph(name, (), registry=registry)
    except MissingWeights as error:
        # Weights without a published name have their remedy in the message.
        return PresetState(name, True, error.names, "" if error.names else str(error), measured)
    except ConfigError as error:
        return PresetState(name, False, (), str(error), measured)
    return PresetState(name, any(needs_weights(node.stage) for node in graph.nodes.values()), (), "", measured)
