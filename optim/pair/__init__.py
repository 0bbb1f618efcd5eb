"""What two photos have in common: matches, and the geometry that these obey."""
