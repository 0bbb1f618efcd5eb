"""Conversions between artifacts and the arrays of optim that several plugins need."""
