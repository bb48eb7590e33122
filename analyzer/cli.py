"""The command line: reads options, hands them to a subcommand, and turns every outcome into an exit code.

Imports neither Keras nor matplotlib; a subcommand imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from analyzer import __version__
from analyzer.commands import exits, options
from analyzer.errors import AnalyzerError
from analyzer.progress import printable

PROGRAM = "keras-analyzer"
EXIT_CODES = """\
exit codes:
  0  done, and no rule failed
  1  a --fail-on rule failed
  2  wrong use: an option, the data or the output folder
  3  something asked for could not be evaluated: a model file could not be opened, an analysis failed or one named by
     --analyses was skipped, or a rule found no number
"""

if TYPE_CHECKING:
    # argparse has no public name for what `add_subparsers` returns.
    Commands = argparse._SubParsersAction["_Parser"]

_logger = logging.getLogger("analyzer")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every other error here."""

    def error(self, message: str) -> NoReturn:
        self.exit(exits.WRONG_USE, f"{PROGRAM}: error: {message} (see {self.prog} --help)\n")


class _StandardError(logging.Handler):
    """Writes to standard error as it is at that moment: progress bars step aside only then."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{self.format(record)}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``keras-analyzer``.

    Args:
        arguments: The command line without the program's name; that of the process by default.

    Returns:
        The exit code, see `EXIT_CODES`. ``--help``, ``--version`` and unreadable options exit by themselves.
    """
    _write_any_character()
    args = build_parser().parse_args(arguments)
    handler = _start_logging(quiet=args.quiet)
    try:
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except AnalyzerError as error:
        sys.stderr.write(f"{PROGRAM}: error: {printable(' '.join(str(error).split()))}\n")
        return exits.code_of(error)
    except KeyboardInterrupt:
        sys.stderr.write(f"{PROGRAM}: interrupted\n")
        return exits.INTERRUPTED
    except BrokenPipeError:
        # The reader has left (`| head`): what is still buffered goes nowhere, or Python would complain at shutdown.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.NOT_EVALUATED
    except Exception:
        # Left to Python this would exit with 1, which says that a rule failed.
        _logger.exception("%s: unexpected error; unless it is the model's own, please report these lines", PROGRAM)
        return exits.NOT_EVALUATED
    finally:
        _logger.removeHandler(handler)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands; each leaves a function ``run(args) -> exit code`` in the namespace."""
    parser = _Parser(prog=PROGRAM, description="One audit for any Keras 3 model, on TensorFlow, JAX or PyTorch.")
    parser.epilog, parser.formatter_class = EXIT_CODES, argparse.RawDescriptionHelpFormatter
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    _add_audit(commands)
    _add_demo(commands)
    _add_show(commands)
    _add_plot(commands)
    _add_pareto(commands)
    _add_explain(commands)
    _add_inspect(commands)
    _add_certify(commands)
    return parser


def _add_command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    description = f"{text[0].upper()}{text[1:]}."
    parser = commands.add_parser(name, help=text, description=description, epilog=EXIT_CODES, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quiet", action="store_true", help="print nothing but failed rules and errors")
    return parser


def _add_audit(commands: Commands) -> None:
    parser = _add_command(commands, "audit", "analyse model files, draw figures and save results")
    parser.add_argument(
        "models", nargs="+", metavar="[NAME=]MODEL.keras", help="model files; the name is the file's stem"
    )
    parser.add_argument("--data", type=Path, metavar="FILE.npz", help="x and y; x_<input> and y_<output> where several")
    parser.add_argument(
        "--reference",
        "--reference-data",
        dest="reference_data",
        type=Path,
        metavar="FILE.npz",
        help="data to compare with: have --data shifted? For --evaluate-train, what the models were trained on",
    )
    parser.add_argument("--output-dir", type=Path, default=Path("analysis_results"), metavar="DIR")
    parser.add_argument("--history", action="append", default=[], metavar="MODEL=LOG.csv", help="as CSVLogger wrote it")
    options.add_import_option(parser, "your own layers")
    options.add_analysis_options(parser)
    options.add_backend_options(parser)
    parser.add_argument("--no-plots", action="store_true", help="save results, draw no figures")
    options.add_figure_options(parser)
    _add_rules(parser)
    parser.set_defaults(run=_audit)


def _add_demo(commands: Commands) -> None:
    parser = _add_command(commands, "demo", "train three small models on scikit-learn's digits and audit them")
    parser.add_argument("--output-dir", type=Path, default=Path("demo_results"), metavar="DIR")
    parser.add_argument("--full", action="store_true", help="every analysis there is, on all samples, biases included")
    options.add_backend_options(parser)
    parser.set_defaults(run=_demo)


def _add_show(commands: Commands) -> None:
    parser = _add_command(
        commands,
        "show",
        "print the table and the findings of saved results, and hold rules against them; needs no Keras",
    )
    parser.add_argument("results", type=Path, metavar="DIR", help="folder with analysis_results.json, or that file")
    _add_rules(parser)
    parser.set_defaults(run=_show)


def _add_plot(commands: Commands) -> None:
    parser = _add_command(commands, "plot", "draw the figures of saved results again; needs no Keras")
    parser.add_argument("results", type=Path, metavar="DIR", help="folder with analysis_results.json, or that file")
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="where figures go (default: beside the results)")
    options.add_figure_options(parser)
    parser.set_defaults(run=_plot)


def _add_pareto(commands: Commands) -> None:
    text = "find the best trade-offs among the models of saved results; needs no Keras"
    parser = _add_command(commands, "pareto", text)
    parser.add_argument(
        "results", type=Path, nargs="+", metavar="RESULTS", help="folders with analysis_results.json, or such files"
    )
    parser.add_argument(
        "--objective",
        action="append",
        default=[],
        metavar="NAME[:max|min]",
        help="what models are compared by: 'accuracy', 'ece', 'parameters', 'weights.health.score:max'; at least two "
        "(default: peak performance and overfitting index)",
    )
    parser.add_argument("--output-dir", type=Path, default=Path("pareto_results"), metavar="DIR")
    options.add_figure_options(parser)
    parser.set_defaults(run=_pareto)


def _add_explain(commands: Commands) -> None:
    text = "explain decisions of a model file: relevance of inputs and layers, by one of many methods"
    parser = _add_command(commands, "explain", text)
    parser.add_argument("model", type=Path, metavar="MODEL.keras")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE.npz", help="x, or x_<input> for several inputs"
    )
    parser.add_argument("--method", default="auto", metavar="NAME", help="a preset or attribution (default: auto)")
    parser.add_argument("--output-dir", type=Path, default=Path("explanation"), metavar="DIR")
    parser.add_argument(
        "--target",
        default="predicted",
        metavar="[OUTPUT=]WORD",
        help="'predicted' (default), a class (3), several (0,1,2), or a position in the output (1:4)",
    )
    parser.add_argument("--task", metavar="WORD", help="what kind of output it is; by its shape otherwise")
    parser.add_argument("--start", default="output", metavar="output|X", help="what relevance begins with")
    parser.add_argument("--multiplier", type=float, default=1.0, metavar="X", help="multiplies the start")
    parser.add_argument("--threshold", type=float, default=0.5, metavar="P", help="of segmentation masks")
    parser.add_argument(
        "--unknown", choices=("raise", "gradient"), default="raise", help="what happens at layers without a rule"
    )
    parser.add_argument("--layers", default="all", metavar="NAME,…", help="layers to report, 'all' or 'none'")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="most samples per batch")
    parser.add_argument("--samples", type=int, metavar="N", help="only the first N samples (default: all)")
    parser.add_argument("--no-plots", action="store_true", help="save results, draw no pictures")
    options.add_import_option(parser, "your own layers and rules")
    options.add_backend_options(parser)
    parser.set_defaults(run=_explain)


def _add_inspect(commands: Commands) -> None:
    text = "measure a model file as ModelTrace does, free of scale, and say what to do about it"
    parser = _add_command(commands, "inspect", text)
    parser.add_argument("model", type=Path, metavar="MODEL.keras")
    parser.add_argument(
        "--data", type=Path, metavar="FILE.npz", help="x, or x_<input> for several inputs; y where there are labels"
    )
    parser.add_argument(
        "--shifted", type=Path, metavar="FILE.npz", help="shifted data; pairs where as many as in --data"
    )
    parser.add_argument(
        "--noise",
        type=float,
        default=0.1,
        metavar="S",
        help="without --shifted, x with Gaussian noise of S standard deviations of x stands for shifted data; 0 for "
        "none (default: 0.1)",
    )
    parser.add_argument("--other", type=Path, metavar="MODEL.keras", help="a second model, to be compared with")
    parser.add_argument(
        "--experiments",
        default="all",
        metavar="NAME,…",
        help="measures by name, or 'all' that the data allow (default)",
    )
    parser.add_argument("--task", metavar="WORD", help="what the model predicts; detected by default")
    parser.add_argument("--history", type=Path, metavar="LOG.csv", help="as CSVLogger wrote it")
    parser.add_argument("--no-suggestions", action="store_true", help="do not look for what could be done")
    parser.add_argument("--output-dir", type=Path, default=Path("inspection"), metavar="DIR")
    parser.add_argument("--batch-size", type=int, default=128, metavar="N", help="most samples per batch")
    parser.add_argument("--samples", type=int, metavar="N", help="only the first N samples (default: all)")
    parser.add_argument("--n-bootstrap", type=int, default=1000, metavar="N", help="draws behind intervals; 0 for none")
    options.add_import_option(parser, "your own layers")
    options.add_backend_options(parser)
    parser.set_defaults(run=_inspect)


def _add_certify(commands: Commands) -> None:
    text = "prove what can be proved about the decisions of a model file within a distance, and estimate the rest"
    parser = _add_command(commands, "certify", text)
    parser.add_argument("model", type=Path, metavar="MODEL.keras")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE.npz", help="x, of float values; y where there are labels"
    )
    parser.add_argument(
        "--epsilon",
        type=float,
        metavar="E",
        help="length of the steps asked about, in units of the data (default: a tenth of their range, linf only)",
    )
    parser.add_argument("--norm", choices=("linf", "l2", "l1"), default="linf", help="of the steps (default: linf)")
    parser.add_argument(
        "--methods", default="all", metavar="NAME,…", help="bounds and estimates by name, or 'all' (default)"
    )
    parser.add_argument(
        "--bounds",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="smallest and largest value of inputs (default: as a Rescaling layer or the data tell)",
    )
    parser.add_argument("--task", metavar="WORD", help="binary or multiclass, where the loss tells another")
    parser.add_argument("--samples", type=int, default=64, metavar="N", help="most samples, by class (default: 64)")
    parser.add_argument("--sigma", type=float, metavar="S", help="noise of smoothing, in units of the data")
    parser.add_argument("--draws", type=int, default=1000, metavar="N", help="noises per sample (default: 1000)")
    parser.add_argument("--output-dir", type=Path, default=Path("certificates"), metavar="DIR")
    parser.add_argument("--batch-size", type=int, default=128, metavar="N", help="most samples per batch")
    options.add_import_option(parser, "your own layers")
    options.add_backend_options(parser)
    parser.set_defaults(run=_certify)


def _add_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fail-on",
        action="append",
        default=[],
        metavar="RULE",
        help="exit with 1 if this holds for any model: 'calibration.ece > 0.05', ':low' or ':high' for an end of the "
        "interval ('calibration.ece:low > 0.05'), 'findings.error > 0'; repeatable",
    )


def _audit(args: argparse.Namespace) -> int:
    from analyzer.commands import audit

    return audit.run(args)


def _demo(args: argparse.Namespace) -> int:
    from analyzer.commands import demo

    return demo.run(args)


def _show(args: argparse.Namespace) -> int:
    from analyzer.commands import show

    return show.run(args)


def _plot(args: argparse.Namespace) -> int:
    from analyzer.commands import plot

    return plot.run(args)


def _pareto(args: argparse.Namespace) -> int:
    from analyzer.commands import pareto

    return pareto.run(args)


def _explain(args: argparse.Namespace) -> int:
    from analyzer.commands import explain

    return explain.run(args)


def _inspect(args: argparse.Namespace) -> int:
    from analyzer.commands import inspect

    return inspect.run(args)


def _certify(args: argparse.Namespace) -> int:
    from analyzer.commands import certify

    return certify.run(args)


def _write_any_character() -> None:
    """Names are any words: a terminal that cannot show a character gets its escape, not an exception."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _start_logging(*, quiet: bool) -> logging.Handler:
    handler = _StandardError(level=logging.WARNING if quiet else logging.INFO)
    _logger.addHandler(handler)
    _logger.setLevel(min(_logger.getEffectiveLevel(), logging.INFO))
    return handler
