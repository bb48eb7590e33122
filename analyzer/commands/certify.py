"""``keras-analyzer certify``: what can be proved about the decisions of a model file, and what is only estimated."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from analyzer.commands import exits
from analyzer.commands.audit import settle_backend
from analyzer.commands.backend import import_modules
from analyzer.commands.table_text import ABSENT, aligned
from analyzer.config import check_names
from analyzer.data_types.certificates import METHODS, Certificate, Certificates
from analyzer.data_types.data_file import load_npz
from analyzer.data_types.values import Estimate, Skipped
from analyzer.demo import make_folder
from analyzer.errors import ConfigError
from analyzer.progress import printable

JSON_NAME = "certificates.json"
ALL = "all"

_COLUMNS = ("method", "kind", "of", "norm", "certified", "95 % interval", "median", "abstains", "seconds")


def run(args: argparse.Namespace) -> int:
    """Certify a model file.

    Args:
        args: Parsed options.

    Returns:
        The exit code: a method that was named and does not cover the model counts as not evaluated.

    Raises:
        AnalyzerError: If options, data or the model file are wrong.
    """
    methods = read_methods(args.methods)
    data = load_npz(args.data)
    settle_backend(args)
    import_modules(args.modules)
    make_folder(args.output_dir)
    from analyzer.robustness.certificates.certify import certify

    found = certify(
        args.model,
        data.x,
        data.y,
        epsilon=args.epsilon,
        norm=args.norm,
        methods=methods,
        bounds=None if args.bounds is None else (args.bounds[0], args.bounds[1]),
        task=args.task,
        n_samples=args.samples,
        sigma=args.sigma,
        n_draws=args.draws,
        batch_size=args.batch_size,
        seed=getattr(args, "seed", 0),
        progress=not args.quiet,
    )
    path = args.output_dir / JSON_NAME
    found.to_json(path)
    if not args.quiet:
        sys.stdout.write("".join(f"{line}\n" for line in [*lines_of(found), printable(f"results: {path}")]))
    missing = methods != (ALL,) and any(isinstance(row, Skipped) for row in found.methods.values())
    return exits.NOT_EVALUATED if missing else exits.PASSED


def read_methods(text: str) -> tuple[str, ...]:
    """``--methods`` as `certify` takes it.

    Args:
        text: ``all``, or names with commas between them.

    Returns:
        The names, each once.

    Raises:
        ConfigError: If a name is unknown or there is none.
    """
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not names:
        raise ConfigError(f"--methods names none; there is {', '.join((*METHODS, ALL))}.")
    check_names(names, (*METHODS, ALL), what="method")
    return (ALL,) if ALL in names else names


def lines_of(found: Certificates) -> list[str]:
    """A table with a row for each method, then what each of them says and does not say.

    Args:
        found: What `certify` returned.
    """
    rows = [_row(name, row) for name, row in found.methods.items() if isinstance(row, Certificate)]
    lines = [*_head(found)]
    if rows:
        head = dict(zip(_COLUMNS, _COLUMNS, strict=True))
        lines += ["", *aligned([head, *rows], _COLUMNS, {"certified", "median", "abstains", "seconds"})]
    for name, row in found.methods.items():
        lines += ["", *(_told(name, row) if isinstance(row, Certificate) else [f"{name}: skipped. {row.reason}"])]
    return [printable(line) for line in lines]


def _head(found: Certificates) -> Iterator[str]:
    yield (
        f"{found.model}: {found.n} samples from {found.low:g} to {found.high:g} ({found.bounds_source}); {found.norm} "
        f"steps of {found.epsilon:g}"
    )
    if found.accuracy is None:
        yield "certified: share of samples whose decision no such step can change"
    else:
        yield f"certified: share decided rightly whatever such a step; as they are, {found.accuracy}"


def _row(name: str, row: Certificate) -> dict[str, str]:
    share = row.certified
    cells = (
        name,
        row.kind if row.confidence is None else f"{row.kind} ({100 * row.confidence:g} %)",
        row.subject,
        row.norm,
        ABSENT if share is None or share.value is None else f"{share.value:.4g}",
        ABSENT if share is None else _interval(share),
        ABSENT if row.median is None else f"{row.median:.4g}",
        str(row.n_abstained) if row.n_abstained else ABSENT,
        f"{row.seconds:.2f}",
    )
    return dict(zip(_COLUMNS, cells, strict=True))


def _interval(share: Estimate) -> str:
    return ABSENT if share.low is None or share.high is None else f"[{share.low:.4g}, {share.high:.4g}]"


def _told(name: str, row: Certificate) -> Iterator[str]:
    yield f"{name}: median of the {row.quantity}. {row.definition}"
    yield from (f"  {note}" for note in row.notes)
    if row.settings:
        yield f"  with {', '.join(f'{key} = {value:.4g}' for key, value in row.settings.items())}"
    yield f"  {row.paper}"
