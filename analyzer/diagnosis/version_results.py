"""What `compare_versions` finds: change of outputs, likeness of layers, and the layer that brought the change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from analyzer.data_types.comparison import LayerCka
from analyzer.data_types.saved_result import SavedResult
from analyzer.data_types.values import Skipped, flat_row
from analyzer.diagnosis.weight_swap import OF_SWAPS, LayerSwap, WeightSwap
from analyzer.errors import ConfigError, Unsupported
from analyzer.measures.versions import Flips, PairedMeans

OF_VERSIONS: Mapping[str, str] = {
    "churn": "Share of samples whose decision changed. Accuracies and the rates of negative flips (from right to "
    "wrong) and positive ones are shares of samples too; relative_churn and relative_negative_flips are over those of "
    "two unrelated models of the same accuracies.",
    "net": "McNemar's test: b samples only the old version has right, c only the new; change is (c - b)/n.",
    "loss": "Mean over samples of the loss of the output's task, in nats where that is a cross-entropy; change is new "
    "less old.",
    "cka": "Unbiased linear CKA of what two calls return for the same samples: 1 where they represent them alike, "
    "missing where one does not vary.",
    **OF_SWAPS,
}
"""What the numbers of `VersionComparison` mean."""

_BROUGHT = ("change", "change_low", "change_high", "share")
"""Columns of what a layer's new weights brought."""


@dataclass(frozen=True, kw_only=True)
class OutputChange:
    """What changed in one output.

    Attributes:
        flips: Churn, flips and change by class; `Skipped` unless the output decides once per sample among classes.
        loss: Mean loss of both versions and its change; `Skipped` where the task has no loss.
    """

    flips: Flips | Skipped
    loss: PairedMeans | Skipped


@dataclass(frozen=True, kw_only=True)
class LayerPair:
    """A call of a layer in both versions.

    Attributes:
        old: Id of the call in the old version.
        new: Id of the call in the new version.
        cka: Unbiased linear CKA of what it returns, 1 where it represents the samples alike; None where it does not
            vary.
    """

    old: str
    new: str
    cka: float | None


@dataclass(frozen=True, kw_only=True)
class VersionComparison(SavedResult):
    """Two versions of a model on the same samples.

    Attributes:
        n: Samples.
        outputs: Change of each output, by its name in the old version; `Skipped` where the versions have other outputs,
            or outputs that are not finite.
        cka: CKA of all layers of the old version (rows) with all of the new (columns).
        layers: CKA of the layers that are the same in both, in order of execution.
        weight_swap: Which layer's weights brought the change.
        definitions: See `OF_VERSIONS`.
    """

    columns: ClassVar[tuple[str, ...]] = ("old", "new", "cka", *_BROUGHT)

    n: int
    outputs: Mapping[str, OutputChange] | Skipped
    cka: LayerCka | Skipped
    layers: tuple[LayerPair, ...]
    weight_swap: WeightSwap | Skipped
    definitions: Mapping[str, str] = field(default_factory=lambda: OF_VERSIONS, repr=False)

    def output(self, name: str | None = None) -> OutputChange:
        """The change of one output.

        Args:
            name: Its name in the old version; None for the only one.

        Raises:
            Unsupported: If outputs could not be compared.
            ConfigError: If there is no such output, or there are several and none is named.
        """
        if isinstance(self.outputs, Skipped):
            raise Unsupported(self.outputs.reason)
        if name is None and len(self.outputs) == 1:
            return next(iter(self.outputs.values()))
        if name is None or name not in self.outputs:
            raise ConfigError(f"output({name!r}): expected one of {', '.join(self.outputs)}.")
        return self.outputs[name]

    def rows(self) -> list[dict[str, Any]]:
        """A row per pair of calls, then one per swapped layer that is in none: CKA, and the change it brought.

        What a layer brought stands in the row of its first call, so that a column adds up.
        """
        swaps = {} if isinstance(self.weight_swap, Skipped) else {swap.layer: swap for swap in self.weight_swap.layers}
        rows = [_pair_row(pair.old, pair.new, pair.cka, swaps.pop(pair.old, None)) for pair in self.layers]
        return rows + [_pair_row(swap.layer, swap.new_layer, None, swap) for swap in swaps.values()]

    def _derived(self) -> Mapping[str, Any]:
        return {"culprit": None if isinstance(self.weight_swap, Skipped) else self.weight_swap.culprit}


def _pair_row(old: str, new: str, cka: float | None, swap: LayerSwap | None) -> dict[str, Any]:
    row = {"old": old, "new": new, "cka": cka}
    return row | (dict.fromkeys(_BROUGHT) if swap is None else {name: flat_row(swap)[name] for name in _BROUGHT})
