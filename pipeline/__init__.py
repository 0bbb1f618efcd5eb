"""The frame of the house: artifacts, stage contract, graph, store, executors. No algorithms."""
