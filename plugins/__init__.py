"""Plugins: adapters from the slots of the pipeline to algorithms, one small module each, found through entry points
only."""
