"""Photos localized in a finished model, which stays as it is."""
