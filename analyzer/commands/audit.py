"""``keras-analyzer audit``: model files and data in, results, figures and an exit code out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from analyzer.commands import options
from analyzer.commands.backend import choose_backend, import_modules
from analyzer.commands.verdict import check_running, conclude, read_rules
from analyzer.config import AnalysisConfig
from analyzer.data_types.data_file import load_npz
from analyzer.data_types.data_input import DataInput
from analyzer.data_types.files import JSON_NAME
from analyzer.sweeps.gate import Rule


def run(args: argparse.Namespace) -> int:
    """Audit model files.

    Args:
        args: Parsed options.

    Returns:
        The exit code.

    Raises:
        AnalyzerError: If options, data or files are wrong; before anything is computed where that can be known.
    """
    rules = read_rules(args.fail_on, open_ended=bool(args.modules))
    # From here on Keras may be imported, so its backend is settled first.
    settle_backend(args)
    from analyzer.inspection.names import model_names_from_paths

    paths = model_names_from_paths(args.models)
    histories = options.read_histories(args.history, tuple(paths))
    import_modules(args.modules)
    known = known_analyses()
    config = options.read_config(args, analyses=known)
    check_running(rules, config)
    chosen = options.chosen_analyses(args.analyses, known)
    data, reference = (
        None if path is None else DataInput(*load_npz(path)) for path in (args.data, args.reference_data)
    )
    # "all" asks for whatever applies; a name asks for that analysis.
    asked = () if chosen is None or set(chosen) == set(known) else chosen
    return audit(
        paths,
        histories,
        data,
        config,
        args.output_dir,
        reference=reference,
        analyses=chosen,
        rules=rules,
        asked=asked,
        quiet=args.quiet,
    )


def settle_backend(args: argparse.Namespace) -> None:
    """Choose Keras' backend and say so where the user did not.

    Args:
        args: Parsed options.
    """
    told = choose_backend(args.backend)
    if told and not args.quiet:
        sys.stderr.write(f"keras-analyzer: {told}\n")


def known_analyses() -> tuple[str, ...]:
    """Names of all analyses, those of plugins included."""
    from analyzer.analyzers.registry import analyzer_classes

    return tuple(analyzer_classes())


def audit(
    models: Mapping[str, Path],
    histories: Mapping[str, Path],
    data: DataInput | None,
    config: AnalysisConfig,
    output_dir: Path,
    *,
    reference: DataInput | None = None,
    analyses: Sequence[str] | None = None,
    rules: Sequence[Rule] = (),
    asked: Collection[str] = (),
    quiet: bool = False,
) -> int:
    """Analyse models, print what came out, and judge it.

    Args:
        models: Model files by name.
        histories: Training logs by model name.
        data: Samples and labels; None skips what needs them.
        config: The options.
        output_dir: Where results and figures go.
        reference: Data to compare these with; None without.
        analyses: Names of the analyses to run; None runs those that the configuration switches on.
        rules: What the user does not accept.
        asked: Analyses that the user named: skipped, they count as not evaluated.
        quiet: Print nothing but failed rules and what could not be evaluated.

    Returns:
        The exit code.
    """
    from analyzer.model_analyzer import ModelAnalyzer

    analyzer = ModelAnalyzer(models, histories or None, config, output_dir)
    results = analyzer.analyze(data, reference, analysis_types=analyses)
    document, _ = results.to_document()
    return conclude(document, rules, quiet=quiet, asked=asked, where=_where(output_dir, config))


def _where(folder: Path, config: AnalysisConfig) -> list[str]:
    lines = [f"results: {folder / JSON_NAME}"]
    dashboard = folder / f"summary_dashboard.{config.save_format}"
    if config.save_plots and dashboard.is_file():
        others = len(list(folder.glob(f"*.{config.save_format}"))) - 1
        lines.append(f"figures: {dashboard} and {others} more")
    return lines
