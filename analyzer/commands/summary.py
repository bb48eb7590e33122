"""Results in a few lines of text: a table of models, what is wrong with them, and what could not be had.

Works on the JSON document alone, so that saved results read the same as fresh ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from analyzer.commands.table_text import ABSENT, aligned
from analyzer.progress import printable
from analyzer.sweeps.gate import analyses, findings_of_plugins

MOST_FINDINGS = 20
"""Findings shown of one model; the others are counted."""
COLUMNS = ("model", "n", "accuracy", "loss", "ECE", "Brier", "health", "parameters", "FLOPs", "latency", "verdict")
NUMBERS = frozenset(COLUMNS) - {"model", "verdict"}


def table(document: Mapping[str, Any]) -> list[str]:
    """A head and one line per model, or per output of a model with several, without columns that would be empty.

    Args:
        document: A results document.
    """
    rows = [row for model in document["models"] for row in _rows(document, model)]
    shown = [name for name in COLUMNS if name == "model" or any(row[name] != ABSENT for row in rows)]
    return aligned([dict(zip(COLUMNS, COLUMNS, strict=True)), *rows], shown, NUMBERS)


def _rows(document: Mapping[str, Any], model: str) -> Iterator[dict[str, str]]:
    entries = {name: section.get(model) or {} for name, section in analyses(document)}
    by_output = [entries.get(name, {}).get("outputs", {}) for name in ("performance", "calibration")]
    outputs = list(dict.fromkeys(name for parts in by_output for name in parts)) or [None]
    health = entries.get("weights", {}).get("health", {}).get("score")
    costs = _costs(entries.get("cost", {}), document.get("measured", {}).get("cost", {}).get(model, {}))
    for output in outputs:
        performance, calibration = (
            entries.get(name, {}) if output is None else parts.get(output, {})
            for name, parts in zip(("performance", "calibration"), by_output, strict=True)
        )
        cells = {
            "model": model if output is None else f"{model} / {output}",
            "n": str(performance.get("n") or calibration.get("n_samples") or ABSENT),
            "accuracy": _estimate(performance.get("accuracy")),
            "loss": _estimate(performance.get("loss"), interval=False),
            "ECE": _estimate(calibration.get("ece")),
            "Brier": _estimate(calibration.get("brier"), interval=False),
            "health": ABSENT if health is None else f"{health:.2f}",
            **costs,
            "verdict": (calibration.get("verdict") or {}).get("text") or ABSENT,
        }
        yield {name: printable(text) for name, text in cells.items()}


def _costs(cost: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, str]:
    """Parameters, operations for one sample, and time of the smallest batch that was measured."""
    flops, smallest = cost.get("flops"), next(iter(measured.get("latency", ())), None)
    samples = smallest["batch_size"] if smallest else 1
    of_how_many = f" / {samples}" if samples > 1 else ""
    at_least = "≥ " if cost.get("uncounted") else ""
    return {
        "parameters": f"{cost['parameters']:,}" if "parameters" in cost else ABSENT,
        "FLOPs": ABSENT if flops is None else f"{at_least}{flops:.3g}",
        "latency": f"{1000 * smallest['seconds']['value']:.3g} ms{of_how_many}" if smallest else ABSENT,
    }


def _estimate(estimate: Mapping[str, Any] | None, *, interval: bool = True) -> str:
    if estimate is None or estimate["value"] is None:
        return ABSENT
    if not interval or estimate["low"] is None or estimate["high"] is None:
        return f"{estimate['value']:.3f}"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def findings(document: Mapping[str, Any]) -> list[str]:
    """Warnings and errors, one line each, errors of a model first.

    Args:
        document: A results document.
    """
    lines = []
    for model in document["models"]:
        found = [(name, finding) for name, finding in _findings(document, model) if finding["severity"] != "info"]
        found.sort(key=lambda pair: pair[1]["severity"] != "error")
        lines += [_finding(model, finding) for _, finding in found[:MOST_FINDINGS]]
        if len(found) > MOST_FINDINGS:
            lines.append(
                f"{printable(model)}: and {len(found) - MOST_FINDINGS} more warnings and errors in the results"
            )
    between = document.get("comparison") or {}
    lines += [_finding("between models", f) for f in between.get("findings", ()) if f["severity"] != "info"]
    return lines


def _findings(document: Mapping[str, Any], model: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for finding in document.get("findings", {}).get(model, ()):
        yield "model", finding
    for name, section in analyses(document):
        for finding in section.get(model, {}).get("findings", ()):
            yield name, finding
    for name, found in findings_of_plugins(document, model):
        yield name, dataclasses.asdict(found)


def _finding(model: str, finding: Mapping[str, Any]) -> str:
    place = f"{model}, {finding['layer']}" if finding["layer"] else model
    return printable(f"{finding['severity']}: {place}: {finding['message']}")


def missing(document: Mapping[str, Any], status: str) -> dict[str, list[str]]:
    """What has no result: by analysis, one line for each reason.

    Args:
        document: A results document.
        status: ``"failed"`` or ``"skipped"``.
    """
    concerned: dict[tuple[str, str], list[str]] = {}
    for name, section in analyses(document):
        for model, entry in section.items():
            parts = entry.get("outputs", {})
            for who, part in {model: entry, **{f"{model} / {output}": parts[output] for output in parts}}.items():
                if part.get("status") == status:
                    concerned.setdefault((name, part["reason"]), []).append(who)
    between = document.get("comparison")
    if between is not None and between["status"] == status:
        concerned["similarity", between["reason"]] = ["between models"]
    by_analysis: dict[str, list[str]] = {}
    for (name, reason), models in concerned.items():
        line = printable(f"{status}: {name} ({', '.join(models)}): {' '.join(reason.split())}")
        by_analysis.setdefault(name, []).append(line)
    return by_analysis
