"""The only room that imports a framework."""

from analyzer.backends.loader import engine, relevance_ops

__all__ = ["engine", "relevance_ops"]
