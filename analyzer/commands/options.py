"""Command line options of an analysis, and their reading into `AnalysisConfig`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from analyzer.commands.backend import BACKENDS
from analyzer.config import ANALYSES, TASKS, AnalysisConfig, PlotStyle, SaveFormat, check_names
from analyzer.errors import ConfigError

FIELDS = tuple(field.name for field in dataclasses.fields(AnalysisConfig))
ALL = "all"


def add_backend_options(parser: argparse.ArgumentParser) -> None:
    """Add what every subcommand that runs models understands."""
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help="Keras backend; without it KERAS_BACKEND or keras.json chooses, else the first that is installed",
    )
    parser.add_argument(
        "--seed", type=int, default=argparse.SUPPRESS, metavar="N", help="seed of every random choice (default: 0)"
    )


def add_analysis_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that become fields of `AnalysisConfig`; what is not given does not enter the namespace."""
    given_only: dict[str, Any] = {"default": argparse.SUPPRESS}
    parser.add_argument(
        "--analyses",
        metavar="NAME,…",
        help=f"analyses to run: {', '.join(ANALYSES)}, or {ALL} (default: as configured)",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="options by the names of AnalysisConfig; the command line wins"
    )
    parser.add_argument(
        "--task",
        action="append",
        metavar="[MODEL=]WORD",
        help=f"what the models predict: {', '.join(TASKS)} (quantile:0.1,0.5,0.9); detected by default",
    )
    parser.add_argument(
        "--from-logits",
        action=argparse.BooleanOptionalAction,
        help="outputs are logits, or are not; detected by default",
        **given_only,
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="samples per batch", **given_only)
    parser.add_argument(
        "--n-samples", type=_samples, metavar="N|all", help="most samples to look at (default: 1000)", **given_only
    )
    parser.add_argument(
        "--n-bootstrap", type=int, metavar="N", help="bootstrap draws behind intervals; 0 for none", **given_only
    )
    parser.add_argument(
        "--evaluate-train",
        action="store_true",
        help="evaluate the training data too (--reference), for the gap without dropout",
        **given_only,
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="deterministic kernels: two runs are bit-equal", **given_only
    )


def add_import_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--import``, for modules that register what models are made of.

    Args:
        parser: Of the subcommand.
        what: That the modules register.
    """
    parser.add_argument(
        "--import",
        action="append",
        default=[],
        metavar="MODULE",
        dest="modules",
        help=f"module that registers {what}; found in the current folder, too",
    )


def add_figure_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how figures look."""
    parser.add_argument("--plot-style", choices=get_args(PlotStyle), default=argparse.SUPPRESS)
    parser.add_argument("--save-format", choices=get_args(SaveFormat), default=argparse.SUPPRESS)
    parser.add_argument("--dpi", type=int, metavar="N", default=argparse.SUPPRESS)


def _samples(text: str) -> int | None:
    if text == ALL:
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number or {ALL!r}") from None


def read_config(args: argparse.Namespace, *, analyses: Sequence[str] = ANALYSES) -> AnalysisConfig:
    """The configuration that a command line stands for: defaults, then the file, then the options.

    Args:
        args: Parsed options.
        analyses: Names that ``--analyses`` understands.

    Raises:
        ConfigError: If the file or an option is wrong.
    """
    given = vars(args)
    path = given.get("config")
    config = AnalysisConfig() if path is None else AnalysisConfig.from_file(path)
    changes = {name: value for name, value in given.items() if name in FIELDS and name != "task"}
    changes |= read_task(given.get("task"))
    chosen = chosen_analyses(given.get("analyses"), analyses)
    if chosen is not None:
        changes |= {f"analyze_{name}": name in chosen for name in ANALYSES}
    if given.get("no_plots"):
        changes["save_plots"] = False
    if given.get("quiet"):
        changes |= {"progress": False, "verbose": False}
    return dataclasses.replace(config, **changes)


def chosen_analyses(text: str | None, known: Sequence[str]) -> tuple[str, ...] | None:
    """The analyses that ``--analyses`` names.

    Args:
        text: Names with commas between them, ``"all"``, or None where the option was not given.
        known: Names that exist.

    Returns:
        The names, each once; None where the option was not given.

    Raises:
        ConfigError: If a name is unknown or there is none.
    """
    if text is None:
        return None
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not names:
        raise ConfigError(f"--analyses names none; there is {', '.join((*known, ALL))}.")
    check_names(names, (*known, ALL), what="analysis")
    return tuple(known) if ALL in names else names


def read_task(words: Sequence[str] | None) -> dict[str, Any]:
    """``--task`` as a field of the configuration; empty where it was not given.

    Args:
        words: What the options say: one word for all models, or ``MODEL=WORD`` each.

    Raises:
        ConfigError: If one word for all stands beside another.
    """
    if not words:
        return {}
    # From the right: a task word has no '=', the name of a model may.
    pairs = [word.rpartition("=") for word in words]
    if any(not name for name, _, _ in pairs):
        if len(words) > 1:
            raise ConfigError(f"--task {' --task '.join(words)}: one word for all models, or MODEL=WORD for each.")
        return {"task": words[0].removeprefix("=")}
    return {"task": dict(_once((name, word) for name, _, word in pairs))}


def read_histories(specs: Sequence[str], models: Sequence[str]) -> dict[str, Path]:
    """Training histories by model name.

    Args:
        specs: What the options say: ``MODEL=FILE``, or a file alone where there is one model.
        models: Names of the models.

    Raises:
        ConfigError: If a model is unknown or named twice, or a file does not exist.
    """
    histories = dict(_once(_history(spec, models) for spec in specs))
    for path in histories.values():
        if not path.is_file():
            raise ConfigError(f"--history: there is no file {path}.")
    return histories


def _history(spec: str, models: Sequence[str]) -> tuple[str, Path]:
    # Longest first: both the name of a model and a path may contain '='.
    for name in sorted(models, key=len, reverse=True):
        if spec.startswith(f"{name}="):
            return name, Path(spec.removeprefix(f"{name}="))
    if len(models) == 1 and ("=" not in spec or Path(spec).is_file()):
        return models[0], Path(spec)
    name, separator, _ = spec.partition("=")
    if separator:
        check_names([name], models, what="model in --history")
    raise ConfigError(f"--history {spec}: write MODEL=FILE, with one of the models {', '.join(models)}.")


def _once(pairs: Iterable[tuple[str, Any]]) -> Mapping[str, Any]:
    seen: dict[str, Any] = {}
    for name, value in pairs:
        if name in seen:
            raise ConfigError(f"{name}={value}: {name!r} was already given as {seen[name]}.")
        seen[name] = value
    return seen
