"""What is found at fault: results of `layers_at_fault` and `units_at_fault`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from analyzer.data_types.values import Estimate
from analyzer.diagnosis.units import By, Index
from analyzer.measures.fault import ByGroup

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

OF_UNITS: Mapping[str, str] = {
    "noising": "What the clean run loses of its lead with this unit from the moved run, in units of what failures lose "
    "on average, as are all shares.",
    "denoising": "What the moved run wins back with this unit from the clean run.",
    "share": "Mean of both: where everything goes through the layer, the Shapley value of the unit against the rest.",
    "conductance": "What flows through the unit along the straight path from the sample to the moved one (Dhamdhere et "
    "al. 2019): a split among the units of one layer, never among layers.",
}
"""What the numbers of `UnitsAtFault` mean; the lead is that of `layers_at_fault`."""


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
class LayersAtFault:
    """Which layers turn a moved input into a wrong decision.

    Attributes:
        n_samples: Samples given.
        n_failures: Decided rightly as they are, wrongly once moved.
        n_controls: Decided rightly both times. The others are decided wrongly as they are, and left out.
        n_used: How many failures, and how many controls, the numbers rest on.
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
    n_used: tuple[int, int]
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
    def is_chain(self) -> bool:
        """Whether every layer listed carries all, so that patching whole layers tells none from another."""
        return all(layer.carries_all for layer in self.layers)


@dataclass(frozen=True, kw_only=True)
class UnitFault:
    """One unit of a layer; see `OF_UNITS`.

    Attributes:
        index: Its number, or its numbers along the axes of positions.
        share: What it does.
        noising: What it alone breaks.
        denoising: What it alone mends.
        conductance: What flows through it; None where that could not be had.
    """

    index: Index
    share: ByGroup
    noising: ByGroup
    denoising: ByGroup
    conductance: ByGroup | None = None


@dataclass(frozen=True, kw_only=True)
class UnitsAtFault:
    """Which units of a layer a failure goes through.

    Attributes:
        layer: Id of the call.
        by: What the units are.
        n_units: How many there are.
        n_samples: Samples given.
        n_failures: Decided rightly as they are, wrongly once moved.
        n_controls: Decided rightly both times.
        n_used: How many failures, and how many controls, the numbers rest on.
        whole: Share of the layer as a whole; 1 on a chain, whatever the layer does.
        units: The units that were patched, that of the largest share first.
        culprit: The unit whose share among the failures is the largest beyond doubt; None where none is.
        ahead: By how much its share is larger than that of the next; None for a single unit.
        notes: What the reader must know.
        definitions: See `OF_UNITS`.
    """

    layer: str
    by: By
    n_units: int
    n_samples: int
    n_failures: int
    n_controls: int
    n_used: tuple[int, int]
    whole: ByGroup
    units: tuple[UnitFault, ...]
    culprit: Index | None = None
    ahead: Estimate | None = None
    notes: tuple[str, ...] = ()
    definitions: Mapping[str, str] = field(default_factory=lambda: OF_UNITS, repr=False)
