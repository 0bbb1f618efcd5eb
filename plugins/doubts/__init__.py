"""Adapters: which verified pairs are doubted."""
