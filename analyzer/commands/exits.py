"""What the exit code of ``keras-analyzer`` means, the same for every subcommand."""

from __future__ import annotations

from analyzer.errors import AnalyzerError, DeviceMemoryError, ModelError, Unsupported

PASSED = 0
RULE_FAILED = 1
"""A ``--fail-on`` condition holds. Goes before `NOT_EVALUATED`: what else is missing cannot make it pass."""
WRONG_USE = 2
"""An option, the data or the output folder is wrong."""
NOT_EVALUATED = 3
"""Something asked for could not be evaluated: a model did not open, an analysis or a rule has no result."""
INTERRUPTED = 130
"""Stopped by Ctrl-C: 128 + SIGINT, as everywhere."""


def code_of(error: AnalyzerError) -> int:
    """The exit code that an error stands for.

    Args:
        error: What stopped the program.
    """
    return NOT_EVALUATED if isinstance(error, ModelError | DeviceMemoryError | Unsupported) else WRONG_USE
