"""How far the inputs of one model must move before it decides wrongly, and what corruptions cost it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.config import Norm, Tier
from analyzer.data_types.layer_faults import LayersAtFault
from analyzer.data_types.serialization import MEASURED
from analyzer.data_types.values import Estimate, Finding, flat_row


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """What an attacker may do: inputs stay within bounds, and not further than ε from the sample.

    Attributes:
        norm: Norm of the step.
        epsilon_max: The largest radius looked at, in the units of the data.
        low: Smallest value of inputs.
        high: Largest value of inputs.
        bounds_source: Where the bounds come from.
        tier: ``"screen"``: multi-targeted margin PGD. ``"standard"``: APGD on cross-entropy and targeted APGD as well.
            ``"full"``: AutoAttack standard as well (Croce & Hein 2020).
    """

    norm: Norm
    epsilon_max: float
    low: float
    high: float
    bounds_source: str
    tier: Tier


@dataclass(frozen=True, kw_only=True)
class MaskingFlag:
    """A sign that an attack may have failed for another reason than robustness.

    Attributes:
        name: What was seen, as a stable identifier.
        severity: ``"withholds"`` if the attack could not get round it, so that there is no score; else ``"note"``.
        value: What was measured: a share of the samples, or the number of classes where these are too few.
        n: Samples that it was judged on, those decided rightly.
        message: One sentence for people, with the numbers.
    """

    name: str
    severity: Literal["note", "withholds"]
    value: float
    n: int
    message: str


@dataclass(frozen=True, kw_only=True)
class ClassRobustness:
    """Robustness of the samples of one class.

    Attributes:
        label: The class.
        name: Its name.
        clean_accuracy: Share decided rightly as they are.
        aura: See `RobustnessResult`; None where the score is withheld.
    """

    label: int
    name: str
    clean_accuracy: Estimate
    aura: Estimate | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class RobustCurve:
    """Robust accuracy by radius, from one run in which what fell at one radius counts at all larger ones.

    Attributes:
        epsilon: ``(k,)`` radii in the units of the data, from 0.
        accuracy: ``(k,)`` share of samples for which no wrong decision was found within the radius.
        low: ``(k,)`` lower end of Wilson's 95 % interval.
        high: ``(k,)`` upper end.
    """

    epsilon: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class AdversarialExample:
    """One sample and the nearest input found that is decided wrongly.

    Attributes:
        index: Position of the sample in the user's data.
        label: Its class.
        decided: The class decided for the moved input.
        distance: Length of the step, in the units of the data.
        values: ``(...)`` the sample.
        moved: ``(...)`` the moved input.
    """

    index: int
    label: str
    decided: str
    distance: float
    values: NDArray[np.float32]
    moved: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class CorruptionResult:
    """Accuracy under corruptions that nobody intends (Hendrycks & Dietterich 2019).

    Attributes:
        kind: The kind of input: ``"image"``, ``"table"``, ``"tokens"``, ``"series"`` or ``"tensor"``.
        source: Where the severities come from.
        n: Samples.
        n_seeds: Runs that each cell of a random corruption is the mean of.
        corruptions: ``c`` names.
        accuracy: ``(c, 5)`` by severity.
        relative_drop: ``(c, 5)`` share of the clean accuracy that is lost; NaN where that is 0.
        flip_rate: ``(c, 5)`` share of decisions that are others than without the corruption; NaN where rows are drawn.
        mean_accuracy: Mean over all cells.
        mean_relative_drop: Mean over all cells.
        worst_corruption: Of the cell of lowest accuracy.
        worst_severity: Of that cell, from 1.
        worst_accuracy: Accuracy in that cell.
        skipped: Reason by name, for corruptions that do not apply to these data.
    """

    kind: str
    source: str
    n: int
    n_seeds: int
    corruptions: tuple[str, ...]
    accuracy: NDArray[np.float64]
    relative_drop: NDArray[np.float64]
    flip_rate: NDArray[np.float64]
    mean_accuracy: Estimate
    mean_relative_drop: Estimate
    worst_corruption: str
    worst_severity: int
    worst_accuracy: float
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class RobustnessResult:
    """Robustness of one model against attacks and corruptions over a stratified sample.

    Attacks give upper bounds: what was not found may still exist. AURA is the area under the curve of robust accuracy
    up to ``epsilon_max``, over that radius: the mean of ``min(d, epsilon_max) / epsilon_max`` with the distance d to a
    wrong decision, 0 for samples that are decided wrongly as they are (a tie of logits is wrong). It is 0 where nothing
    survives and at most the clean accuracy; it does not change with the scale of logits or of weights that cancel.

    Attributes:
        findings: What is wrong or remarkable.
        n: Samples attacked.
        seed: Seed of the draw of samples, of random starts and of intervals.
        aura: The score; None where a flag withholds it or the model was not attacked.
        withheld: Why there is no score; None where there is one.
        clean_accuracy: Share of the samples that is decided rightly as it is.
        robust_accuracy: Share that is still decided rightly at ``epsilon_max``; None as `aura`.
        threat: What the attacker may do; None where the model was not attacked.
        curve: Robust accuracy by radius; None where the model was not attacked.
        flags: What may have misled the attacks.
        classes: By class, where there are samples of it.
        corruptions: Accuracy under corruptions; None where there is none.
        examples: The samples of the nearest wrong decisions.
        layers: Which layers are at fault for the wrong decisions found; None where that cannot be told, with the reason
            among the notes.
        distance: ``(n,)`` distance to the nearest wrong decision found, in the units of the data: 0 for samples decided
            wrongly as they are, NaN where none was found within ``epsilon_max``.
        indices: ``(n,)`` positions of the samples in the user's data.
        notes: What the reader must know.
        seconds: Time of the attacks, compiling included.
    """

    findings: tuple[Finding, ...] = ()
    n: int
    seed: int
    aura: Estimate | None = None
    withheld: str | None = None
    clean_accuracy: Estimate
    robust_accuracy: Estimate | None = None
    threat: ThreatModel | None = None
    curve: RobustCurve | None = None
    flags: tuple[MaskingFlag, ...] = ()
    classes: tuple[ClassRobustness, ...] = ()
    corruptions: CorruptionResult | None = None
    examples: tuple[AdversarialExample, ...] = ()
    layers: LayersAtFault | None = None
    distance: NDArray[np.float64] | None = None
    indices: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()
    seconds: float | None = field(default=None, metadata=MEASURED)

    def rows(self) -> list[dict[str, Any]]:
        """One row, for `AnalysisResults.to_frame`."""
        return [flat_row(self)]
