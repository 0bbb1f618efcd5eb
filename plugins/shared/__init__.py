"""Between artifacts and the plain arrays of optim: what several plugins need."""
