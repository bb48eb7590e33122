"""What models are to be compared by: objectives as a user writes them, checked before anything is computed."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analyzer.comparison.quantities import ALIASES, BY_PATH, QUANTITIES, Quantity, first_words, leaves
from analyzer.data_types.metric_names import recognise
from analyzer.data_types.pareto import Direction
from analyzer.data_types.results import ANALYSIS_TYPES
from analyzer.errors import ConfigError

Objectives = Sequence[str] | Mapping[str, str]
"""Names (``"accuracy"``, ``"-performance.metrics.mine"``), or a direction (``"max"``, ``"min"``) by name."""

DEFAULT = ("peak_performance", "overfitting_index")
"""What the guide's picture is about: how good a model gets, and what it pays in generalisation gap."""

DEFAULT_SHOWN = ("epochs_to_convergence",)
"""Further columns of the table, which decide nothing."""

_SIGNS: dict[str, Direction] = {"+": "max", "-": "min"}
_DIRECTIONS: tuple[Direction, ...] = ("max", "min")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One objective as it was asked for.

    Attributes:
        name: As written, without the sign.
        quantity: What it stands for.
        output: The output it is about, for models with several.
        direction: What the user said, else what the quantity says; None where the results have to tell.
        compared: Whether it decides on dominance.
    """

    name: str
    quantity: Quantity
    output: str | None
    direction: Direction | None
    compared: bool = True


def read_objectives(objectives: Objectives | None, plugins: Collection[str] = ()) -> tuple[Wanted, ...]:
    """The objectives that a user asks for.

    A name is a short one (``"ece"``), or a path into the results (``"weights.totals.total"``,
    ``"custom_metrics.my_score"``); ``@`` and an output follow where models have several outputs. Before it, ``+`` or
    ``-`` say that more or less is better, where the table does not know or is not meant.

    Args:
        objectives: Names, or a direction by name; None for the default.
        plugins: Names under which plugins have results.

    Raises:
        ConfigError: For an unknown name or direction, a name without a direction, one given twice, or fewer than two.
    """
    if objectives is None:
        shown = tuple(_wanted(name, None, plugins, compared=False) for name in DEFAULT_SHOWN)
        return tuple(_wanted(name, None, plugins) for name in DEFAULT) + shown
    if isinstance(objectives, str) or not all(isinstance(name, str) for name in objectives):
        raise ConfigError(
            f"objectives={objectives!r}: expected names, as in ['accuracy', 'ece'], or directions by name, as in "
            "{'accuracy': 'max', 'ece': 'min'}."
        )
    pairs = objectives.items() if isinstance(objectives, Mapping) else [(name, None) for name in objectives]
    wanted = tuple(_wanted(name, direction, plugins) for name, direction in pairs)
    seen: set[tuple[Any, ...]] = set()
    for one in wanted:
        if (key := (one.quantity.path, one.output)) in seen:
            raise ConfigError(f"The objective {one.name!r} is given twice.")
        seen.add(key)
    if len(wanted) < 2:
        raise ConfigError(f"objectives={objectives!r}: a trade-off needs at least two objectives.")
    return wanted


def _wanted(text: str, said: str | None, plugins: Collection[str], *, compared: bool = True) -> Wanted:
    sign, name = (text[0], text[1:]) if text[:1] in _SIGNS else ("", text)
    if said is not None and said not in _DIRECTIONS:
        raise ConfigError(f"The objective {name!r}: expected 'max' or 'min' as its direction, got {said!r}.")
    given = said if said is not None else _SIGNS.get(sign)
    base, _, output = name.partition("@")
    quantity = _quantity(base, plugins)
    direction: Direction | None = "max" if given == "max" else "min" if given == "min" else quantity.direction
    if direction is None and quantity.name not in QUANTITIES:
        raise ConfigError(
            f"The objective {name!r}: it is not known which way is better. Write {{{name!r}: 'max'}} or 'min' "
            f"(on the command line, {name}:max)."
        )
    return Wanted(name=name, quantity=quantity, output=output or None, direction=direction, compared=compared)


def _quantity(name: str, plugins: Collection[str]) -> Quantity:
    short = ALIASES.get(name, name)
    if short in QUANTITIES:
        return QUANTITIES[short]
    path = tuple(name.split("."))
    if path in BY_PATH:
        return BY_PATH[path]
    if len(path) < 2 or path[0] not in {*ANALYSIS_TYPES, *plugins}:
        raise _unknown(name, [*QUANTITIES, *ALIASES, *ANALYSIS_TYPES, *plugins])
    if path[0] in ANALYSIS_TYPES and not any(leaves(ANALYSIS_TYPES[path[0]], path[1:])):
        raise _unknown(name, [f"{path[0]}.{word}" for word in dict.fromkeys(first_words(ANALYSIS_TYPES[path[0]]))])
    measured = path[:2] == ("cost", "latency")
    return Quantity(name=name, path=path, label=_label(path), direction=_direction_of(path), measured=measured)


def _unknown(name: str, known: Sequence[str]) -> ConfigError:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return ConfigError(f"Unknown objective {name!r}. Did you mean {near[0]!r}?")
    return ConfigError(f"Unknown objective {name!r}. Known: {', '.join(known)}; or a path as 'weights.health.score'.")


def _label(path: tuple[str, ...]) -> str:
    words = path[2:] if path[1] == "metrics" and len(path) > 2 else path[1:]
    return " ".join(words).replace("_", " ")


def _direction_of(path: tuple[str, ...]) -> Direction | None:
    """The direction of a metric whose name tells it."""
    known = recognise(".".join(path[2:])) if path[:2] == ("performance", "metrics") else None
    return None if known is None else "max" if known[0].direction == "up" else "min"
