"""Between models: which are the best trade-offs. Reads results, never models."""
