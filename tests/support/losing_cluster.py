"""Runs a job on a cluster whose head is killed meanwhile. Exit code 7: the executor has said so."""

from __future__ import annotations

import sys
import threading
from contextlib import closing
from typing import Any

import numpy as np
from cluster_stages import Sums
from ray.cluster_utils import Cluster

from unposed.pipeline.errors import ExecutorError
from unposed.pipeline.executor import Argument, Item, Job, Piece
from unposed.pipeline.stage import Resources
from unposed.plugins.executor.ray_cluster import Ray

if __name__ == "__main__":
    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 128 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    values: dict[Item, Any] = {}

    def read(item: Item) -> dict[str, Argument]:
        return {"row": Argument(Piece(str(item), lambda: np.full(2, float(item[0]))))}

    job = Job(Sums(0.1), [(i,) for i in range(1000)], read, values.__setitem__, frozenset())
    threading.Timer(4.0, cluster.head_node.all_processes["gcs_server"][0].process.kill).start()
    try:
        with closing(Ray(cluster.address, "cpu")) as executor:
            for _ in executor.run(job, Resources("cpu", 1, 1 << 30, 0)):
                pass
    except ExecutorError as error:
        print(error)
        sys.exit(7 if values else 1)
