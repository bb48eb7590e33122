"""``keras-analyzer plot``: the figures of saved results, drawn again; needs no Keras."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from analyzer.commands import exits
from analyzer.commands.options import FIELDS
from analyzer.config import AnalysisConfig
from analyzer.data_types.results import AnalysisResults
from analyzer.errors import OutputError
from analyzer.progress import printable


def run(args: argparse.Namespace) -> int:
    """Draw every figure of saved results.

    Args:
        args: Parsed options.

    Returns:
        The exit code: a figure that cannot be drawn counts as not evaluated, and costs no other.

    Raises:
        DataError: If there are no readable results.
        OutputError: If the folder cannot be written.
    """
    from analyzer.visualizers.registry import visualizer_classes
    from analyzer.visualizers.style import model_colors

    results = AnalysisResults.load(args.results)
    config = _config(results, args)
    folder = _folder(args)
    colors = model_colors(list(results.model_names))
    code = exits.PASSED
    for name, visualizer in visualizer_classes().items():
        try:
            visualizer(results, config, folder, colors).create_visualizations()
        except Exception as error:  # noqa: BLE001 - one broken picture must not cost another
            sys.stderr.write(f"figure {name!r} failed: {type(error).__name__}: {printable(str(error))}\n")
            code = exits.NOT_EVALUATED
    if not args.quiet:
        sys.stdout.write(f"figures: {printable(str(folder))}\n")
    return code


def _config(results: AnalysisResults, args: argparse.Namespace) -> AnalysisConfig:
    """The options of the analysis, with those of the command line in their place."""
    saved = {name: value for name, value in results.provenance.get("config", {}).items() if name in FIELDS}
    given = {name: value for name, value in vars(args).items() if name in FIELDS}
    return dataclasses.replace(AnalysisConfig(**saved), **given, save_plots=True)


def _folder(args: argparse.Namespace) -> Path:
    beside: Path = args.results if args.results.is_dir() else args.results.parent
    folder: Path = args.output_dir or beside
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The output folder {str(folder)!r} cannot be made: {error.strerror}.") from error
    return folder
