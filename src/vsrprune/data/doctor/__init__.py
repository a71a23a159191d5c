"""Look over a data set before training on it."""
