"""What can be intervened on: outputs of layers, some of their units, and weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, Protocol, Self

import keras
import numpy as np

from analyzer.config import check_names
from analyzer.errors import ConfigError, DataError
from analyzer.inspection.edits import Change, Part, Unit, Verb, part_of
from analyzer.inspection.selection import Layers, select_layers
from analyzer.inspection.view import ModelView, VariableInfo

To = Literal["zero", "mean"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rule:
    """An intervention on what some layers return."""

    layers: Layers
    change: Change


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightRule:
    """An intervention on some variables."""

    variables: tuple[keras.Variable, ...]
    index: Any
    change: Change


class Session(Protocol):
    """Where interventions are kept."""

    @property
    def view(self) -> ModelView:
        """The opened model."""

    def add(self, rule: Rule | WeightRule) -> None:
        """Append an intervention."""

    def read(self, layers: Layers) -> None:
        """Record these layers from now on."""


class _Target(ABC):
    """Something that can be changed."""

    @abstractmethod
    def _change(self, verb: Verb, value: Any = None) -> Self:
        """Add an intervention."""

    def replace(self, value: Any) -> Self:
        """Put a value in its place.

        Args:
            value: For an output: a number, an array that broadcasts to the output for one sample, an array with one row
                per sample of x (for instance what was recorded on other data), or a function of the backend's tensor
                that was returned; a function on a whole layer receives all that the layer returns, in its structure.
                For weights: a number, an array, or a function of the NumPy array.
        """
        return self._change("replace", value)

    def scale(self, factor: float) -> Self:
        """Multiply it.

        Args:
            factor: A number.

        Raises:
            ConfigError: If it is none.
        """
        return self._change("scale", _number(factor))

    def ablate(self, to: To = "zero") -> Self:
        """Take away what it says.

        Args:
            to: ``"zero"``, or ``"mean"``: for an output its mean over the samples of x in the clean model, for each
                position and unit; for weights the mean of those chosen.

        Raises:
            ConfigError: If it is neither.
        """
        if to not in ("zero", "mean"):
            raise ConfigError(f"ablate(to={to!r}): expected 'zero' or 'mean'; replace(value) puts in any other value.")
        return self._change(to)


class LayerTarget(_Target):
    """What some layers return; from ``layers[...]``."""

    def __init__(self, session: Session, layers: Layers) -> None:
        self._session = session
        self._layers = layers

    def _change(self, verb: Verb, value: Any = None) -> Self:
        self._session.add(Rule(layers=self._layers, change=Change(verb=verb, value=value)))
        return self

    def record(self) -> Self:
        """Keep what the layers are called with and hand on; read it from `Interventions.recorded` after a call."""
        self._session.read(self._layers)
        return self

    def unit(self, index: Unit, axis: int = -1) -> UnitTarget:
        """Some units of the output.

        Args:
            index: Number of a unit, or a list of numbers; negative ones count from the end.
            axis: The axis they are counted on, not the first, which is the sample. The last holds the channels, unless
                the layer's `data_format` is ``"channels_first"``: then they are on axis 1.
        """
        return UnitTarget(self._session, self._layers, part_of(index, axis))

    def weight(self, name: str, index: Any = None) -> WeightTarget:
        """A variable of the layers, or some values of it.

        Where several layers use one variable, the intervention is seen by all of them.

        Args:
            name: Its name (``"kernel"``) or the end of its id (``"query/kernel"`` of an attention layer).
            index: NumPy index of the values, for instance ``(0, 5)`` for a single weight; None for all.

        Raises:
            ConfigError: If there is no such variable, or more than one in a layer.
            DataError: If the index does not fit it, or it is not stored as floating-point numbers.
        """
        return WeightTarget(self._session, _variables(self._session.view, self._layers, name), index)


class UnitTarget(_Target):
    """Some units of what layers return; from `LayerTarget.unit`."""

    def __init__(self, session: Session, layers: Layers, part: Part) -> None:
        self._session = session
        self._layers = layers
        self._part = part

    def _change(self, verb: Verb, value: Any = None) -> Self:
        self._session.add(Rule(layers=self._layers, change=Change(verb=verb, value=value, part=self._part)))
        return self


class WeightTarget(_Target):
    """Values of variables; from `LayerTarget.weight`."""

    def __init__(self, session: Session, variables: tuple[keras.Variable, ...], index: Any) -> None:
        for variable in variables:
            # Refuses an index that does not fit, before anything runs.
            Change(verb="zero").of_values(np.zeros(variable.shape), index)
        self._session = session
        self._variables = variables
        self._index = index

    def _change(self, verb: Verb, value: Any = None) -> Self:
        change = Change(verb=verb, value=value)
        self._session.add(WeightRule(variables=self._variables, index=self._index, change=change))
        return self


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(f"scale({value!r}): expected a number; replace(function) does anything else.")
    return float(value)


def _variables(view: ModelView, layers: Layers, name: str) -> tuple[keras.Variable, ...]:
    """The variable of that name in each of some layers."""
    found: list[keras.Variable] = []
    known: list[VariableInfo] = []
    for info in select_layers(view, layers):
        own = {id(variable) for variable in getattr(info.layer, "weights", ())}
        infos = [one for one in view.variables if id(one.variable) in own]
        named = [one for one in infos if one.name == name] or [
            one for one in infos if f"/{one.id}".endswith(f"/{name}")
        ]
        if len(named) > 1:
            ids = ", ".join(repr(one.id) for one in named)
            raise ConfigError(f"Layer {info.id!r} has {len(named)} variables {name!r}: {ids}. Give the end of an id.")
        known.extend(infos)
        found.extend(one.variable for one in named)
    if not found:
        check_names([name], list(dict.fromkeys([one.name for one in known] + [one.id for one in known])), what="weight")
    for variable in found:
        if not keras.backend.is_float_dtype(variable.dtype):
            raise DataError(
                f"The weight {variable.path!r} is stored as {variable.dtype}, so a changed value would be rounded. "
                "Intervene on the layer's output, or on the model before it was quantised."
            )
    return tuple(found)
