"""Figures of every pair of photos, and why two photos are connected or not."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from unposed.pipeline.artifacts import Photos
from unposed.pipeline.config import did_you_mean
from unposed.pipeline.errors import InputError


@dataclass(frozen=True)
class PairFacts:
    """Similarity, matches and two-view geometry of a pair."""

    photos: tuple[str, str]
    similarity: float | None
    """From the ranking; None: the pair is not in it."""
    chosen: bool
    """Whether the pair is in the scene graph, so that it was matched."""
    matches: int = 0
    verified: int = 0
    """Inliers of the two-view geometry."""
    kind: str = "none"
    """general, planar, rotation, or none: no geometry."""
    doubt: str = ""
    """Why mappers leave out the verified pair."""

    @property
    def verdict(self) -> str:
        """Summary in a few words."""
        if not self.chosen:
            return "not matched"
        if self.doubt:
            return f"doubted: {self.doubt}"
        return "no geometry" if self.kind == "none" else self.kind


@dataclass(frozen=True, eq=False)
class PairTable:
    """All pairs that were ranked or matched, by name."""

    photos: Photos
    pairs: tuple[PairFacts, ...]
    same_file: tuple[tuple[str, ...], ...]
    """Photos with the same bytes."""
    lost: Mapping[str, str] = field(default_factory=dict)
    """Photos that turned out to be damaged, or gave nothing to match for another reason: by name the reason."""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "photos": [photo.name for photo in self.photos.photos],
            "rejected": dict(self.photos.rejected),
            "lost": dict(self.lost),
            "same_file": [list(names) for names in self.same_file],
            "pairs": [asdict(pair) | {"verdict": pair.verdict} for pair in self.pairs],
        }

    def between(self, a: str, b: str) -> PairFacts:
        """Facts of two photos, in either order."""
        names = {photo.name for photo in self.photos.photos}
        for name in (a, b):
            if name not in names:
                raise InputError(f"{name}: no such photo{did_you_mean(name, names)}")
        if a == b:
            raise InputError(f"{a}: give two different photos")
        both = (min(a, b), max(a, b))
        return next((pair for pair in self.pairs if pair.photos == both), PairFacts(both, None, False))

    def why(self, a: str, b: str | None = None) -> list[str]:
        """Why two photos are connected or not, line by line; without `b`, with the photo that is most like `a`."""
        if b is None:
            b = self._most_like(a)
            return [f"the photo most like {a} is {b}", *self.why(a, b)]
        pair = self.between(a, b)
        lines = ["not in the ranking: low similarity"]
        if pair.similarity is not None:
            lines = [f"similarity {pair.similarity:.4f}"]
            lines += [f"to {name}: {self._rank(name, pair)}" for name in pair.photos]
        if any({a, b} <= set(names) for names in self.same_file):
            lines.append("copies of one file: a pair without a baseline has no depth")
        if not pair.chosen:
            lines.append("the scene graph leaves it out, so it was not matched")
        elif pair.kind == "none":
            lines.append(f"{pair.matches} matches, but no geometry explains enough of them")
        else:
            lines.append(f"{pair.verified} of {pair.matches} matches verified, geometry: {pair.kind}")
        if pair.doubt:
            lines.append(f"doubted, so mappers leave it out: {pair.doubt}")
        if pair.kind == "none" or pair.doubt:
            chain = self._chain(*pair.photos)
            lines.append(
                f"connected through {' - '.join(chain)}" if chain else "not connected through other photos either"
            )
        return lines

    def _most_like(self, name: str) -> str:
        """The other photo with most verified matches, then with the largest similarity."""
        names = {photo.name for photo in self.photos.photos}
        if name not in names:
            raise InputError(f"{name}: no such photo{did_you_mean(name, names)}")
        own = [pair for pair in self.pairs if name in pair.photos]
        if not own:
            raise InputError(f"{name} was compared with no other photo: name the other one, too")
        best = max(own, key=lambda pair: (pair.verified, pair.similarity or 0.0))
        return next(other for other in best.photos if other != name)

    def _rank(self, name: str, pair: PairFacts) -> str:
        own = [each for each in self.pairs if name in each.photos and each.similarity is not None]
        better = sum((each.similarity or 0.0) > (pair.similarity or 0.0) for each in own)
        return f"rank {better + 1} of {len(own)} by similarity"

    def _chain(self, a: str, b: str) -> list[str]:
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
        chain = [b] if b in before else []
        while chain and chain[-1] != a:
            chain.append(before[chain[-1]])
        return chain[::-1]
