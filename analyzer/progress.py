"""Progress of what takes longer than a second: bars on a terminal, a callback, or silence."""

from __future__ import annotations

import sys
import threading
import unicodedata
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from analyzer.config import Progress as Setting

DELAY = 1.0
"""Seconds before a bar appears: what is done by then needs none."""

_JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    """Text as it may be written to a terminal: what would steer the terminal or the reading order is escaped.

    Args:
        text: Any text, such as the name of a model.
    """
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    # Cc: control, Cf: format (text direction), Cs: lone surrogates, Zl and Zp: line separators. Joiners make emoji.
    steers = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS
    return character.encode("unicode_escape").decode("ascii") if steers else character


class Progress:
    """Tells how far each of several tasks is.

    Used as a context, so that a terminal is left as it was found, also after an error::

        with Progress(config.progress) as progress:
            for done, batch in enumerate(batches):
                progress.step("model a: predictions", done, len(batches))

    Args:
        setting: True draws bars when the stream is a terminal, False is silent, and a callable receives every step as
            ``(label, done, total)``.
        stream: Where bars are drawn; standard error as it is when the context is entered by default.
        delay: Seconds before bars appear.
    """

    def __init__(self, setting: Setting, *, stream: TextIO | None = None, delay: float = DELAY) -> None:
        self._callback = setting if callable(setting) else None
        self._draws = setting is True
        self._stream = stream
        self._delay = delay
        self._lock = threading.RLock()
        self._steps: dict[str, tuple[int, int]] = {}
        self._tasks: dict[str, Any] = {}
        self._bars: Any = None
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        stream = self._stream or sys.stderr
        self._draws = self._draws and stream.isatty()
        if self._draws:
            self._stream = stream
            # A timer, not a look at the clock in `step`: a first step that takes a minute must show, too.
            self._timer = threading.Timer(self._delay, self._show)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._draws = False
            if self._bars is not None:
                self._bars.stop()
                self._bars = None

    def step(self, label: str, done: int, total: int) -> None:
        """Report how far a task is.

        Args:
            label: What is being done; one bar each. Report ``done=0`` at the start, so that a slow first step shows.
            done: Steps done so far.
            total: Steps in all.
        """
        if self._callback is not None:
            self._callback(label, done, total)
            return
        with self._lock:
            if self._draws:
                self._steps[label] = (done, total)
                if self._bars is not None:
                    self._draw(label)

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        with self._lock:
            if not self._draws:
                return
            # markup=False: a label holds model names, which are any words.
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            # While bars stand, rich puts what goes to standard output above them, on the stream of the bars: right on a
            # terminal, wrong for `keras-analyzer … > file`.
            to_terminal = sys.stdout.isatty()
            console = Console(file=self._stream)
            self._bars = Bars(*columns, console=console, transient=True, redirect_stdout=to_terminal)
            self._bars.start()
            for label in self._steps:
                self._draw(label)

    def _draw(self, label: str) -> None:
        done, total = self._steps[label]
        if done >= total:
            if label in self._tasks:
                self._bars.remove_task(self._tasks.pop(label))
        elif label not in self._tasks:
            self._tasks[label] = self._bars.add_task(printable(label), total=total, completed=done)
        else:
            self._bars.update(self._tasks[label], completed=done, total=total)
