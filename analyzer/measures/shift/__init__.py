"""Whether new data come from where the reference data came from, and whether that does harm."""
