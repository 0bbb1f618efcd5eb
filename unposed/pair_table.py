"""What is known of every pair of photos, and why two are joined or not."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from unposed.pipeline.artifacts import Photos
from unposed.pipeline.config import did_you_mean
from unposed.pipeline.errors import InputError


@dataclass(frozen=True)
class PairFacts:
    """What is known of two photos."""

    photos: tuple[str, str]
    similarity: float | None
    """As the ranking has it; None: it is not in the ranking."""
    chosen: bool
    """Whether the scene graph has it, so that it was matched."""
    matches: int = 0
    verified: int = 0
    """Matches that one geometry explains."""
    kind: str = "none"
    """general, planar, rotation, or none: no geometry."""
    doubt: str = ""
    """Why the pair is not believed all the same."""

    @property
    def verdict(self) -> str:
        """In a few words."""
        if not self.chosen:
            return "not matched"
        if self.doubt:
            return f"not believed: {self.doubt}"
        return "no geometry" if self.kind == "none" else self.kind


@dataclass(frozen=True, eq=False)
class PairTable:
    """All pairs that were ranked or matched, by name."""

    photos: Photos
    pairs: tuple[PairFacts, ...]
    same_file: tuple[tuple[str, ...], ...]
    """Photos that are copies of each other, byte by byte."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "photos": [photo.name for photo in self.photos.photos],
            "rejected": dict(self.photos.rejected),
            "same_file": [list(names) for names in self.same_file],
            "pairs": [asdict(pair) | {"verdict": pair.verdict} for pair in self.pairs],
        }

    def between(self, a: str, b: str) -> PairFacts:
        """The facts of two photos, in whichever order."""
        names = {photo.name for photo in self.photos.photos}
        for name in (a, b):
            if name not in names:
                raise InputError(f"{name}: no such photo{did_you_mean(name, names)}")
        if a == b:
            raise InputError(f"{a}: give two different photos")
        both = (min(a, b), max(a, b))
        return next((pair for pair in self.pairs if pair.photos == both), PairFacts(both, None, False))

    def why(self, a: str, b: str) -> list[str]:
        """Why two photos are joined or not, line by line."""
        pair = self.between(a, b)
        lines = [f"similarity {pair.similarity:.4f}"] if pair.similarity is not None else ["not ranked: hardly alike"]
        if pair.similarity is not None:
            lines += [f"to {name}: {self._place(name, pair)}" for name in pair.photos]
        if any({a, b} <= set(names) for names in self.same_file):
            lines.append("copies of one file: a pair without a baseline, which says nothing of depth")
        if not pair.chosen:
            lines.append("the scene graph leaves it out, so it was not matched")
        elif pair.kind == "none":
            lines.append(f"{pair.matches} matches, but no geometry explains enough of them")
        else:
            lines.append(f"{pair.verified} of {pair.matches} matches verified, geometry: {pair.kind}")
        if pair.doubt:
            lines.append(f"not believed: {pair.doubt}")
        if pair.kind == "none" or pair.doubt:
            way = self._way(*pair.photos)
            lines.append(f"joined by way of {' - '.join(way)}" if way else "nothing joins the two, by any way")
        return lines

    def _place(self, name: str, pair: PairFacts) -> str:
        own = [each for each in self.pairs if name in each.photos and each.similarity is not None]
        better = sum((each.similarity or 0.0) > (pair.similarity or 0.0) for each in own)
        return f"the {better + 1}. most similar of {len(own)}"

    def _way(self, a: str, b: str) -> list[str]:
        """The shortest chain of verified pairs."""
        partners: dict[str, list[str]] = {}
        for pair in self.pairs:
            if pair.kind != "none" and not pair.doubt:
                for one, other in (pair.photos, pair.photos[::-1]):
                    partners.setdefault(one, []).append(other)
        before, queue = {a: a}, deque([a])
        while queue and b not in before:
            for other in partners.get(photo := queue.popleft(), []):
                if other not in before:
                    before[other] = photo
                    queue.append(other)
        way = [b] if b in before else []
        while way and way[-1] != a:
            way.append(before[way[-1]])
        return way[::-1]
