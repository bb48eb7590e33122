"""Drawing results: one file per analysis."""
