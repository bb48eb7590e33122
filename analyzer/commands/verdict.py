"""The end of every subcommand: rules held against results, everything said, and the exit code."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from analyzer.commands import exits, summary
from analyzer.commands.plugin_tables import plugin_tables
from analyzer.config import ANALYSES, AnalysisConfig
from analyzer.data_types.comparison import Comparison
from analyzer.data_types.results import ANALYSIS_TYPES
from analyzer.errors import ConfigError
from analyzer.progress import printable
from analyzer.sweeps.gate import Rule, RuleOutcome, evaluate
from analyzer.sweeps.quantities import check_rules


def read_rules(texts: Sequence[str], *, open_ended: bool) -> tuple[Rule, ...]:
    """Parse ``--fail-on`` rules and check the quantities that they name, before anything is computed.

    Args:
        texts: The rules as written.
        open_ended: Whether there may be results of plugins.

    Raises:
        ConfigError: If a rule cannot be read or names what no result can have.
    """
    rules = tuple(Rule.parse(text) for text in texts)
    check_rules(rules, ANALYSIS_TYPES | {"comparison": Comparison}, open_ended=open_ended)
    return rules


def check_running(rules: Sequence[Rule], config: AnalysisConfig) -> None:
    """Refuse rules about analyses that are switched off.

    Args:
        rules: The rules.
        config: Which analyses run.

    Raises:
        ConfigError: For the first rule that no result could decide.
    """
    for rule in rules:
        if rule.analysis in ANALYSES and not getattr(config, f"analyze_{rule.analysis}"):
            raise ConfigError(f"The rule {rule.text!r} needs the analysis {rule.analysis!r}, which is switched off.")


def conclude(
    document: Mapping[str, Any],
    rules: Sequence[Rule],
    *,
    quiet: bool,
    asked: Collection[str] = (),
    where: Sequence[str] = (),
) -> int:
    """Print what there is to say about results.

    Args:
        document: A results document.
        rules: What the user does not accept.
        quiet: Print nothing but failed rules and what could not be evaluated.
        asked: Analyses that the user named: skipped, they count as not evaluated.
        where: Lines about the files; printed last.

    Returns:
        The exit code.
    """
    outcomes = evaluate(rules, document)
    skipped = summary.missing(document, "skipped")
    lacking = [line for lines in summary.missing(document, "failed").values() for line in lines]
    lacking += [line for name in asked for line in skipped.pop(name, ())]
    if not quiet:
        _say(*summary.table(document), *plugin_tables(document), "", *summary.findings(document))
        _say(*(line for lines in skipped.values() for line in lines))
    _complain(*lacking, *(outcome.message for outcome in outcomes if outcome.status != "passed"))
    if not quiet:
        _say(*(outcome.message for outcome in outcomes if outcome.status == "passed"), *where)
    return _exit_code(outcomes, evaluated=not lacking)


def _exit_code(outcomes: Sequence[RuleOutcome], *, evaluated: bool) -> int:
    statuses = {outcome.status for outcome in outcomes}
    if "failed" in statuses:
        return exits.RULE_FAILED
    return exits.PASSED if evaluated and "not evaluated" not in statuses else exits.NOT_EVALUATED


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))


def _complain(*lines: str) -> None:
    sys.stdout.flush()
    sys.stderr.write("".join(f"{printable(line)}\n" for line in lines))
