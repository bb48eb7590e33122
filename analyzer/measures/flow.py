"""Measures of a layer's activations."""

from __future__ import annotations

from analyzer.measures.dimensionality import effective_rank

__all__ = ["effective_rank", "still_alive_bound"]


def still_alive_bound(n: int, level: float = 0.95) -> float:
    """Largest rate at which a unit that was silent for n samples may still fire (Clopper & Pearson 1934, one-sided).

    Args:
        n: Number of independent samples.
        level: Confidence.
    """
    return float(1 - (1 - level) ** (1 / n))
