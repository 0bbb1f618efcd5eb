"""The ranked, matched and verified pairs of a photo collection: a table of them, and drawings."""
