"""Adapters: which verified pairs are not to be believed."""
