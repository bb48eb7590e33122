"""What happens besides while a block runs: warnings of the package, and files that are opened for writing."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_listeners: list[list[str]] = []
_IGNORED = ("/dev/", "__pycache__", "__autograph", ".cache")
_hooks: list[object] = []


def _on_event(event: str, args: tuple[Any, ...]) -> None:
    """Notes files that are opened for writing; Python has no way to take such a hook away, so it idles when unused."""
    if not _listeners or event != "open" or not isinstance(args[0], str | bytes | Path):
        return
    mode, flags = args[1], args[2]
    # O_WRONLY and O_RDWR are 1 and 2 on every platform; some callers of `open` pass flags alone.
    writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & 3)
    path = args[0].decode(errors="replace") if isinstance(args[0], bytes) else str(args[0])
    if writes and not any(word in path for word in _IGNORED):
        for heard in _listeners:
            heard.append(path)


class _Messages(logging.Handler):
    """Collects what the coordinator warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


@contextlib.contextmanager
def listening() -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Warnings of the package and files opened for writing while the block runs."""
    if not _hooks:
        sys.addaudithook(_on_event)
        _hooks.append(_on_event)
    logger, handler, files = logging.getLogger("analyzer"), _Messages(), list[str]()
    logger.addHandler(handler)
    _listeners.append(files)
    try:
        yield handler.heard, files
    finally:
        _listeners.remove(files)
        logger.removeHandler(handler)


@contextlib.contextmanager
def writing() -> Iterator[Sequence[str]]:
    """Paths of the files that are opened for writing while the block runs."""
    with listening() as (_, files):
        yield files
