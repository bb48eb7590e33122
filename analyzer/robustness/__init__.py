"""Robustness: what a model decides when its inputs move."""
