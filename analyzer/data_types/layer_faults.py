"""Which layers turn a moved input into a wrong decision: results of `layers_at_fault`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analyzer.data_types.saved_result import SavedResult, spread
from analyzer.data_types.values import Estimate

OF_LAYERS: Mapping[str, str] = {
    "lost": "Lead of the true class over the strongest other class of the moved sample (difference of logits) that the "
    "move takes away. All shares, those of controls too, are in units of what failures lose on average.",
    "noise_gain": "Relative change of the logits over the relative size of random noise at the layer's result, on the "
    "samples as they are; 1 where nothing grows on the way to the logits.",
    "shift": "Length of the change of the layer's result over the length of that result.",
    "log_amplification": "Logarithm of the shift over that of the layer before that carries all; they add up to the "
    "logarithm of the last shift over the first. Only for layers that carry all.",
    "noising": "Share of the lost lead that the clean run loses with this result from the moved run. Not for layers "
    "that carry all: there it is 1 whatever the layer does.",
    "denoising": "Share of the lost lead that the moved run wins back with this result from the clean run.",
    "share": "Shapley value of the branch: what patching it takes away, averaged over the orders of patching branches. "
    "Branches and what goes around them add up to 1.",
}
"""What the numbers of `LayersAtFault` mean."""


@dataclass(frozen=True, kw_only=True)
class ByGroup:
    """One measure on both groups.

    Attributes:
        failures: On the failures.
        controls: On the controls.
        excess: The first minus the second: what is peculiar to failures.
    """

    failures: Estimate
    controls: Estimate
    excess: Estimate


@dataclass(frozen=True, kw_only=True)
class LayerFault:
    """One call of one layer; see `OF_LAYERS`. None stands for what does not apply to the layer.

    Attributes:
        id: Id of the call.
        kind: Class of the layer, or the name of the operation.
        carries_all: Whether everything goes through it, as found by patching.
        noise_gain: From here to the logits.
        shift: Relative shift of its result.
        log_amplification: Growth of the shift since the layer before that carries all.
        noising: Share that it alone breaks.
        denoising: Share that it alone mends.
    """

    id: str
    kind: str
    carries_all: bool
    noise_gain: ByGroup
    shift: ByGroup
    log_amplification: ByGroup | None = None
    noising: ByGroup | None = None
    denoising: ByGroup | None = None


@dataclass(frozen=True, kw_only=True)
class BranchFault:
    """One branch, by the call that ends it.

    Attributes:
        id: Id of that call.
        kind: Class of its layer.
        share: Its Shapley value as a share of the lost lead.
        order_error: Half width of the 95 % interval, beside that of the share, that comes from sampled orders; 0 where
            every set of branches was tried.
    """

    id: str
    kind: str
    share: ByGroup
    order_error: float


@dataclass(frozen=True, kw_only=True)
class LayersAtFault(SavedResult):
    """Which layers turn a moved input into a wrong decision.

    Attributes:
        n_samples: Samples given.
        n_failures: Decided rightly as they are, wrongly once moved.
        n_controls: Decided rightly both times. The others are decided wrongly as they are, and left out.
        n_used_failures: How many failures the numbers rest on.
        n_used_controls: How many controls.
        lost: Lead that the move takes away, in logits, mean over the samples of a group.
        layers: Every layer, in order of execution.
        branches: The branches, that of the largest share first; empty on a chain.
        around: Share of the lost lead that goes around all branches; None without branches.
        begins_at: Where the chain of amplifications begins: ``"input"``, or the id of a call.
        log_amplification: Sum of the log amplifications of the layers; None where there is none.
        culprit: The branch that does more to the failures than any other, and than what goes around them all, beyond
            doubt; None where none does.
        ahead: By how much the first branch does more than the strongest of these rivals, whether or not beyond doubt;
            None without branches.
        notes: What the reader must know.
        definitions: See `OF_LAYERS`.
    """

    n_samples: int
    n_failures: int
    n_controls: int
    n_used_failures: int
    n_used_controls: int
    lost: ByGroup
    layers: tuple[LayerFault, ...]
    branches: tuple[BranchFault, ...] = ()
    around: ByGroup | None = None
    begins_at: str = "input"
    log_amplification: ByGroup | None = None
    culprit: str | None = None
    ahead: Estimate | None = None
    notes: tuple[str, ...] = ()
    definitions: Mapping[str, str] = field(default_factory=lambda: OF_LAYERS, repr=False)

    @property
    def n_used(self) -> tuple[int, int]:
        """How many failures, and how many controls, the numbers rest on."""
        return self.n_used_failures, self.n_used_controls

    @property
    def accused(self) -> BranchFault | None:
        """The culprit, where it does beyond doubt more to failures than to controls; None where none does."""
        if self.culprit is None or (self.branches[0].share.excess.low or 0.0) <= 0:
            return None
        return self.branches[0]

    @property
    def is_chain(self) -> bool:
        """Whether every layer listed carries all, so that patching whole layers tells none from another."""
        return all(layer.carries_all for layer in self.layers)

    def rows(self) -> list[dict[str, Any]]:
        """A row per layer, in order of execution, then one per branch that no layer listed ends.

        Each measure on failures, on controls, and their excess; ``share`` stands where a branch ends.
        """
        branches = {branch.id: branch for branch in self.branches}
        rows = [self._row(layer.id, layer.kind, layer, branches.pop(layer.id, None)) for layer in self.layers]
        return rows + [self._row(branch.id, branch.kind, None, branch) for branch in branches.values()]

    def _row(self, name: str, kind: str, layer: LayerFault | None, branch: BranchFault | None) -> dict[str, Any]:
        row: dict[str, Any] = {"layer": name, "kind": kind, "carries_all": layer is not None and layer.carries_all}
        for measure in ("noise_gain", "shift", "log_amplification", "noising", "denoising"):
            row |= spread(measure, None if layer is None else getattr(layer, measure), self.lost)
        row |= spread("share", None if branch is None else branch.share, self.lost)
        return row | {"n_failures": self.n_used_failures, "n_controls": self.n_used_controls}

    def _derived(self) -> Mapping[str, Any]:
        return {"is_chain": self.is_chain}
