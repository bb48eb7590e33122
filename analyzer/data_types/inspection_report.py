"""`ModelInspection`: ModelTrace's eight measures of a model, each in a scale-free form with the raw value beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pandas as pd

from analyzer.data_types.saved_result import saved_document
from analyzer.data_types.serialization import decode, plain
from analyzer.data_types.values import Estimate, Skipped
from analyzer.errors import DataError

VERSION = "1.0"
"""Releases read every document whose number before the point is theirs."""

EXPERIMENTS = (
    "sparsity",
    "activation_statistics",
    "shift_test",
    "drift",
    "cross_model_regression",
    "layer_sensitivity",
    "failure_attribution",
    "modeltrace_score",
)
"""The measures by name, in ModelTrace's order."""


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What a number is.

    Attributes:
        raw: As ModelTrace computes it.
        scale_free: The form that does not change when a layer is multiplied by a factor that the next one divides by.
    """

    raw: str
    scale_free: str


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One number in both forms.

    Attributes:
        raw: ModelTrace's value; None where it has none, or where it is not finite.
        scale_free: The comparable value; undefined where it would divide by zero.
    """

    raw: float | None
    scale_free: Estimate


@dataclass(frozen=True, kw_only=True)
class PlaceTest:
    """Two-sample test of what one layer puts out.

    Attributes:
        layer: Id of its call.
        test: ``"KS"``, ``"MMD"`` or ``"classifier"``.
        p_value: Of this test alone.
        adjusted: By Holm over all tests of all layers.
        features: Units that were compared.
    """

    layer: str
    test: str
    p_value: float
    adjusted: float
    features: int


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One of the eight measures.

    Attributes:
        name: One of `EXPERIMENTS`.
        n: Samples that it rests on; for sparsity, weights.
        definitions: What each number is, by its name.
        model: Numbers of the model as a whole, by name.
        layers: Numbers of each layer, by id of the call and name; layers in order of execution.
        tests: Two-sample tests, for the shift test.
        skipped: Reason by id, for layers that are left out.
        notes: What the reader must know.
    """

    name: str
    n: int
    definitions: dict[str, Definition]
    model: dict[str, Reading] = field(default_factory=dict)
    layers: dict[str, dict[str, Reading]] = field(default_factory=dict)
    tests: tuple[PlaceTest, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a suggestion is expected to change.

    Attributes:
        quantity: Name of the number, e.g. ``"accuracy"``.
        before: As it is now.
        after: As it was measured, or is expected to be, after the change; None where nothing says.
        change: After minus before, paired where both were measured on the same samples.
        basis: ``"measured"``, ``"cross-validated"``, ``"bound"`` (at most this much) or ``"rule of thumb"``.
    """

    quantity: str
    before: Estimate | None
    after: Estimate | None
    change: Estimate | None
    basis: str


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """Something to do about a model, with the evidence it rests on.

    Attributes:
        kind: ``"prune"``, ``"augment"``, ``"recalibrate"`` or ``"lower_learning_rate"``.
        message: One sentence for people.
        evidence: The numbers that led to it.
        effects: What it is expected to change.
        channels: For ``"prune"``: channels by id of the layer, as `prune` takes them.
    """

    kind: str
    message: str
    evidence: Mapping[str, float | int | str | bool | None]
    effects: tuple[Effect, ...]
    channels: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelInspection:
    """The measures of one model.

    Attributes:
        model: Its name.
        other: Name of the model it was compared with; None without one.
        n: Samples in x; 0 without.
        n_shifted: Samples in the shifted data; 0 without.
        shifted_by: Where the shifted data come from, for people.
        seed: Seed of every random choice.
        experiments: By name, in ModelTrace's order; `Skipped` with its reason where data or a model were missing.
        suggestions: What follows from the evidence.
        suggestions_skipped: Reason by kind of suggestion, where there was no evidence to judge by.
    """

    model: str
    other: str | None = None
    n: int
    n_shifted: int = 0
    shifted_by: str | None = None
    seed: int
    experiments: dict[str, Experiment | Skipped]
    suggestions: tuple[Suggestion, ...] = ()
    suggestions_skipped: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Experiment | Skipped:
        return self.experiments[name]

    @property
    def modeltrace_score(self) -> Reading | None:
        """ModelTrace's composite, which it calls a robustness score: lower means less change. None where not computed.

        It is no measure of robustness: see AURA for one.
        """
        found = self.experiments.get("modeltrace_score")
        return found.model.get("modeltrace_score") if isinstance(found, Experiment) else None

    def to_frame(self) -> pd.DataFrame:
        """One row per number: experiment, layer (None for the model), name, both forms, interval and n."""
        rows = [
            {
                "experiment": name,
                "layer": layer,
                "name": number,
                "raw": reading.raw,
                "scale_free": reading.scale_free.value,
                "low": reading.scale_free.low,
                "high": reading.scale_free.high,
                "n": reading.scale_free.n,
            }
            for name, found in self.experiments.items()
            if isinstance(found, Experiment)
            for layer, readings in [(None, found.model), *found.layers.items()]
            for number, reading in readings.items()
        ]
        columns = ["experiment", "layer", "name", "raw", "scale_free", "low", "high", "n"]
        return pd.DataFrame(rows, columns=columns)

    def to_json(self, path: str | Path | None = None) -> str:
        """The inspection as strict JSON: what is not finite becomes null.

        Args:
            path: Also write it there, atomically.

        Returns:
            The text.

        Raises:
            OutputError: If the file cannot be written.
        """
        return saved_document(self._document(), path, what="The inspection")

    def _document(self) -> dict[str, Any]:
        body: dict[str, Any] = {"type": "ModelInspection", "version": VERSION, **plain(self)}
        for name, found in self.experiments.items():
            status = "skipped" if isinstance(found, Skipped) else "ok"
            body["experiments"][name] = {"status": status, **body["experiments"][name]}
        return body

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inspection that `to_json` made a text of.

        Args:
            text: The text.

        Raises:
            DataError: If it is none, is damaged, or comes from a later release.
        """
        try:
            document = json.loads(text)
        except ValueError as error:
            raise DataError(f"This is not JSON: {error}.") from error
        if not isinstance(document, dict) or document.get("type") != "ModelInspection":
            raise DataError("This holds no inspection of keras-analyzer: its 'type' is not 'ModelInspection'.")
        version = str(document.get("version"))
        if version.split(".")[0] != VERSION.split(".")[0]:
            raise DataError(f"The inspection has version {version}; this release reads {VERSION}. Update it.")
        try:
            return cls(**_fields(document))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(f"The inspection is damaged: {type(error).__name__}: {error}. Inspect again.") from error

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a saved inspection; needs neither Keras nor matplotlib.

        Args:
            path: The JSON file that `to_json` wrote.

        Raises:
            DataError: If it cannot be read.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise DataError(f"No inspection can be read from {path}: {error}.") from error
        return cls.from_json(text)

    def __repr__(self) -> str:
        done = [name for name, found in self.experiments.items() if isinstance(found, Experiment)]
        return f"ModelInspection({self.model!r}, n={self.n}, {', '.join(done)}; {len(self.suggestions)} suggestions)"


def _fields(document: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: document[name] for name in ("model", "other", "n", "n_shifted", "shifted_by", "seed")}
    fields["experiments"] = {
        name: decode(Skipped if body["status"] == "skipped" else Experiment, body, {})
        for name, body in document["experiments"].items()
    }
    fields["suggestions"] = tuple(_suggestion(body) for body in document["suggestions"])
    fields["suggestions_skipped"] = dict(document["suggestions_skipped"])
    return fields


def _suggestion(body: Mapping[str, Any]) -> Suggestion:
    return Suggestion(
        kind=body["kind"],
        message=body["message"],
        evidence=dict(body["evidence"]),
        effects=tuple(decode(Effect, effect, {}) for effect in body["effects"]),
        channels={layer: tuple(channels) for layer, channels in body["channels"].items()},
    )
