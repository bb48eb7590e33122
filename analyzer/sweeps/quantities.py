"""Which quantities a rule may name, read from the results' type hints: a misspelt one is told before computing."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from analyzer.comparison.quantities import first_words, leaves
from analyzer.config import check_names
from analyzer.data_types.values import Estimate
from analyzer.errors import ConfigError
from analyzer.sweeps.gate import Rule


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
    ends = list(leaves(hint, rule.path[1:]))
    name = ".".join(rule.path[1:])
    if not ends:
        known = list(dict.fromkeys(first_words(hint)))
        near = difflib.get_close_matches(rule.path[1], known, n=1)
        hint_text = f"Did you mean {near[0]!r}?" if near else f"There is {', '.join(known)}."
        raise ConfigError(f"The rule {rule.text!r}: {rule.analysis} has no number {name!r}. {hint_text}")
    if rule.end != "value" and not any(end in (Estimate, Any) for end in ends):
        raise ConfigError(f"The rule {rule.text!r}: {rule.analysis}.{name} is a plain number without {rule.end!r}.")
