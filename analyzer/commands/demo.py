"""``keras-analyzer demo``: three small models, trained and audited."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path

from analyzer.commands import options
from analyzer.commands.audit import audit, known_analyses, settle_backend
from analyzer.data_types.data_input import DataInput
from analyzer.demo import DemoFiles, load_digits, make_folder, save_material, train_models
from analyzer.progress import Progress

MATERIAL = "models"
"""Folder of the trained models and their data, below the results."""


def run(args: argparse.Namespace) -> int:
    """Train three models on the digits and audit them.

    Args:
        args: Parsed options.

    Returns:
        The exit code.

    Raises:
        AnalyzerError: If no backend is installed or the folder cannot be written.
    """
    settle_backend(args)
    config = options.read_config(args)
    if args.full:
        config = dataclasses.replace(config, n_samples=None, analyze_biases=True)
    # Before the training, which takes a while: a folder that cannot be written.
    make_folder(args.output_dir / MATERIAL)
    digits = load_digits(config.seed)
    with Progress(config.progress) as progress:
        models, histories = train_models(digits, seed=config.seed, report=progress.step)
    files = save_material(args.output_dir / MATERIAL, digits, models, histories)
    code = audit(
        files.models,
        files.histories,
        DataInput(digits.x_test, digits.y_test),
        config,
        args.output_dir,
        analyses=known_analyses() if args.full else None,
        quiet=args.quiet,
    )
    if not args.quiet:
        sys.stdout.write(f"the same audit again: {repeat_command(files, args.output_dir)}\n")
    return code


def repeat_command(files: DemoFiles, output_dir: Path) -> str:
    """The command line that audits the demo's files again.

    Args:
        files: Models, histories and data.
        output_dir: Where results and figures go.
    """
    words = ["keras-analyzer", "audit", *map(str, files.models.values()), "--data", str(files.data)]
    for name, path in files.histories.items():
        words += ["--history", f"{name}={path}"]
    return shlex.join([*words, "--output-dir", str(output_dir)])
