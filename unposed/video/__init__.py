"""Videos as photos: their frames, chosen and written once to the cache."""
