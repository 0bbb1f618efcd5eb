"""Executors beside `local`: where the items of a run are computed."""
