"""Which view-graph edges join two different places that look alike (doppelgangers)."""
