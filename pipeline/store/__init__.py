"""Stored results: keys, encoding, and the cache file."""
