"""``keras-analyzer inspect``: ModelTrace's measures of a model file, free of scale, and what follows from them."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

from analyzer.commands import exits
from analyzer.commands.audit import settle_backend
from analyzer.commands.backend import import_modules
from analyzer.commands.explain import first_samples
from analyzer.commands.inspection_text import lines_of
from analyzer.config import check_names
from analyzer.data_types.data_file import load_npz
from analyzer.data_types.inspection_report import EXPERIMENTS
from analyzer.demo import make_folder
from analyzer.errors import ConfigError
from analyzer.measures.random_streams import stream
from analyzer.progress import Progress, printable

JSON_NAME = "inspection.json"
ALL = "all"


def run(args: argparse.Namespace) -> int:
    """Inspect a model file.

    Args:
        args: Parsed options.

    Returns:
        The exit code.

    Raises:
        AnalyzerError: If options, data or the model file are wrong.
    """
    experiments = read_experiments(args.experiments)
    seed = getattr(args, "seed", 0)
    data = None if args.data is None else load_npz(args.data)
    x, y = (None, None) if data is None else (_first(data.x, args.samples), _first(data.y, args.samples))
    x_shifted, shifted_by = shifted_data(args, x, seed)
    settle_backend(args)
    import_modules(args.modules)
    make_folder(args.output_dir)
    from analyzer.diagnosis.modeltrace.inspect import inspect_model

    with Progress(not args.quiet) as bars:
        found = inspect_model(
            args.model,
            args.other,
            x,
            x_shifted,
            experiments,
            y=y,
            task=args.task,
            history=args.history,
            suggest=not args.no_suggestions,
            shifted_by=shifted_by,
            batch_size=args.batch_size,
            n_bootstrap=args.n_bootstrap,
            seed=seed,
            progress=bars.step,
        )
    path = args.output_dir / JSON_NAME
    found.to_json(path)
    if not args.quiet:
        lines = [*lines_of(found), printable(f"results: {path}")]
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    return exits.PASSED


def read_experiments(text: str) -> tuple[str, ...] | None:
    """``--experiments`` as `inspect_model` takes it.

    Args:
        text: ``all``, or names with commas between them.

    Returns:
        The names, each once; None for all.

    Raises:
        ConfigError: If a name is unknown or there is none.
    """
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not names:
        raise ConfigError(f"--experiments names none; there is {', '.join((*EXPERIMENTS, ALL))}.")
    check_names(names, (*EXPERIMENTS, ALL), what="experiment")
    return None if ALL in names else names


def shifted_data(args: argparse.Namespace, x: Any, seed: int) -> tuple[Any, str | None]:
    """The shifted samples, and where they come from.

    Args:
        args: Parsed options.
        x: The samples; None without.
        seed: Seed of the noise.

    Raises:
        ConfigError: If the noise is none.
        DataError: If the file cannot be read.
    """
    if not (np.isfinite(args.noise) and args.noise >= 0):
        raise ConfigError(f"--noise {args.noise}: expected a number of standard deviations, 0 for none.")
    if args.shifted is not None:
        return _first(load_npz(args.shifted).x, args.samples), str(args.shifted)
    if x is None or args.noise == 0:
        return None, None
    noisy = with_noise(x, args.noise, seed)
    if noisy is None:
        return None, None
    return noisy, f"noise of {args.noise:g} standard deviations, seed {seed}"


def _first(arrays: Any, n: int | None) -> Any:
    return None if arrays is None else first_samples(arrays, n)


def with_noise(x: Any, scale: float, seed: int) -> Any | None:
    """Samples with Gaussian noise on every input of floats; None where there is none.

    Args:
        x: One array, or several by input name.
        scale: Standard deviation of the noise in standard deviations of the input.
        seed: Seed of the noise.
    """
    rng = stream(seed, 46)
    arrays = x if isinstance(x, dict) else {"x": x}
    if not any(array.dtype.kind == "f" for array in arrays.values()):
        return None
    noisy = {
        name: array
        if array.dtype.kind != "f"
        else (array + scale * array.std() * rng.normal(size=array.shape)).astype(array.dtype)
        for name, array in arrays.items()
    }
    return noisy if isinstance(x, dict) else noisy["x"]
