"""Check a folder to train Gaussian splats from, whoever made it, before a trainer stops or trains wrong."""
