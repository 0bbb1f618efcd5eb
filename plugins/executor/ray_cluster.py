"""The executor `ray`: items on the machines of a Ray cluster, with the store on the machine that runs unposed.

The driver, which is the process of the user, reads and writes the store. Sharing its file is no answer: SQLite's
locks do not hold on network file systems, and stages over the collection, which read everything, run on the driver.
Large values (features) are put into Ray's object store once and fetched by every machine once; small ones (matches)
travel with the block. Results come back with the block and are stored as they come.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from unposed.pipeline.config import Within
from unposed.pipeline.errors import ConfigError, ExecutorError
from unposed.pipeline.executor import Executor, Job, OutcomeStream
from unposed.pipeline.stage import Resources

from .cluster import Cluster
from .dispatch import Dispatch

CONNECT_S = 10.0
"""For the head of a cluster to answer."""


@dataclass(frozen=True)
class Ray:
    """The machines of a Ray cluster, or this one through Ray; networks run on its GPUs, everything else on its CPUs."""

    address: str | None = None
    """Of an existing cluster, `10.0.0.1:6379` or `auto`; None: one is started on this machine."""
    device: str = "auto"
    """`cpu` leaves the cluster's GPUs alone, `cuda` insists on them, `auto` uses them where there are any."""
    workers: Annotated[int | None, Within("[1, inf)")] = None
    """The most CPUs, and the most GPUs, that are used at once; None: all."""

    def __post_init__(self) -> None:
        if self.address and "://" in self.address:
            raise ValueError(f"address {self.address}: run unposed on a machine of the cluster, and name HOST:PORT")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device {self.device}: GPUs of a cluster have no numbers; use --device cuda")

    @cached_property
    def cluster(self) -> Cluster:
        """The connection, made when it is first needed."""
        try:
            import ray
        except ImportError as error:
            raise ConfigError(f"executor ray: Ray is not installed ({error}); pip install 'unposed[ray]'") from None
        where = self.address or "this machine"
        owned = not ray.is_initialized()
        if owned:
            _connect(ray, self.address, self.workers, where)
        return Cluster(ray, self.workers, owned, where)

    def run(self, job: Job, resources: Resources) -> OutcomeStream:
        """See Executor."""
        yield from Dispatch(self.cluster, job, resources, self.device).outcomes()

    def close(self) -> None:
        """Let go of the cluster; one that was started here ends."""
        if (cluster := self.__dict__.pop("cluster", None)) is not None:
            cluster.close()


def _connect(ray: Any, address: str | None, workers: int | None, where: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    # Ray prints on stdout what its nodes report, such as the death of a worker: stdout is for results.
    ray._private.worker._worker_logs_enabled = False
    try:
        if address is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
            # "local", or Ray would join any cluster that it finds on this machine
            ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
        else:
            found = str(ray._private.services.canonicalize_bootstrap_address_or_die(address))
            host, _, port = found.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()  # Ray would try for ever
            ray.init(address=found, **quiet)
    except RuntimeError as error:
        if "Version mismatch" not in str(error):
            raise ExecutorError(f"executor ray: no cluster at {where} ({_first_line(error)})") from error
        text = " ".join(str(error).replace(":", ": ").split())
        raise ExecutorError(f"executor ray: {text}; install the cluster's versions here, or ours there") from error
    except (ConnectionError, TimeoutError, OSError, ValueError) as error:
        remedy = "start one with `ray start --head`, or check the address" if address else "see the message"
        raise ExecutorError(f"executor ray: no cluster at {where} ({_first_line(error)}); {remedy}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")


_: Executor = Ray()
