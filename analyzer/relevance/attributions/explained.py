"""Putting together the explanation from what the batches brought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analyzer.data_types.explanation import LEDGER_COLUMNS, Explanation
from analyzer.errors import DataError
from analyzer.relevance.attributions.method import Book, Part, Question
from analyzer.relevance.targets import Target


def cut(part: Part, n: int, start: int) -> Part:
    """A batch without its padding.

    Args:
        part: What it brought.
        n: How many of its rows are real.
        start: Position of its first sample.

    Raises:
        DataError: If what is explained is not finite.
    """
    bad = np.flatnonzero(~np.isfinite(part.score[:, :n]).all(axis=0))
    if len(bad):
        raise DataError(
            f"What is explained is not finite for sample {start + int(bad[0])} ({len(bad)} in its batch): the model's "
            "output is NaN or infinite there. Look for such values in x and in the weights."
        )
    return Part(
        score=part.score[:, :n],
        chosen=part.chosen[:, :n],
        inputs={key: array[:, :n] for key, array in part.inputs.items()},
        layers={key: array[:, :n] for key, array in part.layers.items()},
        books={
            key: Book(due=book.due[:, :n], given=book.given[:, :n], magnitude=book.magnitude[:, :n])
            for key, book in part.books.items()
        },
    )


def explanation(
    parts: Sequence[Part], question: Question, target: Target, method: str, notes: Sequence[str]
) -> Explanation:
    """The explanation of all samples.

    Args:
        parts: What the batches brought, in order.
        question: What was asked.
        target: What was explained.
        method: Name of the method.
        notes: What the reader must know.
    """
    score = np.concatenate([part.score for part in parts], axis=1)
    chosen = np.concatenate([part.chosen for part in parts], axis=1).astype(np.int64)

    def joined(kind: str) -> dict[Any, Any]:
        first: dict[Any, Any] = getattr(parts[0], kind)
        whole = {key: np.concatenate([getattr(part, kind)[key] for part in parts], axis=1) for key in first}
        return {key: _narrow(unwrapped(array)) for key, array in whole.items()}

    def unwrapped(array: Any) -> Any:
        return array[0] if len(score) == 1 else array

    books = {place: _joined([part.books[place] for part in parts]) for place in parts[0].books}
    gaps = {place: unwrapped(book.given - book.due) for place, book in books.items()}
    return Explanation(
        method=method,
        inputs={question.names[number]: array for number, array in sorted(joined("inputs").items())},
        layers=joined("layers"),
        target=target.text,
        targets=None if (chosen < 0).all() else unwrapped(chosen),
        output=unwrapped(score),
        ledger=_ledger(question, books),
        notes=(*notes, *(_gap(book) for book in list(books.values())[:1])),
        measured={"completeness_gap": gaps[next(iter(gaps))].tolist()} if gaps else {},
    )


def _narrow(array: Any) -> Any:
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _joined(books: Sequence[Book]) -> Book:
    return Book(
        due=np.concatenate([book.due for book in books], axis=1),
        given=np.concatenate([book.given for book in books], axis=1),
        magnitude=np.concatenate([book.magnitude for book in books], axis=1),
    )


def _fractions(book: Book) -> Any:
    largest = np.maximum(np.maximum(np.abs(book.due), book.magnitude), np.finfo(np.float64).tiny)
    return np.abs(book.due - book.given) / largest


def _gap(book: Book) -> str:
    gap = np.abs(book.given - book.due)
    return (
        f"Completeness: the sum differs from f(x) - f(baseline) by at most {gap.max():.3g}, "
        f"{_fractions(book).max():.2g} of it (of the sum of magnitudes where that is larger)."
    )


def _ledger(question: Question, books: dict[str, Book]) -> pd.DataFrame:
    """A row for each book: what was to be explained came in, the sum of the map went out."""
    if not books:
        return pd.DataFrame(columns=list(LEDGER_COLUMNS))
    kinds = {question.plan.view.model.name: type(question.plan.view.model).__name__}
    for (place, _), name in question.plan.ids.items():
        kinds.setdefault(name, type(question.plan.places[place]).__name__)
    rows = [
        [book.due.mean(), book.given.mean(), 0.0, 0.0, 0.0, (book.due - book.given).mean(), _fractions(book).max()]
        for book in books.values()
    ]
    frame = pd.DataFrame(
        rows, columns=list(LEDGER_COLUMNS), index=pd.Index(list(books), name="place"), dtype=np.float64
    )
    frame.insert(0, "kind", [kinds.get(name, "") for name in books])
    return frame
