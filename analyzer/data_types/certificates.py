"""`Certificates`: what can be proved about the decisions of a model, and estimates that are called estimates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.config import Norm
from analyzer.data_types.saved_result import saved_document
from analyzer.data_types.serialization import MEASURED, ArrayStore, decode, encode, encode_measured
from analyzer.data_types.values import Estimate, Skipped
from analyzer.errors import DataError

VERSION = "1.0"
"""Releases read every document whose number before the point is theirs."""

METHODS = ("interval_bounds", "lipschitz", "smoothing", "local_jacobian", "clever")
"""What there is, bounds first."""

Kind = Literal["bound", "probabilistic bound", "estimate"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Certificate:
    """What one method says about every sample.

    Attributes:
        method: One of `METHODS`.
        kind: ``"bound"``: a proof. ``"probabilistic bound"``: each radius holds with probability `confidence`.
            ``"estimate"``: no bound of anything.
        subject: Whose decisions it speaks of: the model's, or those of its smoothed classifier.
        norm: Norm of what is said of the samples.
        own_norm: Norm that the method works in; where it is another, radii were converted.
        confidence: That each radius holds; None unless the bound is probabilistic.
        radius: ``(n,)`` in units of the data: no nearer input is decided for another class than the sample's label
            (without labels: than the sample itself); 0 where the sample is decided for another one already, NaN where
            the method abstains. None for estimates.
        estimates: ``(n,)`` what is estimated instead. None for bounds.
        quantity: What `radius` or `estimates` is, for people.
        certified: Share of samples that no step of length ε can get decided for another class than their label
            (without labels: than their own), with Wilson's interval. None for estimates; undefined where no sample
            could be certified at ε whatever the model does.
        settings: Numbers that the result depends on, by name.
        notes: What the reader must know.
        definition: What was computed.
        paper: Where it is from.
        seconds: Time that it took.
    """

    method: str
    kind: Kind
    subject: str = "model"
    norm: Norm
    own_norm: Norm
    confidence: float | None = None
    radius: NDArray[np.float64] | None = None
    estimates: NDArray[np.float64] | None = None
    quantity: str
    certified: Estimate | None = None
    settings: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    definition: str
    paper: str
    seconds: float = field(default=float("nan"), metadata=MEASURED)

    @property
    def per_sample(self) -> NDArray[np.float64]:
        """``(n,)`` the radii, or what is estimated instead."""
        found = self.estimates if self.radius is None else self.radius
        return np.empty(0) if found is None else found

    @property
    def n_abstained(self) -> int:
        """Samples that nothing is said of."""
        return int(np.isnan(self.per_sample).sum())

    @property
    def median(self) -> float | None:
        """Of `per_sample`, over the samples that something is said of; None where there are none."""
        known = self.per_sample[~np.isnan(self.per_sample)]
        return float(np.median(known)) if known.size else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Certificates:
    """What several methods say about the same samples.

    Attributes:
        model: Its name.
        n: Number of samples.
        indices: ``(n,)`` their positions in the data that were given.
        norm: Norm of the steps asked about.
        epsilon: Their length, in units of the data.
        low: Smallest value of inputs.
        high: Largest value of inputs.
        bounds_source: Where these come from.
        labelled: Whether there were labels; else each sample's own decision stands for its label.
        accuracy: Share decided rightly as they are, with Wilson's interval; None without labels.
        seed: Seed of every random choice.
        methods: By name; `Skipped` with its reason where a method does not cover the model.
    """

    model: str
    n: int
    indices: NDArray[np.int64]
    norm: Norm
    epsilon: float
    low: float
    high: float
    bounds_source: str
    labelled: bool
    accuracy: Estimate | None = None
    seed: int
    methods: dict[str, Certificate | Skipped]

    def __getitem__(self, name: str) -> Certificate | Skipped:
        return self.methods[name]

    def to_frame(self) -> pd.DataFrame:
        """One row per method, skipped ones with their reason; ``certified`` is the share at ε, with its interval."""
        names = ("method", "kind", "subject", "norm", "confidence", "certified", "low", "high", "n", "median")
        columns = [*names, "quantity", "n_abstained", "seconds", "definition", "skipped"]
        rows = [_row(name, found) for name, found in self.methods.items()]
        return pd.DataFrame(rows, columns=columns)

    def to_json(self, path: str | Path | None = None) -> str:
        """The certificates as strict JSON: what is not finite becomes null.

        Args:
            path: Also write it there, atomically.

        Returns:
            The text.

        Raises:
            OutputError: If the file cannot be written.
        """
        return saved_document(self._document(), path, what="The certificates")

    def _document(self) -> dict[str, Any]:
        store = ArrayStore(inline_all=True)
        body: dict[str, Any] = {"type": "Certificates", "version": VERSION, **encode(self, store)}
        for name, found in self.methods.items():
            status = "skipped" if isinstance(found, Skipped) else "ok"
            body["methods"][name] = {"status": status, **body["methods"][name]}
        done = {name: found for name, found in self.methods.items() if isinstance(found, Certificate)}
        body["measured"] = {name: encode_measured(found, store) for name, found in done.items()}
        return body

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The certificates that `to_json` made a text of.

        Args:
            text: The text.

        Raises:
            DataError: If it is none, is damaged, or comes from a later release.
        """
        try:
            document = json.loads(text)
        except ValueError as error:
            raise DataError(f"This is not JSON: {error}.") from error
        if not isinstance(document, dict) or document.get("type") != "Certificates":
            raise DataError("This holds no certificates of keras-analyzer: its 'type' is not 'Certificates'.")
        version = str(document.get("version"))
        if version.split(".")[0] != VERSION.split(".")[0]:
            raise DataError(f"The certificates have version {version}; this release reads {VERSION}. Update it.")
        try:
            return decode(cls, _as_fields(document), {})  # type: ignore[no-any-return]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(
                f"The certificates are damaged: {type(error).__name__}: {error}. Certify the model again."
            ) from error

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read saved certificates; needs neither Keras nor matplotlib.

        Args:
            path: The JSON file that `to_json` wrote.

        Raises:
            DataError: If it cannot be read.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise DataError(f"No certificates can be read from {path}: {error}.") from error
        return cls.from_json(text)

    def __repr__(self) -> str:
        told = ", ".join(f"{name}: {_told(found)}" for name, found in self.methods.items())
        return f"Certificates({self.model!r}, n={self.n}, {self.norm}, epsilon={self.epsilon:g}; {told})"


def _row(name: str, found: Certificate | Skipped) -> dict[str, Any]:
    if isinstance(found, Skipped):
        return {"method": name, "skipped": found.reason}
    share = found.certified
    return {
        "method": name,
        "kind": found.kind,
        "subject": found.subject,
        "norm": found.norm,
        "confidence": found.confidence,
        "certified": None if share is None else share.value,
        "low": None if share is None else share.low,
        "high": None if share is None else share.high,
        "n": len(found.per_sample),
        "median": found.median,
        "quantity": found.quantity,
        "n_abstained": found.n_abstained,
        "seconds": found.seconds,
        "definition": found.definition,
    }


def _told(found: Certificate | Skipped) -> str:
    if isinstance(found, Skipped):
        return "skipped"
    return found.kind if found.certified is None else f"{found.kind}, {found.certified}"


def _as_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document in the form that `decode` reads: the union of row and `Skipped` told apart by their status."""
    measured = document["measured"]
    rows = {
        name: {"type": "Skipped" if row["status"] == "skipped" else "Certificate", **row, **measured.get(name, {})}
        for name, row in document["methods"].items()
    }
    return {**document, "methods": rows}
