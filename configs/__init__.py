"""Presets, read as package resources."""
