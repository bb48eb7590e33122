"""``keras-analyzer explain``: which inputs and layers made the decisions of a model file."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analyzer.commands import exits
from analyzer.commands.audit import settle_backend
from analyzer.commands.backend import import_modules
from analyzer.commands.explanation_text import lines_of
from analyzer.data_types.data_file import load_npz
from analyzer.demo import make_folder
from analyzer.errors import ConfigError
from analyzer.progress import Progress, printable

if TYPE_CHECKING:
    from analyzer.data_types.explanation import Explanation

JSON_NAME = "explanation.json"
_IMAGE_AXES = (4, 5)
"""Axes of images and volumes with samples and channels."""


def run(args: argparse.Namespace) -> int:
    """Explain decisions on samples of a file.

    Args:
        args: Parsed options.

    Returns:
        The exit code: a picture that cannot be drawn counts as not evaluated, and costs nothing else.

    Raises:
        AnalyzerError: If options, data or the model file are wrong.
    """
    target, start = read_target(args.target), read_start(args.start)
    x = first_samples(load_npz(args.data).x, args.samples)
    settle_backend(args)
    import_modules(args.modules)
    make_folder(args.output_dir)
    from analyzer.relevance.explain import explain

    with Progress(not args.quiet) as bars:
        found = explain(
            args.model,
            x,
            target,
            args.method,
            read_layers(args.layers),
            args.task,
            start,
            args.multiplier,
            args.threshold,
            args.unknown,
            batch_size=args.batch_size,
            seed=getattr(args, "seed", 0),
            progress=bars.step,
        )
    path = args.output_dir / JSON_NAME
    found.to_json(path)
    where, code = [f"results: {path}"], exits.PASSED
    if not args.no_plots:
        try:
            where += draw(found, x, args.output_dir)
        except Exception as error:  # noqa: BLE001 - a broken picture must not cost the results
            sys.stderr.write(f"pictures failed: {type(error).__name__}: {printable(str(error))}\n")
            code = exits.NOT_EVALUATED
    if not args.quiet:
        sys.stdout.write("".join(f"{line}\n" for line in [*lines_of(found), *map(printable, where)]))
    return code


def read_target(text: str) -> Any:
    """``--target`` as `explain` takes it.

    Args:
        text: ``predicted``; a class ``3``; several with commas; a position ``1:4`` in the output of a sample; each with
            ``OUTPUT=`` before it where the model has several.

    Raises:
        ConfigError: If it is none of these.
    """
    # From the right: the name of an output may hold '='.
    output, separator, word = text.rpartition("=")
    if separator:
        return {output: _read_word(word, text)}
    return _read_word(word, text)


def _read_word(word: str, text: str) -> Any:
    several = [_read_one(one.strip(), text) for one in word.split(",")]
    return several if len(several) > 1 else several[0]


def _read_one(word: str, text: str) -> Any:
    if word == "predicted":
        return word
    try:
        numbers = tuple(int(part) for part in word.split(":"))
    except ValueError:
        raise ConfigError(
            f"--target {text}: expected 'predicted', a class (3), several (0,1,2) or a position in the output (1:4), "
            "after OUTPUT= where the model has several outputs."
        ) from None
    return numbers if len(numbers) > 1 else numbers[0]


def read_start(text: str) -> float | str:
    """``--start`` as `explain` takes it: ``output`` or a number.

    Raises:
        ConfigError: If it is neither.
    """
    if text == "output":
        return text
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--start {text}: expected 'output', or the amount that relevance begins with.") from None


def read_layers(text: str) -> Any:
    """``--layers`` as `explain` takes it: ``all``, ``none``, or names with commas."""
    if text == "none":
        return None
    return text if text == "all" else [word.strip() for word in text.split(",") if word.strip()]


def first_samples(x: Any, n: int | None) -> Any:
    """The first samples of one array, or of each of several.

    Raises:
        ConfigError: If there is no such number.
    """
    if n is None:
        return x
    if n < 1:
        raise ConfigError(f"--samples {n}: expected a whole number of at least 1.")
    return {name: array[:n] for name, array in x.items()} if isinstance(x, dict) else x[:n]


def draw(found: Explanation, x: Any, folder: Path) -> list[str]:
    """Heatmaps of all images, each input, target and map in a folder of its own.

    Args:
        found: The explanation.
        x: What was explained.
        folder: Where the results are.

    Returns:
        A line about each folder.
    """
    from analyzer.inspection.names import slug
    from analyzer.visualizers.heatmaps import save_heatmaps

    lines = []
    for label, maps in _maps(found):
        for name, array in maps.inputs.items():
            several = np.ndim(found.output) > 1
            if array.ndim - several not in _IMAGE_AXES:
                continue
            given = {name: x if not isinstance(x, dict) else x.get(name, next(iter(x.values())))}
            for k in range(len(array) if several else 1):
                parts = [label, *([slug(name)] if len(maps.inputs) > 1 else []), *([f"target_{k}"] if several else [])]
                where = folder.joinpath(*parts)
                written = save_heatmaps(maps, given, where, name=name, target=k)
                lines.append(f"pictures: {len(written)} in {where}")
    return lines


def _maps(found: Explanation) -> Iterator[tuple[str, Explanation]]:
    yield "heatmaps", found
    if found.against is not None:
        yield "heatmaps_against", dataclasses.replace(found, inputs=found.against)
