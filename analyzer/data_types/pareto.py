"""Which models are the best trade-offs between several objectives: the result of the Pareto analysis."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from analyzer.data_types.values import Estimate

Direction = Literal["max", "min"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One quantity by which models are compared.

    Attributes:
        name: As it was asked for, e.g. ``"ece"`` or ``"weights.totals.total"``.
        label: What it is called on figures, e.g. ``"Peak val_accuracy"``.
        direction: ``"max"`` where more is better.
        compared: Whether it decides on dominance; False for a column that is shown for information only.
        measured: Whether it differs between two equal runs, as times do.
        counted: How its values are counted where not as measured; empty where they are.
    """

    name: str
    label: str
    direction: Direction
    compared: bool = True
    measured: bool = False
    counted: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class ParetoModel:
    """One model among the others.

    Attributes:
        values: Each quantity as measured, by name of the objective; None where the model has none.
        counted: What was compared, by name of the objective: as measured, except that no negative gap counts as a
            gain and that an under-fitted model does not profit from its small gap; empty where the model is left out.
        normalized: The counted values between the worst (0) and the best (1) of the compared models, by name; None
            where missing, or where all are equal and there is neither.
        rank: 1 on the front, 2 on the front of those that remain without it, and so on; None where left out.
        dominated_by: The models of better rank that dominate it; empty on the front.
        under_fitted: Whether it does worse on its training data than the best model does on validation data; judged
            where a generalisation gap is compared.
        left_out: Why the model is not compared; None where it is.
        notes: What is remarkable about its values: that it is under-fitted, that a number is missing.
    """

    values: dict[str, Estimate | None]
    counted: dict[str, Estimate] = field(default_factory=dict)
    normalized: dict[str, float | None] = field(default_factory=dict)
    rank: int | None = None
    dominated_by: tuple[str, ...] = ()
    under_fitted: bool = False
    left_out: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class ParetoResult:
    """The best trade-offs among models.

    Model A dominates B where it is better beyond uncertainty in an objective, and B beyond uncertainty in none. No
    model of the front dominates another of it, and every other compared model is dominated by one of the front. A
    model that lacks a value of an objective is left out with the reason: it neither dominates nor is dominated.

    Attributes:
        objectives: What is compared, and columns shown for information, in the order given.
        models: Every model by name, in the order given.
        front: The best trade-offs, sorted along the first objective from worst to best.
        knee: The model of the front that bulges most beyond the line (plane) through its extremes.
        knee_reason: Why there is none; None where there is.
        hypervolume: Share of the box from the best values to a point a tenth of the range beyond the worst ones that
            the front dominates; None where it was not computed.
        hypervolume_reason: Why there is none; None where there is.
    """

    objectives: tuple[Objective, ...]
    models: dict[str, ParetoModel]
    front: tuple[str, ...] = ()
    knee: str | None = None
    knee_reason: str | None = None
    hypervolume: float | None = None
    hypervolume_reason: str | None = None

    @property
    def compared(self) -> tuple[str, ...]:
        """Names of the models that were compared."""
        return tuple(name for name, model in self.models.items() if model.left_out is None)

    @property
    def left_out(self) -> dict[str, str]:
        """Reason by name of each model that was not compared."""
        return {name: model.left_out for name, model in self.models.items() if model.left_out is not None}

    @property
    def axes(self) -> tuple[Objective, ...]:
        """The objectives that decide on dominance."""
        return tuple(objective for objective in self.objectives if objective.compared)
