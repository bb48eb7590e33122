"""What results that are no part of an analysis can do: become a JSON document, and a table."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from analyzer.data_types.files import write_document
from analyzer.data_types.serialization import plain
from analyzer.data_types.values import Skipped, flat_row
from analyzer.errors import OutputError

if TYPE_CHECKING:
    import pandas as pd

VERSION = "1.0"
"""Of the documents; the number before the point is another one when a field is renamed or means something else."""


class SavedResult(ABC):
    """A result dataclass with `to_json` and `to_frame`.

    Attributes:
        columns: Those of the table, for results that may have no row; else None.
    """

    columns: ClassVar[tuple[str, ...] | None] = None

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """The rows of `to_frame`, as mappings with the same keys."""

    def to_frame(self) -> pd.DataFrame:
        """One row for each part that was compared; an estimate takes three columns, its value and its interval."""
        import pandas as pd

        return pd.DataFrame(self.rows(), columns=self.columns)

    def to_json(self, path: str | Path | None = None) -> str:
        """The result as strict JSON, with what its numbers mean under ``definitions``.

        What is missing or not finite becomes null; what was not possible has the ``status`` "skipped" and a reason.

        Args:
            path: Also write it there, atomically.

        Returns:
            The text.

        Raises:
            OutputError: If the file cannot be written.
        """
        body = {"type": type(self).__name__, "version": VERSION, **plain(_told(self)), **plain(self._derived())}
        return saved_document(body, path, what="The result")

    def _derived(self) -> Mapping[str, Any]:
        """What a reader of the document needs besides the fields."""
        return {}


def saved_document(body: Mapping[str, Any], path: str | Path | None, *, what: str) -> str:
    """The text of a document, which is also written where a path is given.

    Args:
        body: The document, without NaN.
        path: Written atomically; None writes nothing.
        what: The subject of the message, should that fail.

    Raises:
        OutputError: If the file cannot be written.
    """
    text = json.dumps(body, indent=1, allow_nan=False)
    if path is not None:
        try:
            write_document(Path(path), text, {})
        except OSError as error:
            raise OutputError(f"{what} cannot be written to {path}: {error.strerror}.") from error
    return text


def spread(name: str, measure: Any | None, like: Any) -> dict[str, Any]:
    """Columns of a measure that is made of several estimates, each under the measure's name.

    Args:
        name: Of the measure.
        measure: A dataclass of estimates; None leaves its columns empty.
        like: Another measure of the same class, for their names.
    """
    row = flat_row(like) if measure is None else flat_row(measure)
    return {f"{name}_{part}": None if measure is None else value for part, value in row.items()}


def _told(value: Any) -> Any:
    """The same, with what was skipped told from what has a reason for other causes."""
    if isinstance(value, Skipped):
        return {"status": value.status, "reason": value.reason}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {entry.name: _told(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _told(item) for key, item in value.items()}
    return [_told(item) for item in value] if isinstance(value, list | tuple) else value
