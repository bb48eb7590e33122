"""The only room that imports a framework."""

from analyzer.backends.loader import engine

__all__ = ["engine"]
