"""Adapters, one small module per implementation, grouped by slot. Reached through entry points only."""
