"""The pipeline: artifacts, stage contract, graph, store, executors. No algorithms."""
