"""Attributions other than relevance, on the same targets."""

from __future__ import annotations

from typing import Any

ATTRIBUTIONS: tuple[str, ...] = ()


def attribute(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError
