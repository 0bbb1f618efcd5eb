"""The stage contract: a frozen dataclass is a stage.

Its fields are its configuration, its `__call__` signature is its wiring and its annotations are its ports:

    @dataclass(frozen=True)
    class MutualNearest:
        grain: ClassVar[Grain] = Grain.PAIR
        version: ClassVar[int] = 1          # raise it when results change: stored ones are then recomputed
        max_ratio: Annotated[float, Within("(0, 1]")] = 0.8

        def __call__(self, features: Sides[Features]) -> PairMatches: ...

The parameter `features` reads the node called `features`. What it receives depends on both grains:

    stage over   from a per-photo node   from a per-pair node   from a group node   from a collection node
    photos       T                       -                      -                   T
    pairs        Sides[T]                T                      -                   T
    groups       Members[T]              -                      T                   T
    collection   PerPhoto[T]             PerPair[T]             PerGroup[T]         T

A collection node whose value has parts by photo (PerPhotoParts, as CameraPriors has) may also be read part by part:
T in a per-photo stage, Sides[T] over pairs. What is computed then depends on these parts only, so that adding a photo
to the collection computes nothing anew for the pairs of others.

The node `photos` is always there: T is Photo for photo and pair stages, and a collection stage may ask for the whole
`Photos` (without the rejected files). A pair stage runs over the edges of the node called `graph` without having to
name it. A group stage runs over the groups of the node called `groups`, or else over the stars of `graph`: every photo
with its best neighbours, at most `group_size` (a field or class variable, 8 if absent) photos together. A parameter
annotated `Resources` is filled in by the engine and is no part of any key; a parameter with a default may be left
without a node.

What an item gives depends on nothing but the config and the inputs: not on names or indices of photos (a per-item
stage must not look at `Photo.name`), not on chance beyond a field `seed`, not on the order of items. Arrays handed in
are read-only. While stages run, BLAS, OpenMP and OpenCV are held to one thread each; libraries should be imported at
the top of the plugin's module, so that they are there to be held. Raise StageError for what follows from the inputs:
it is stored like a result. Any other exception loses the item for this run only; InputUnavailable is the one that says
so in a line for the user.

A stage may also define `batch(self, items: Sequence[tuple[...]], resources: Resources) -> list[T]` (one tuple of
arguments per item, in signature order, without Resources): the engine then picks the batch size from the budget and
halves it when memory runs out. `item_bytes` (class variable or property) bounds the working memory of one item,
`cpu_batch` the items of a batch on a CPU: 1 for networks, which gain nothing by it there and lose workers. A stage
over the collection says what it takes for a number of photos by a class variable `memory`, a CollectionMemory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)


class Grain(Enum):
    """What one call of a stage sees."""

    PHOTO = "photo"
    PAIR = "pair"
    GROUP = "group"
    COLLECTION = "collection"


class Sides(NamedTuple, Generic[T]):
    """The two photos of a pair, a before b in the collection."""

    a: T
    b: T


Members = Sequence[T]
"""The k photos of a group, centre first."""


class PerPhoto(Mapping[int, T]):
    """Results of a per-photo node by photo index, loaded when asked for. Failed photos are absent."""


class PerPair(Mapping[tuple[int, int], T]):
    """Results of a per-pair node by (a, b), loaded when asked for. Failed pairs are absent."""


class PerGroup(Mapping[tuple[int, ...], T]):
    """Results of a group node by its members, centre first, loaded when asked for. Failed groups are absent."""


class PerPhotoParts(Protocol[T_co]):
    """A value of the collection that has a part for every photo."""

    def of_photo(self, photo: int) -> T_co:
        """The part of one photo. It must not tell indices of photos, or of anything that is counted over them."""


class Reporter(Protocol):
    """Receives the steps that a stage reports, from any thread."""

    def __call__(self, done: int, total: int, message: str) -> None: ...


class Memo(Protocol):
    """What a stage keeps for later runs of whatever collection: facts that are the same whenever they are found, so
    that results cannot tell whether any was kept."""

    def recall(self, name: str) -> list[NDArray[Any]] | None:
        """The arrays last remembered under a name that says all that they depend on, or None."""

    def remember(self, name: str, arrays: list[NDArray[Any]]) -> None:
        """Keep these arrays in place of what was kept under the name."""


class Mapper(Protocol):
    """Calls a function for many items on behalf of a stage over the collection."""

    def __call__(
        self,
        function: Callable[[Any, Resources], Any],
        items: Sequence[Any],
        item_bytes: int,
        finished: Callable[[int], None],
    ) -> list[Any]: ...


@dataclass(frozen=True)
class Resources:
    """Device, threads and memory that a stage may use. Results must not depend on them, except for rounding on other
    devices."""

    device: str
    """cpu, cuda or cuda:i."""
    threads: int
    """The most threads the stage may use."""
    ram_bytes: int
    vram_bytes: int
    """Memory the stage may use, on the machine and on the device."""
    reporter: Reporter | None = field(default=None, repr=False, compare=False)
    """Receives what is reported; stages call `report` instead. None: nothing is shown. Not pickled."""
    memo: Memo | None = field(default=None, repr=False, compare=False)
    """What earlier runs have kept, for a stage over the collection; None: nothing is kept. Not pickled."""
    mapper: Mapper | None = field(default=None, repr=False, compare=False)
    """Spreads the calls of `map`. None: one after the other. Not pickled."""
    devices: tuple[str, ...] = ()
    """All devices that networks may use at the same time, each of which has `vram_bytes`; empty: `device` alone."""

    def report(self, done: int, total: int, message: str = "") -> None:
        """Report that `done` of `total` steps are finished, with a few words on the present one.

        May be called from any thread and as often as once a millisecond; `total` may change. Stages over the collection
        show a bar this way. Raises Interrupted if the run was cancelled, so a long stage that reports can be stopped.
        """
        if self.reporter is not None:
            self.reporter(done, total, message)

    def map(
        self, function: Callable[[T, Resources], R], items: Sequence[T], *, item_bytes: int = 1, message: str = ""
    ) -> list[R]:
        """`function(item, resources)` for every item, in order, computed by the executor: on the threads of this
        machine, or on the machines of a cluster.

        For stages over the collection that fall into independent parts, such as clusters of photos. Function, items and
        results are pickled where they leave the process, so the function is one of a module (or a `partial` or frozen
        dataclass of that), and what it gives depends on its item alone. The first exception, by item, is raised.

        `item_bytes` bounds the working memory of an item: it limits how many are computed at a time. Items are taken
        from the sequence when they are needed, so it may make them then. With a message, every item that is finished
        is reported.
        """

        def finished(done: int) -> None:
            if message:
                self.report(done, len(items), message)

        return (self.mapper or _one_by_one(self))(function, items, item_bytes, finished)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "reporter": None, "memo": None, "mapper": None}


def _one_by_one(resources: Resources) -> Mapper:
    """The mapper of a stage that is called outside of a run."""

    def mapper(
        function: Callable[[Any, Resources], Any],
        items: Sequence[Any],
        item_bytes: int,
        finished: Callable[[int], None],
    ) -> list[Any]:
        out = []
        for done, item in enumerate(items, start=1):
            out.append(function(item, resources))
            finished(done)
        return out

    return mapper


@dataclass(frozen=True)
class CollectionMemory:
    """What a stage over the collection takes while it works, about: so that a run can say beforehand what fits."""

    start_bytes: int
    """For any collection: libraries that it loads, and tables of fixed size."""
    photo_bytes: int
    """For each photo: its share of the view graph, of tracks and of equations, if it has as many matches as usual."""

    def of(self, photos: int) -> int:
        """Bytes for so many photos."""
        return self.start_bytes + photos * self.photo_bytes


class StageError(Exception):
    """An item cannot be processed, for a reason the user should read: one line, with the remedy."""


class InputUnavailable(Exception):
    """An item cannot be processed at this moment, for a reason outside of it, such as a file that cannot be read now.

    One line for the user. It is not stored, and the next run tries the item again.
    """
