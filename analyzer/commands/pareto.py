"""``keras-analyzer pareto``: the best trade-offs among the models of saved results; needs no Keras."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from analyzer.commands import exits
from analyzer.commands.options import FIELDS
from analyzer.comparison.objectives import Objectives
from analyzer.comparison.pareto import pareto
from analyzer.comparison.stored import as_results
from analyzer.config import AnalysisConfig
from analyzer.data_types.pareto import ParetoResult
from analyzer.data_types.results import AnalysisResults
from analyzer.data_types.values import Estimate
from analyzer.errors import ConfigError, OutputError
from analyzer.progress import printable


def run(args: argparse.Namespace) -> int:
    """Compare the models of one or several saved results, print the front, and save the analysis with its figure.

    Args:
        args: Parsed options.

    Returns:
        The exit code: a model that could not be compared counts as not evaluated.

    Raises:
        ConfigError: If an objective is wrong, or the same results are named twice.
        DataError: If there are no readable results, or no model can be compared.
        OutputError: If the folder cannot be written.
    """
    objectives = read_objectives(args.objective)
    sources = _sources(args.results, args.output_dir)
    results = {label: AnalysisResults.load(path) for label, path in sources.items()}
    found = pareto(next(iter(results.values())) if len(results) == 1 else results, objectives)
    _save(found, sources, args)
    if not args.quiet:
        sys.stdout.write("".join(f"{printable(line)}\n" for line in [*lines(found), f"saved: {args.output_dir}"]))
    return exits.NOT_EVALUATED if found.left_out else exits.PASSED


def read_objectives(words: Sequence[str]) -> Objectives | None:
    """``--objective`` as `pareto` takes it; None where it was not given.

    Args:
        words: ``name``, ``name:max`` or ``name:min`` each.

    Raises:
        ConfigError: If a direction is neither max nor min, or a name is given twice.
    """
    if not words:
        return None
    names = []
    for word in words:
        # From the right: the name of an output may have a colon.
        name, colon, direction = word.rpartition(":")
        if not colon:
            names.append(word)
        elif direction in ("max", "min"):
            names.append(f"{'+' if direction == 'max' else '-'}{name}")
        else:
            raise ConfigError(f"--objective {word}: expected ':max' or ':min' after the name, got {direction!r}.")
    return names


def lines(found: ParetoResult) -> list[str]:
    """What there is to say: the front with its values, who is dominated by whom, and who is left out.

    Args:
        found: The analysis.
    """
    said = [f"Pareto front ({len(found.front)} of {len(found.compared)} models):"]
    for name in reversed(found.front):
        model = found.models[name]
        values = ", ".join(f"{one.label} {_value(model.values[one.name])}" for one in found.objectives)
        said.append(f"  {name}{' (knee)' if name == found.knee else ''}: {values}")
    for name, model in found.models.items():
        if model.dominated_by:
            under = "; under-fitted" if model.under_fitted else ""
            said.append(f"  {name}: rank {model.rank}, dominated by {', '.join(model.dominated_by)}{under}")
    said += [f"  {name}: not compared: {reason}" for name, reason in found.left_out.items()]
    volume = found.hypervolume_reason if found.hypervolume is None else f"hypervolume {found.hypervolume:.3f}"
    return [*said, str(volume)]


def _value(value: Estimate | None) -> str:
    return "–" if value is None else f"{float(value):.4g}"


def _sources(paths: Sequence[Path], output: Path) -> dict[str, Path]:
    """The results by a short label: the last part of their folder, or the whole path where two share it."""
    folders = [(path if path.is_dir() else path.parent).resolve() for path in paths]
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError(f"The same results are named twice: {', '.join(map(str, paths))}.")
    if output.resolve() in folders:
        raise ConfigError(f"--output-dir {output} holds results that would be overwritten: choose another folder.")
    names = [folder.name for folder in folders]
    labels = [str(path) if names.count(name) > 1 else name for path, name in zip(paths, names, strict=True)]
    return dict(zip(labels, paths, strict=True))


def _save(found: ParetoResult, sources: Mapping[str, Path], args: argparse.Namespace) -> None:
    from analyzer.visualizers.pareto_visualizer import ParetoVisualizer
    from analyzer.visualizers.style import model_colors

    given = {name: value for name, value in vars(args).items() if name in FIELDS}
    config = dataclasses.replace(AnalysisConfig(), **given)
    results = as_results(found)
    results.provenance = {"results": {label: str(path) for label, path in sources.items()}}
    folder: Path = args.output_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The output folder {str(folder)!r} cannot be made: {error.strerror}.") from error
    results.to_json(folder)
    visualizer = ParetoVisualizer(results, config, folder, model_colors(list(results.model_names)))
    visualizer.save(visualizer.figure())
