"""Which photos may see the same thing: ranking and scene graphs. Arrays in, arrays out."""
