"""Checks that others run on their own analyses and visualizers, alone or with pytest.

    from analyzer.testing import ANALYZER_CHECKS, check_analyzer

    check_analyzer(MyAnalyzer)


    @pytest.mark.parametrize("check", ANALYZER_CHECKS)
    def test_my_analyzer(check):
        check(MyAnalyzer)

Names are resolved on first use: visualizers are checked without Keras.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analyzer.testing.analyzer_checks import ANALYZER_CHECKS, check_analyzer
    from analyzer.testing.visualizer_checks import VISUALIZER_CHECKS, check_visualizer

_HOMES = {
    "ANALYZER_CHECKS": "analyzer.testing.analyzer_checks",
    "VISUALIZER_CHECKS": "analyzer.testing.visualizer_checks",
    "check_analyzer": "analyzer.testing.analyzer_checks",
    "check_visualizer": "analyzer.testing.visualizer_checks",
}

__all__ = ["ANALYZER_CHECKS", "VISUALIZER_CHECKS", "check_analyzer", "check_visualizer"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'analyzer.testing' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
