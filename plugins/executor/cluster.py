"""A Ray cluster as the executor sees it: machines that come and go, and a worker process per CPU or GPU on each.

Workers are actors that are pinned to their machine, so that it is known which machine computes what, what it has
received, and which item was being computed when a process died. They live as long as the executor, with networks
and imported modules warm.
"""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from unposed.pipeline.errors import ExecutorError
from unposed.pipeline.stage import Resources
from unposed.pipeline.store.recent import Recent

from .worker import ROUNDING, SAME, BlockWorker, Introduction, installed_versions

LOOK_S = 1.0
"""How often it is looked which machines there are."""
GONE_S = 10.0
"""The head of the cluster may not answer for so long before it counts as gone. Ray itself would end the process after
60 s."""
MAX_STARTS = 3
"""Processes that die on a machine before they have said a word, until it is left out."""
STORE_SHARE = 0.3
"""Of the object store of the driver's machine: values that are kept there, so that they need not be put again."""


@dataclass
class WorkerProcess:
    """One worker, and the blocks it has been sent, oldest first."""

    actor: Any
    device: str
    machine: Machine
    greeting: Any
    """Reference to its introduction; None once it has come."""
    lent: Resources | None = None
    sent: list[Any] = field(default_factory=list)
    """References to the results of its blocks."""


@dataclass
class Machine:
    """One machine of the cluster."""

    id: str
    name: str
    room: dict[str, int]
    """Workers it has room for, by device."""
    at_home: bool
    workers: list[WorkerProcess] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    """Contents of photos that it was found to lack and has been sent."""
    lacks_files: bool = False
    starts: int = 0
    """Processes that died before they said a word, one after the other."""
    problem: str = ""
    """Why it is left out."""


class Cluster:
    """The machines, the workers and the values that lie in Ray's object store."""

    def __init__(self, ray: Any, workers: int | None, owned: bool, where: str) -> None:
        self.ray, self.where, self._owned, self._most = ray, where, owned, workers
        self.run_name = uuid.uuid4().hex[:12]
        self.machines: dict[str, Machine] = {}
        self._here = installed_versions()
        self._home = ray.get_runtime_context().get_node_id()
        self._looked = 0.0
        self._silent_since: float | None = None
        self._remote = ray.remote(BlockWorker)
        self.values = Recent(int(self._store_bytes() * STORE_SHARE))
        self.sent_bytes = 0
        """Of values put into the object store since the beginning."""

    def look(self, device: str, note: Callable[[str], None]) -> None:
        """Learn which machines there are now, and start the workers of this device that are lacking."""
        now = time.monotonic()
        if now - self._looked >= LOOK_S:
            self._looked = now
            self.check_alive()
            self._update()
        room = self._most if self._most is not None else 1 << 30
        for machine in self.machines.values():
            there = sum(worker.device == device for worker in machine.workers)
            wanted = min(machine.room[device], room)
            room -= wanted
            for _ in range(0 if machine.problem else wanted - there):
                self._start(machine, device)

    def check_alive(self) -> None:
        """ExecutorError if the cluster's head has not answered for a while. Ray's own calls would wait for it."""
        host, _, port = self.ray.get_runtime_context().gcs_address.rpartition(":")
        while True:
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
            except OSError as error:
                self._silent_since = self._silent_since or time.monotonic()
                if time.monotonic() - self._silent_since > GONE_S:
                    raise ExecutorError(
                        f"the Ray cluster at {self.where} has gone away ({error.strerror or error}); everything "
                        "finished is kept: run the same command again to resume"
                    ) from None
                time.sleep(0.5)
            else:
                self._silent_since = None
                return

    def workers(self, device: str) -> list[WorkerProcess]:
        """The workers that have introduced themselves, on machines that can be used."""
        return [
            worker
            for machine in self.machines.values()
            for worker in machine.workers
            if worker.device == device and worker.lent is not None and not machine.problem
        ]

    def greetings(self) -> dict[Any, WorkerProcess]:
        """Introductions that are waited for."""
        return {w.greeting: w for m in self.machines.values() for w in m.workers if w.greeting is not None}

    def greeted(self, worker: WorkerProcess, note: Callable[[str], None]) -> None:
        """Take the introduction of a worker; a machine that cannot be used is left out, with a note."""
        machine, reference, worker.greeting = worker.machine, worker.greeting, None
        try:
            said: Introduction = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            machine.starts += 1
            self.lose(worker)
            text = " ".join(str(error).split())
            if (lacking := text.rpartition("No module named ")[2]) != text:
                self.leave_out(
                    machine, f"it lacks the Python package {lacking.split()[0]}: install it there as here", note
                )
            elif machine.starts >= MAX_STARTS and self.is_alive(machine):
                self.leave_out(machine, f"its workers die at once ({text[:300]})", note)
            return
        machine.starts = 0
        other = [
            f"{name} {said.versions.get(name, 'missing')} (here {self._here[name]})"
            for name in ("Python", *SAME, *ROUNDING)
            if name in self._here and said.versions.get(name) != self._here[name]
        ]
        serious = [line for line in other if line.startswith(("Python ", *(f"{name} " for name in SAME)))]
        if serious:
            self.leave_out(machine, f"it has {', '.join(serious)}: install the same versions", note)
        elif said.resources is None:
            self.leave_out(machine, f"it offers a GPU, but {said.problem}", note)
        elif other and worker is machine.workers[0]:
            note(f"machine {machine.name} has {', '.join(other)}: the last bits of results may differ")
        worker.lent = said.resources

    def leave_out(self, machine: Machine, why: str, note: Callable[[str], None]) -> None:
        """Send this machine nothing any more."""
        if not machine.problem:
            machine.problem = why
            note(f"machine {machine.name} is left out: {why}")

    def lose(self, worker: WorkerProcess) -> None:
        """Forget a worker whose process has died, or cannot be reached; the next look starts another."""
        if worker in worker.machine.workers:
            worker.machine.workers.remove(worker)
            self.check_alive()
            self.ray.kill(worker.actor)  # it may live on beyond a broken connection

    def is_alive(self, machine: Machine) -> bool:
        """Whether the cluster still counts the machine as its own."""
        self.check_alive()
        self._update()
        return machine.id in self.machines

    def put(self, key: str, value: Any, size: int) -> tuple[Any, int]:
        """Put a value into the object store, and keep its reference and size in `values` while there is room."""
        try:
            entry = self.ray.put(value), size
        except self.ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:200]
            raise ExecutorError(
                f"Ray's object store on this machine is full ({type(error).__name__}: {reason}): give it more with "
                "`ray start --object-store-memory`, or free disk space for it, and run again to resume"
            ) from error
        self.values.put(key, entry, size)
        self.sent_bytes += size
        return entry

    def close(self) -> None:
        """Remove the photos that were sent, and let go of all workers."""
        self.values.clear()
        try:
            self.check_alive()
            tidied = [m.workers[0].actor.tidy.remote() for m in self.machines.values() if m.files and m.workers]
            self.ray.wait(tidied, num_returns=len(tidied), timeout=5.0) if tidied else None
            for worker in (worker for machine in self.machines.values() for worker in machine.workers):
                self.ray.kill(worker.actor)
        except (ExecutorError, self.ray.exceptions.RayError):
            pass  # there is nobody to be told
        self.machines.clear()
        if self._owned:
            self.ray.shutdown()

    def _update(self) -> None:
        alive = {node["NodeID"]: node for node in self.ray.nodes() if node["Alive"]}
        for gone in [id for id in self.machines if id not in alive]:
            del self.machines[gone]
        for id, node in alive.items():
            if id not in self.machines:
                has = node["Resources"]
                room = {"cpu": int(has.get("CPU", 0)), "cuda": int(has.get("GPU", 0))}
                self.machines[id] = Machine(id, self._name(node), room, id == self._home)

    def _name(self, node: dict[str, Any]) -> str:
        taken = {machine.name for machine in self.machines.values()}
        name = str(node["NodeManagerAddress"])
        number = 2
        while name in taken:  # several nodes on one machine, as in tests
            name, number = f"{node['NodeManagerAddress']} #{number}", number + 1
        return name

    def _start(self, machine: Machine, device: str) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor = self._remote.options(
            num_cpus=1 if device == "cpu" else 0,
            num_gpus=0 if device == "cpu" else 1,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(machine.id, soft=False),
        ).remote(device, self.run_name, machine.at_home)
        machine.workers.append(WorkerProcess(actor, device, machine, actor.introduce.remote()))

    def _store_bytes(self) -> float:
        nodes = (node for node in self.ray.nodes() if node["NodeID"] == self._home)
        return sum(float(node["Resources"].get("object_store_memory", 0)) for node in nodes)
