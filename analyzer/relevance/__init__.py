"""Relevance: rules, presets, the ledger and `explain`."""
