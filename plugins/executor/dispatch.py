"""One stage over many items on a cluster: blocks go out to the workers, results come in, what is lost goes again."""

from __future__ import annotations

import pickle
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unposed.pipeline.artifacts import Photo
from unposed.pipeline.errors import ExecutorError, UnposedError
from unposed.pipeline.executor import Item, Job, OutcomeStream, is_out_of_memory, plan
from unposed.pipeline.images.content import bytes_content
from unposed.pipeline.stage import Resources

from .blocks import Blocks
from .cluster import Cluster, Machine, WorkerProcess
from .worker import BlockResult, Large, Row, sealed_stage

BLOCK_S = 1.0
"""Seconds of work in a block: hundreds of times what it costs Ray to send it, and not long to wait for at the end."""
BLOCK_MOST = 512
"""Items."""
BLOCK_BYTES = 64 << 20
"""Of the values that a block reads; with two blocks on the way per worker, this bounds what fills the object store."""
AHEAD = 2
"""Blocks per worker on the way, so that it does not wait for the driver."""
LARGE_BYTES = 32 << 10
"""Values from this size on are put into the object store by themselves; smaller ones travel with each block."""
DEATHS = 3
"""Processes that an item may cost, the last ones alone, before it fails."""
WAIT_S = 60.0
"""How long the job waits for a machine to join when there is none."""


class WorkerKilled(Exception):
    """An item has ended the process of its worker, again and again."""


@dataclass
class Block:
    """Items on their way."""

    items: list[Item]
    worker: WorkerProcess
    photos: tuple[Photo, ...]


@dataclass(frozen=True)
class PhotoBytes:
    """Where the bytes of a photo's file lie in the object store."""

    reference: Any

    def __call__(self) -> bytes:
        import ray

        data: bytes = ray.get(self.reference)
        return data


class Dispatch:
    """The state of one job."""

    def __init__(self, cluster: Cluster, job: Job, resources: Resources, device: str) -> None:
        self._cluster, self._job, self._here = cluster, job, resources
        self._ray = cluster.ray
        self._device = self._chosen_device(device)
        self._blocks = Blocks(job.items)
        self._out: dict[Any, Block] = {}
        self._deaths: Counter[Item] = Counter()
        self._done: deque[tuple[Item, Exception | None]] = deque()
        self._item_s: float | None = None
        self._slots: dict[str, int] = {}
        """Workers of a machine that get blocks, where its memory has no room for all."""
        self._sealed = sealed_stage(job.stage, job.lent, self._ray.cloudpickle.dumps)
        self._alone_since: float | None = None
        self._told_to_wait = False

    def outcomes(self) -> OutcomeStream:
        """See Executor."""
        try:
            while self._blocks or self._out or self._done:
                while self._done:
                    yield self._done.popleft()
                if not (self._blocks or self._out):
                    break
                self._job.watch.check()
                self._cluster.look(self._device, self._job.watch.note)
                self._send()
                self._receive(self._wait(1.0))
                self._check_that_somebody_works()
        except ExecutorError:
            self._out.clear()
            raise
        finally:
            self._finish_what_is_out()

    def _chosen_device(self, device: str) -> str:
        """Networks go to GPUs, as they do on one machine."""
        if device == "cpu" or not hasattr(self._job.stage, "batch"):
            return "cpu"
        if self._ray.cluster_resources().get("GPU", 0) >= 1:
            return "cuda"
        if device == "cuda":
            raise ExecutorError(f"--device cuda: the Ray cluster at {self._cluster.where} has no GPU; use --device cpu")
        return "cpu"

    # Out

    def _send(self) -> None:
        """Give every worker that may have more a block; those with the least to do first."""
        for ahead in range(AHEAD):
            for worker in self._cluster.workers(self._device):
                if not self._blocks:
                    return
                if len(worker.sent) == ahead and worker in self._chosen(worker.machine):
                    self._send_block(worker)

    def _chosen(self, machine: Machine) -> list[WorkerProcess]:
        """The workers of a machine that its memory has room for."""
        workers = [worker for worker in machine.workers if worker.device == self._device and worker.lent is not None]
        return workers[: self._slots_of(machine, workers[0])] if workers else []

    def _slots_of(self, machine: Machine, worker: WorkerProcess) -> int:
        if machine.id not in self._slots:
            lent = self._budget(worker)
            room = max(1, machine.room[self._device])
            item_bytes = max(1, int(getattr(self._job.stage, "item_bytes", 1)))
            fit = room if self._device != "cpu" else max(1, min(room, lent.ram_bytes // item_bytes))
            self._slots[machine.id] = fit
        return self._slots[machine.id]

    def _budget(self, worker: WorkerProcess) -> Resources:
        assert worker.lent is not None  # it has introduced itself
        limit = self._here.ram_bytes if worker.machine.at_home else worker.lent.ram_bytes
        return replace(worker.lent, ram_bytes=min(limit, worker.lent.ram_bytes))

    def _send_block(self, worker: WorkerProcess) -> None:
        budget, slots = self._budget(worker), self._slots_of(worker.machine, worker)
        lent = replace(budget, threads=1, ram_bytes=budget.ram_bytes // slots)
        items = self._blocks.take(self._size(lent))
        rows, table, large, photos = self._packed(items)
        sent: dict[str, PhotoBytes] = {}
        for photo in photos if worker.machine.lacks_files else ():
            try:
                sent |= self._files_of(photo, worker.machine)
            except OSError as error:
                rows = self._without(rows, table.index(photo), error)
        if not rows:
            return
        reference = worker.actor.compute.remote(self._sealed, lent, rows, table, sent, *large)
        worker.sent.append(reference)
        self._out[reference] = Block([item for item, _ in rows], worker, photos)

    def _size(self, lent: Resources) -> int:
        """Items of the next block: about a second of work, at least a batch of a network, and less towards the end, so
        that nobody waits for the last block of another."""
        if self._item_s is None:
            return 1
        batch = plan(self._job.stage, lent)[1]
        size = max(batch, min(BLOCK_MOST, int(BLOCK_S / max(self._item_s, 1e-6))))
        fair = -(-len(self._blocks) // (2 * max(1, len(self._cluster.workers(self._device)))))
        return max(1, min(size, fair))

    def _packed(self, items: list[Item]) -> tuple[list[Row], list[Any], list[Any], tuple[Photo, ...]]:
        """What crosses for a block: every value once. Items whose inputs cannot be read fail, those beyond the limit of
        bytes wait again."""
        rows: list[Row] = []
        table: list[Any] = []
        large: list[Any] = []
        places: dict[str, int] = {}
        total = 0
        for number, item in enumerate(items):
            if total > BLOCK_BYTES:
                self._blocks.put_back(items[number:])
                break
            row = []
            try:
                for name, argument in self._job.read(item).items():
                    for piece in argument.pieces:
                        if piece.key not in places:
                            value, size = self._placed(piece, large)
                            places[piece.key] = len(table)
                            table.append(value)
                            total += size
                    row.append((name, argument.container, tuple(places[piece.key] for piece in argument.pieces)))
            except UnposedError:
                raise
            except Exception as error:
                self._done.append((item, error))
            else:
                rows.append((item, tuple(row)))
        return rows, table, large, tuple(value for value in table if isinstance(value, Photo))

    def _without(self, rows: list[Row], place: int, error: OSError) -> list[Row]:
        """The rows that do not read a photo whose file has gone or changed; the items of the others fail."""
        bad = [item for item, arguments in rows if any(place in places for _, _, places in arguments)]
        self._done.extend((item, error) for item in bad)
        return [row for row in rows if row[0] not in bad]

    def _placed(self, piece: Any, large: list[Any]) -> tuple[Any, int]:
        """The value for the table, and its bytes; a large one is put beside it."""
        if (known := self._cluster.values.get(piece.key)) is None:
            value = piece.get()
            buffers: list[pickle.PickleBuffer] = []
            size = len(pickle.dumps(value, protocol=5, buffer_callback=buffers.append))
            size += sum(buffer.raw().nbytes for buffer in buffers)
            if size < LARGE_BYTES:
                return value, size
            known = self._cluster.put(piece.key, value, size)
        large.append(known[0])
        return Large(len(large) - 1), known[1]

    # In

    def _wait(self, timeout_s: float) -> list[Any]:
        waiting = [*self._out, *self._cluster.greetings()]
        if not waiting:
            time.sleep(min(timeout_s, 0.2))
            return []
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout_s, fetch_local=True)
        more, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0) if ready else ([], [])
        return list(more)

    def _receive(self, ready: list[Any]) -> None:
        greetings = self._cluster.greetings()
        for reference in ready:
            if reference in greetings:
                self._cluster.greeted(greetings[reference], self._job.watch.note)
            elif reference in self._out:
                self._take_in(reference)

    def _take_in(self, reference: Any) -> None:
        """Store what came of a block, or let its items wait again if its worker is lost."""
        block = self._out.pop(reference)
        was_first = block.worker.sent[0] == reference
        errors = self._ray.exceptions
        try:
            result: BlockResult = self._ray.get(reference)
        except (errors.RayActorError, errors.ObjectLostError, errors.OwnerDiedError) as error:
            self._put_back(block, error, blamed=was_first)
        except errors.RayError as error:  # such as a full disk, or a value that cannot be read there
            block.worker.sent.remove(reference)
            cause = getattr(error, "cause", None) or error
            if isinstance(cause, UnposedError):
                raise cause from None
            self._give_up_on(block, f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}")
        else:
            block.worker.sent.remove(reference)
            if result.missing:
                self._send_files_with(block)
            elif result.problem:
                self._give_up_on(block, result.problem)
            else:
                self._keep(block, result)

    def _keep(self, block: Block, result: BlockResult) -> None:
        self._job.watch.account(block.worker.machine.name, len(result.values), result.cpu_s)
        count = len(result.values) + len(result.errors)
        if count:
            seconds = result.seconds / count
            self._item_s = seconds if self._item_s is None else 0.7 * self._item_s + 0.3 * seconds
        self._done.extend((item, self._save(item, value)) for item, value in result.values)
        for item, failure in result.errors:
            if is_out_of_memory(failure) and self._is_crowded(block.worker):
                self._blocks.put_back([item])
            else:
                self._done.append((item, failure))

    def _save(self, item: Item, value: Any) -> Exception | None:
        """Store a result; what is wrong with it, if it cannot be."""
        try:
            self._job.save(item, value)
        except UnposedError:
            raise
        except Exception as error:
            return error
        return None

    def _is_crowded(self, worker: WorkerProcess) -> bool:
        """Whether fewer workers of the machine may have the memory that one item needs; from now on there are fewer."""
        machine = worker.machine
        slots = min(self._slots_of(machine, worker), sum(w.device == self._device for w in machine.workers))
        if self._device != "cpu" or slots <= 1:
            return False
        self._slots[machine.id] = slots // 2
        return True

    def _put_back(self, block: Block, error: Exception, blamed: bool) -> None:
        """The items of a worker that is lost wait again; those it was computing alone, if its process was killed."""
        self._cluster.lose(block.worker)
        died = isinstance(error, self._ray.exceptions.ActorDiedError) and self._cluster.is_alive(block.worker.machine)
        if not (blamed and died):
            self._blocks.put_back(block.items)
            return
        self._deaths.update(block.items)
        hopeless = [item for item in block.items if self._deaths[item] >= DEATHS]
        reason = f"it has ended {DEATHS} worker processes, as a crash of a library or the lack of memory does"
        self._done.extend((item, WorkerKilled(reason)) for item in hopeless)
        self._blocks.put_back_alone(item for item in block.items if self._deaths[item] < DEATHS)

    def _give_up_on(self, block: Block, problem: str) -> None:
        self._cluster.leave_out(block.worker.machine, problem, self._job.watch.note)
        self._blocks.put_back(block.items)

    def _send_files_with(self, block: Block) -> None:
        """From now on this machine gets the photos' bytes; what it was sent before is gone there."""
        block.worker.machine.lacks_files = True
        for photo in block.photos:
            block.worker.machine.files -= {photo.content, photo.mask_content}
        self._blocks.put_back(block.items)

    def _files_of(self, photo: Photo, machine: Machine) -> dict[str, PhotoBytes]:
        """The bytes of a photo and its mask, unless the machine has them already."""
        files = {photo.content: photo.path} | ({photo.mask_content: photo.mask} if photo.mask else {})
        sent = {}
        for content, path in files.items():
            if content not in machine.files:
                reference, _ = self._cluster.values.get(content) or self._put_file(content, path)
                sent[content] = PhotoBytes(reference)
                machine.files.add(content)
        return sent

    def _put_file(self, content: str, path: Path) -> tuple[Any, int]:
        data = path.read_bytes()
        if bytes_content(data) != content:
            raise OSError(f"{path} has changed since the run began")
        return self._cluster.put(content, data, len(data))

    # The end

    def _check_that_somebody_works(self) -> None:
        """ExecutorError if no machine is left, after a while in which one may join."""
        machines = [m for m in self._cluster.machines.values() if m.room[self._device]]
        if any(not machine.problem for machine in machines):
            self._alone_since = None
            return
        now = time.monotonic()
        self._alone_since = self._alone_since or now
        problems = "; ".join(f"{machine.name}: {machine.problem}" for machine in machines)
        if problems and not self._out:
            raise ExecutorError(f"no machine of the Ray cluster at {self._cluster.where} can be used: {problems}")
        if now - self._alone_since > WAIT_S:
            kind = "CPU" if self._device == "cpu" else "GPU"
            raise ExecutorError(
                f"no machine with a {kind} is left in the Ray cluster at {self._cluster.where}; everything finished is "
                "kept: run again when one has joined"
            )

    def _finish_what_is_out(self) -> None:
        """Let the blocks on the way finish, and store them: when the run is cancelled, or has failed."""
        while self._out:
            for reference in self._wait(5.0):
                if reference in self._out:
                    self._out.pop(reference).worker.sent.remove(reference)
                    with suppress(self._ray.exceptions.RayError):
                        result: BlockResult = self._ray.get(reference)
                        for item, value in result.values:
                            self._save(item, value)
            self._cluster.check_alive()
