"""An explanation in a few lines of text: what was explained, what carried it, and where its books do not close."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from analyzer.commands.table_text import aligned
from analyzer.data_types.explanation import Explanation
from analyzer.progress import printable

MOST_ROWS = 10
"""Rows of the table; what is left out is counted."""
MOST_FEATURES = 3
"""Features shown of one sample."""
TOLERANCE = 1e-3
"""Share of the start value from which a place counts as breaking the sum."""

_FEW_CHANNELS = 4
_COLUMNS = ("sample", "target", "output", "at inputs", "most relevant")
_ABSORBED = {
    "absorbed_by_bias": "biases",
    "absorbed_by_softmax": "softmaxes",
    "absorbed_by_stabiliser": "stabilisers",
}


def lines_of(explanation: Explanation) -> list[str]:
    """A table of samples, then the books, then what the reader must know.

    Args:
        explanation: What `explain` returned.
    """
    rows = list(_rows(explanation))
    shown = [dict(zip(_COLUMNS, _COLUMNS, strict=True)), *rows[:MOST_ROWS]]
    left = [f"and {len(rows) - MOST_ROWS} more rows in the results"] if len(rows) > MOST_ROWS else []
    head = f"{explanation.method}: {explanation.target}"
    table = aligned(shown, _COLUMNS, {"sample", "output", "at inputs"})
    return [printable(line) for line in [head, *table, *left, *_books(explanation), *explanation.notes]]


def _rows(explanation: Explanation) -> Iterator[dict[str, str]]:
    several = np.ndim(explanation.output) > 1
    outputs = np.atleast_2d(explanation.output)
    targets = None if explanation.targets is None else np.atleast_2d(explanation.targets)
    maps = {name: array if several else array[None] for name, array in explanation.inputs.items()}
    for sample in range(explanation.n):
        for k, of_target in enumerate(outputs):
            own = {name: _by_feature(np.asarray(array[k][sample])) for name, array in maps.items()}
            yield {
                "sample": str(sample),
                "target": explanation.target if targets is None else str(int(targets[k, sample])),
                "output": f"{of_target[sample]:.4g}",
                "at inputs": f"{sum(float(array.sum()) for array in own.values()):.4g}",
                "most relevant": ", ".join(_most(own, abs(float(of_target[sample])))),
            }


def _by_feature(relevance: NDArray[np.generic]) -> NDArray[np.float64]:
    """Relevance of one sample by column, pixel, step or token: channels are summed."""
    wide = np.asarray(relevance, dtype=np.float64)
    if wide.ndim < 2:
        return wide
    channels_first = wide.ndim > 2 and wide.shape[0] <= _FEW_CHANNELS < wide.shape[-1]
    return np.asarray(wide.sum(axis=0 if channels_first else -1))


def _most(by_input: dict[str, NDArray[np.float64]], start: float) -> Iterator[str]:
    """The features of largest magnitude, as shares of the value explained."""
    ranked = sorted(
        ((abs(value), name, index) for name, array in by_input.items() for index, value in np.ndenumerate(array)),
        key=lambda one: -one[0],
    )
    for magnitude, name, index in ranked[:MOST_FEATURES]:
        if not magnitude:
            return
        label = name if len(by_input) > 1 else ""
        value = float(by_input[name][index])
        share = f"{value / start:+.0%}" if start else f"{value:+.3g}"
        yield f"{label}[{', '.join(map(str, index))}] {share}"


def _books(explanation: Explanation) -> list[str]:
    ledger, fraction = explanation.ledger, explanation.unexplained_fraction
    if fraction is None or not len(ledger):
        return [f"ledger: {explanation.method} keeps no books"]
    start = float(ledger["relevance_in"].iloc[-1])
    amounts = [("inputs", float(ledger["relevance_out"].iloc[-1]))]
    amounts += [(name, float(ledger[column].sum())) for column, name in _ABSORBED.items()]
    shares = ", ".join(f"{name} {amount / start:.2%}" for name, amount in amounts if start and amount)
    where = explanation.first_break(TOLERANCE)
    broken = "the sum holds at every place" if where is None else f"the sum first breaks at {where!r}"
    return [f"ledger: {shares or 'nothing to share out'}; unexplained at most {fraction:.2g}: {broken}"]
