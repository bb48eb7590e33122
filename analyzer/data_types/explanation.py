"""`Explanation`: which inputs and which layers made a decision, and where relevance went on the way."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.data_types import explanation_file
from analyzer.errors import DataError

LEDGER_COLUMNS = (
    "relevance_in",
    "relevance_out",
    "absorbed_by_bias",
    "absorbed_by_softmax",
    "absorbed_by_stabiliser",
    "unexplained",
    "unexplained_fraction",
)


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of all values of a tensor over the samples explained."""

    mean: float | None
    std: float | None
    minimum: float | None
    maximum: float | None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call of a layer, or of an operation, as relevance went through it.

    Attributes:
        id: The id of the call, as in ``layers=``; operations inside a layer are ``"<id>/<operation>"``.
        kind: Name of the class or operation.
        rule: The rule that was applied, as text.
        input_shapes: Shape per sample of each tensor that came in.
        output_shapes: Likewise for what went out.
        activation: Statistics of the first output.
        relevance: Statistics of the relevance at that output; None where it was not kept.
    """

    id: str
    kind: str
    rule: str
    input_shapes: tuple[tuple[int | None, ...], ...] = ()
    output_shapes: tuple[tuple[int | None, ...], ...] = ()
    activation: Statistics | None = None
    relevance: Statistics | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """Relevance of the inputs, and of every layer's output, for one output value of each of n samples.

    With k targets at once every array of relevance has a leading axis of size k, and `output` is ``(k, n)``.

    Attributes:
        method: Name of the method or preset.
        inputs: Relevance by input name, each in the shape of that input, ``(n, ...)``; one number per token for integer
            inputs. Positive values speak for the target, negative ones against it.
        layers: Relevance at the output of layer calls by id, in order of execution, each in the shape of that output.
        target: What was explained, as text; the class of each sample where one was predicted.
        targets: Class or position explained for each sample, where the target is one.
        output: The value explained, per sample: what all relevance starts from.
        ledger: One row per place, in the order in which relevance went through: see `LEDGER_COLUMNS`. Amounts are means
            over the samples; ``unexplained_fraction`` is the largest share of the start value over the samples. Empty
            for methods that keep no books.
        trace: Every call in order of execution.
        against: For contrastive methods, what speaks against the target, like `inputs`, which then holds what speaks
            for it; else None.
        layers_against: Likewise for the layers.
        notes: What the reader must know: layers without a rule, which preset ``auto`` chose and why.
        measured: Numbers that differ between equal runs.
    """

    method: str
    inputs: dict[str, NDArray[Any]]
    layers: dict[str, NDArray[Any]] = field(default_factory=dict)
    target: str = ""
    targets: NDArray[Any] | None = None
    output: NDArray[Any]
    ledger: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(LEDGER_COLUMNS)))
    trace: tuple[Step, ...] = ()
    against: dict[str, NDArray[Any]] | None = None
    layers_against: dict[str, NDArray[Any]] | None = None
    notes: tuple[str, ...] = ()
    measured: dict[str, Any] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of samples."""
        return int(np.shape(self.output)[-1])

    @property
    def unexplained_fraction(self) -> float | None:
        """Largest share of the start value that any place leaves unexplained in any sample; None without books."""
        known = np.asarray(self.ledger.get("unexplained_fraction", ()), dtype=np.float64)
        known = known[~np.isnan(known)]
        return float(known.max()) if known.size else None

    def first_break(self, tolerance: float = 1e-3) -> str | None:
        """The first place, on the way from the output to the inputs, where the sum breaks; None where it holds.

        Args:
            tolerance: Share of the start value that may be missing.
        """
        fractions = self.ledger.get("unexplained_fraction", pd.Series(dtype=np.float64)).astype(np.float64)
        broken = fractions.index[(fractions > tolerance).to_numpy()]
        return str(broken[0]) if len(broken) else None

    def to_json(self, path: str | Path | None = None, *, include_arrays: bool = True) -> str:
        """The explanation as strict JSON: what is not finite becomes null.

        Args:
            path: Also write it there, atomically. Arrays of more than 256 elements then lie in
                ``<name>_arrays.npz`` beside it, named in the JSON; without a path they stand in the text.
            include_arrays: False keeps of each map its shape and sums only; the values explained stay.

        Returns:
            The text.

        Raises:
            OutputError: If the file cannot be written.
        """
        return explanation_file.to_text(self, path, include_arrays=include_arrays)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The explanation that `to_json` made a text of, where that holds its arrays.

        Args:
            text: The text.

        Raises:
            DataError: If it is none, is damaged, or names arrays that lie beside a file.
        """
        try:
            document = json.loads(text)
        except ValueError as error:
            raise DataError(f"This is not JSON: {error}.") from error
        return cls(**explanation_file.fields_of(document, {}))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a saved explanation; needs neither Keras nor matplotlib.

        Args:
            path: The JSON file that `to_json` wrote; its arrays are looked for beside it.

        Raises:
            DataError: If it cannot be read.
        """
        return cls(**explanation_file.fields_of(*explanation_file.read(Path(path))))

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name!r}: {np.shape(array)}" for name, array in self.inputs.items())
        largest = self.unexplained_fraction
        books = "no ledger" if largest is None else f"unexplained at most {largest:.2g} of the start value"
        return f"Explanation({self.method!r}, target {self.target!r}, n={self.n}, inputs {{{shapes}}}, {books})"
