"""What a visualizer owes its users, one check for each rule; a check raises `AssertionError` with the rule it names."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.config import AnalysisConfig
from analyzer.data_types import AnalysisResults
from analyzer.errors import ConfigError
from analyzer.testing.comparing import difference, require
from analyzer.testing.watching import writing
from analyzer.visualizers.base import BaseVisualizer
from analyzer.visualizers.isolation import open_figures
from analyzer.visualizers.registry import check_visualizer_class, visualizer_classes
from analyzer.visualizers.style import model_colors

OPTIONS = AnalysisConfig(progress=False, verbose=False, dpi=50)


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """What a visualizer did.

    Attributes:
        error: What it raised, or None.
        files: Name and content of the files in its folder.
        written: Files that were opened for writing elsewhere.
        figures: How many figures were left open.
        settings: Names of Matplotlib's settings that changed.
    """

    error: str | None
    files: dict[str, bytes]
    written: tuple[str, ...]
    figures: int
    settings: tuple[str, ...]


def draw(cls: type[BaseVisualizer], results: AnalysisResults, config: AnalysisConfig = OPTIONS) -> Drawing:
    """Let a visualizer draw into an empty folder.

    Args:
        cls: The visualizer.
        results: What it draws.
        config: The options.
    """
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name).resolve() / "figures"
        rc, figures, error = _settings(), open_figures(), None
        files = stack.enter_context(writing())
        try:
            cls(results, config, folder, model_colors(results.model_names)).create_visualizations()
        except Exception as raised:  # noqa: BLE001 - whatever it is, the check says it
            error = f"{type(raised).__name__}: {raised}"
        left, now = open_figures() - figures, _settings()
        for number in left:
            sys.modules["matplotlib.pyplot"].close(number)
        sys.modules["matplotlib"].rcParams.update({key: rc[key] for key in rc if rc[key] != now.get(key)})
        made = sorted(folder.rglob("*")) if folder.exists() else []
        return Drawing(
            error=error,
            files={path.relative_to(folder).as_posix(): path.read_bytes() for path in made if path.is_file()},
            written=tuple(path for path in files if not str(Path(path).resolve()).startswith(str(folder))),
            figures=len(left),
            settings=tuple(key for key in rc if rc[key] != now.get(key)),
        )


def _settings() -> dict[str, Any]:
    # The window system is chosen when the first figure is made, by whoever makes it.
    return {key: value for key, value in sys.modules["matplotlib"].rcParams.items() if not key.startswith("backend")}


def check_name_is_legal(cls: type[BaseVisualizer], results: AnalysisResults) -> None:
    """The class is a `BaseVisualizer`, and its name is a word that nobody else has."""
    del results
    if isinstance(cls, type) and visualizer_classes().get(getattr(cls, "name", "")) is cls:
        return
    try:
        check_visualizer_class(cls)
    except ConfigError as error:
        raise AssertionError(f"{cls!r} breaks the rule 'the name is legal': {error}") from error


def check_it_draws(cls: type[BaseVisualizer], results: AnalysisResults) -> None:
    """It draws the results, fresh ones and those of a file, without an error."""
    with tempfile.TemporaryDirectory() as folder:
        loaded = AnalysisResults.load(results.to_json(folder))
    for what, given in (("fresh results", results), ("results that were loaded", loaded)):
        error = draw(cls, given).error
        require(error is None, cls, "it draws fresh and loaded results", f"with {what}: {error}")


def check_nothing_to_draw(cls: type[BaseVisualizer], results: AnalysisResults) -> None:
    """Where there is nothing for it to draw, it draws nothing and raises nothing."""
    error = draw(cls, AnalysisResults(results.model_names)).error
    require(error is None, cls, "it does nothing where there is nothing to draw", f"with empty results: {error}")


def check_figures_are_closed(cls: type[BaseVisualizer], results: AnalysisResults) -> None:
    """No figure is left open."""
    drawn = draw(cls, results)
    found = f"{drawn.figures} are open: end with plt.close(fig)"
    require(not drawn.figures, cls, "no figure is left open", found)


def check_settings_are_kept(cls: type[BaseVisualizer], results: AnalysisResults) -> None:
    """Matplotlib's settings are as they were."""
    drawn = draw(cls, results)
    found = f"these changed: {', '.join(drawn.settings[:5])}; draw within matplotlib.rc_context()"
    require(not drawn.settings, cls, "Matplotlib's settings are kept", found)


def check_files_are_its_own(cls: type[BaseVisualizer], results: AnalysisResults) -> None:
    """Files are written by `_save_figure` into the folder given, and only where ``save_plots`` asks for them."""
    drawn = draw(cls, results)
    require(not drawn.written, cls, "files are written into output_dir only", f"it wrote {', '.join(drawn.written)}")
    off = draw(cls, results, dataclasses.replace(OPTIONS, save_plots=False))
    quiet = not off.files and not off.written
    require(quiet, cls, "save_plots=False writes nothing", f"it wrote {', '.join([*off.files, *off.written])}")


def check_results_are_untouched(cls: type[BaseVisualizer], results: AnalysisResults) -> None:
    """The results are the same afterwards."""
    before = results.to_document()[0]
    draw(cls, results)
    found = difference(before, results.to_document()[0])
    require(not found, cls, "results are untouched", f"before and after {found}")


def check_same_bytes(cls: type[BaseVisualizer], results: AnalysisResults) -> None:
    """Equal results give files of equal bytes."""
    one, other = draw(cls, results).files, draw(cls, results).files
    names = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
    require(not names, cls, "equal results give equal files", f"two runs differ in {', '.join(names)}")


VISUALIZER_CHECKS: list[Callable[[type[BaseVisualizer], AnalysisResults], None]] = [
    check_name_is_legal,
    check_it_draws,
    check_nothing_to_draw,
    check_figures_are_closed,
    check_settings_are_kept,
    check_files_are_its_own,
    check_results_are_untouched,
    check_same_bytes,
]
"""Every check: ``@pytest.mark.parametrize("check", VISUALIZER_CHECKS)``, called with the class and results."""


def check_visualizer(cls: type[BaseVisualizer], results: AnalysisResults) -> None:
    """Check that a visualizer keeps the rules that `ModelAnalyzer` and its users rely on.

    Args:
        cls: A subclass of `BaseVisualizer`.
        results: Results that it has something to draw of.

    Raises:
        AssertionError: For the first rule that is broken; the message names it.
    """
    for check in VISUALIZER_CHECKS:
        check(cls, results)
