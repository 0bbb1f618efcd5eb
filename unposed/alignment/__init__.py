"""Frames of finished models: what is up, how long a metre is, and where on earth they are."""
