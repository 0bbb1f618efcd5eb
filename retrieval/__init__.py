"""Image retrieval and scene graphs: rank photos by similarity and choose the pairs to match. Arrays in, arrays out."""
