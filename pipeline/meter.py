"""Cost of each node: wall and CPU time without that of the nodes it waits for, and peak memory."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

INTERVAL_S = 0.05
"""Seconds between two samples of the memory."""


@dataclass(frozen=True)
class MachineShare:
    """What one machine of a cluster has done for a node."""

    items: int = 0
    cpu_s: float = 0.0


@dataclass(frozen=True)
class NodeReport:
    """What happened at a node."""

    plugin: str
    computed: int
    reused: int
    failed: int
    """Items that gave nothing, in this run or (stored) in an earlier one."""
    dropped: int
    """Items not tried, because what they need has failed."""
    wall_s: float
    cpu_s: float
    peak_mb: float
    machines: Mapping[str, MachineShare] = field(default_factory=dict)
    """What the machines of a cluster have computed of it, by name; empty where all was computed here."""


@dataclass
class Cost:
    """Accumulated cost of one node."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    """Largest resident memory of the process while the node was computed."""
    elsewhere: dict[str, MachineShare] = field(default_factory=dict)
    """By name of the machine, where other processes have worked on it; `cpu_s` includes theirs."""


class Meter:
    """A stack of nodes: time is charged to the topmost. Memory is sampled, as systems report no peak by phase."""

    def __init__(self) -> None:
        self.costs: dict[str, Cost] = defaultdict(Cost)
        self._stack: list[str] = []
        self._thread = threading.current_thread()
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[Meter]:
        """Sample memory until the end of the block."""
        sampler = threading.Thread(target=self._sample, name="unposed-meter", daemon=True)
        sampler.start()
        try:
            yield self
        finally:
            self._stop.set()
            sampler.join()

    @contextmanager
    def charging(self, node: str) -> Iterator[None]:
        """Charge the time until the end of the block to `node`, except for nested blocks of other nodes. Repairing a
        damaged stored value is charged to the node that reads it."""
        if threading.current_thread() is not self._thread:
            yield
            return
        self._charge()
        self._stack.append(node)
        try:
            yield
        finally:
            self._charge()
            self._stack.pop()

    def spent_s(self, node: str) -> float:
        """Wall time charged to `node` so far, including the present block."""
        if threading.current_thread() is self._thread:
            self._charge()
        return self.costs[node].wall_s

    def count_elsewhere(self, node: str, machine: str, items: int, cpu_s: float) -> None:
        """Charges what a process on that machine has done for the node."""
        with self._lock:
            cost = self.costs[node]
            share = cost.elsewhere.get(machine, MachineShare())
            cost.elsewhere[machine] = MachineShare(share.items + items, share.cpu_s + cpu_s)
            cost.cpu_s += cpu_s

    def _charge(self) -> None:
        wall, cpu, memory = time.perf_counter(), time.process_time(), self._memory_mb()
        with self._lock:
            if self._stack:
                cost = self.costs[self._stack[-1]]
                cost.wall_s += wall - self._wall
                cost.cpu_s += cpu - self._cpu
                cost.peak_mb = max(cost.peak_mb, memory)
            self._wall, self._cpu = wall, cpu

    def _memory_mb(self) -> float:
        """Resident memory; 0 where it cannot be read, such as without a free file handle: that is no reason to stop."""
        try:
            return float(self._process.memory_info().rss) / 1e6
        except (OSError, psutil.Error):
            return 0.0

    def _sample(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            memory = self._memory_mb()
            with self._lock:
                if self._stack:
                    cost = self.costs[self._stack[-1]]
                    cost.peak_mb = max(cost.peak_mb, memory)
