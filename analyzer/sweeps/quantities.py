"""Which quantities a rule may name, read from the results' type hints: a misspelt one is told before computing."""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

from analyzer.config import check_names
from analyzer.data_types.values import Estimate, Failed, Skipped
from analyzer.errors import ConfigError
from analyzer.sweeps.gate import Rule

NO_RESULTS = (Failed, Skipped)


def check_rules(rules: Sequence[Rule], hints: Mapping[str, Any], *, open_ended: bool = False) -> None:
    """Refuse rules about quantities that no result can have.

    Args:
        rules: The rules.
        hints: Type hint of one model's result, by the name of the analysis.
        open_ended: Whether there may be results under other names, as plugins give them.

    Raises:
        ConfigError: For the first quantity that cannot exist, with the nearest one that can.
    """
    for rule in rules:
        if not open_ended:
            try:
                check_names([rule.analysis], ("findings", *hints), what="analysis")
            except ConfigError as error:
                raise ConfigError(f"The rule {rule.text!r}: {error}") from error
        if rule.analysis in hints and not rule.counts_findings:
            _check_quantity(rule, hints[rule.analysis])


def _check_quantity(rule: Rule, hint: Any) -> None:
    leaves = list(_leaves(hint, rule.path[1:]))
    name = ".".join(rule.path[1:])
    if not leaves:
        known = list(dict.fromkeys(_fields(hint)))
        near = difflib.get_close_matches(rule.path[1], known, n=1)
        hint_text = f"Did you mean {near[0]!r}?" if near else f"There is {', '.join(known)}."
        raise ConfigError(f"The rule {rule.text!r}: {rule.analysis} has no number {name!r}. {hint_text}")
    if rule.end != "value" and not any(leaf in (Estimate, Any) for leaf in leaves):
        raise ConfigError(f"The rule {rule.text!r}: {rule.analysis}.{name} is a plain number without {rule.end!r}.")


def _leaves(hint: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """The types of number that a path can lead to."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        for option in get_args(hint):
            yield from _leaves(option, path)
    elif not path:
        if hint in (Estimate, int, float, bool, Any):
            yield hint
    elif hint is Any:
        yield hint
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
        fields = get_type_hints(hint)
        if path[0] in fields:
            yield from _leaves(fields[path[0]], path[1:])
    elif origin is tuple or (isinstance(origin, type) and issubclass(origin, Mapping)):
        item = get_args(hint)[0 if origin is tuple else 1]
        # A key or the id of an item is any text, also one with dots.
        for length in range(1, len(path) + 1):
            yield from _leaves(item, path[length:])


def _fields(hint: Any) -> Iterator[str]:
    """The first words of the paths that lead somewhere."""
    if get_origin(hint) in (Union, types.UnionType):
        for option in get_args(hint):
            yield from _fields(option)
    elif dataclasses.is_dataclass(hint) and hint not in NO_RESULTS:
        yield from (field.name for field in dataclasses.fields(hint) if field.name != "findings")
