"""Values of nodes over photos and pairs, computed at once and kept nowhere: for a photo that is in no collection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unposed.pipeline.artifacts import Photo
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.executor import call
from unposed.pipeline.graph import PHOTOS, Graph
from unposed.pipeline.stage import Grain, Resources, Sides

PhotoValues = Callable[[str], Any]
"""The value of a node over photos, by its name, of one photo."""


@dataclass(frozen=True)
class NodeValues:
    """Calls the stages of a graph for single photos and pairs."""

    graph: Graph
    resources: Resources

    def of_photo(self, photo: Photo) -> PhotoValues:
        """The values of a photo, each computed when it is first asked for."""
        known: dict[str, Any] = {}

        def value(name: str) -> Any:
            if name == PHOTOS:
                return photo
            if name not in known:
                node = self.graph.nodes[name]
                arguments = {
                    port.name: value(node.sources[port.name]) if port.name in node.sources else port.default
                    for port in node.ports.inputs
                }
                known[name] = call(node.stage, arguments, node.ports.lent, self.resources)
            return known[name]

        return value

    def of_pair(self, name: str, first: PhotoValues, second: PhotoValues) -> Any:
        """The value of a node over pairs for two photos."""
        node = self.graph.nodes[name]
        arguments: dict[str, Any] = {}
        for port in node.ports.inputs:
            source = node.sources.get(port.name)
            if source is None:
                arguments[port.name] = port.default
            elif source != PHOTOS and self.graph.nodes[source].ports.grain is Grain.PAIR:
                arguments[port.name] = self.of_pair(source, first, second)
            else:
                arguments[port.name] = Sides(first(source), second(source))
        return call(node.stage, arguments, node.ports.lent, self.resources)


def nodes_over_photos(graph: Graph, name: str) -> list[str]:
    """The nodes over photos that a node over pairs reads, itself or through others. ConfigError if it reads anything
    over the collection, which a single photo has no part in."""
    found: dict[str, None] = {}
    for port in graph.nodes[name].ports.inputs:
        source = graph.nodes[name].sources.get(port.name)
        if source is None or source == PHOTOS:
            continue
        grain = graph.nodes[source].ports.grain
        if grain is Grain.PHOTO:
            found[source] = None
        elif grain is Grain.PAIR:
            found.update(dict.fromkeys(nodes_over_photos(graph, source)))
        else:
            raise ConfigError(
                f"{name} reads {source}, which is made of the whole collection: it cannot localize photos"
            )
    return list(found)
