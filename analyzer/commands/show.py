"""``keras-analyzer show``: saved results in a few lines, held against rules; needs no Keras."""

from __future__ import annotations

import argparse

from analyzer.commands.verdict import conclude, read_rules
from analyzer.data_types.results import AnalysisResults


def run(args: argparse.Namespace) -> int:
    """Print the table and the findings of saved results.

    Args:
        args: Parsed options.

    Returns:
        The exit code.

    Raises:
        ConfigError: If a rule is wrong.
        DataError: If there are no readable results.
    """
    document, _ = AnalysisResults.load(args.results).to_document()
    rules = read_rules(args.fail_on, open_ended=bool(document.get("plugins")))
    return conclude(document, rules, quiet=args.quiet)
