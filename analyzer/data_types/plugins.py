"""Results that plugins add, whatever their shape: as JSON, by model, as table rows, and the findings among them.

Every function takes live results and those of a file alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from analyzer.data_types.serialization import plain
from analyzer.data_types.values import Estimate, Failed, Finding, Severity, Skipped

FINDINGS = "findings"
"""Where a plugin puts its `Finding`s: under this key, or attribute, of its result for a model."""

MOST_LEVELS = 4
"""Levels of nesting that become columns; what lies deeper is counted."""

_SKIPPED = {"status", "reason", FINDINGS}
_FAILED = _SKIPPED | {"error", "where"}
_ESTIMATE = {"value", "low", "high", "n"}


def encode_absent(result: Skipped | Failed) -> dict[str, Any]:
    """What could not be had, as it stands in a document.

    Args:
        result: `Skipped` or `Failed`.
    """
    head = {"status": result.status, "reason": result.reason}
    more = {"error": result.error, "where": result.where} if isinstance(result, Failed) else {}
    return {**head, **more, FINDINGS: []}


def absent(entry: Any) -> Skipped | Failed | None:
    """What `encode_absent` wrote; None for anything else.

    Args:
        entry: Live or JSON value.
    """
    if isinstance(entry, Skipped | Failed):
        return entry
    if not isinstance(entry, Mapping) or entry.get(FINDINGS) != []:
        return None
    if entry.get("status") == "failed" and set(entry) == _FAILED:
        return Failed(entry["error"], entry["where"])
    return Skipped(entry["reason"]) if entry.get("status") == "skipped" and set(entry) == _SKIPPED else None


def encode_plugin(value: Any) -> Any:
    """What a plugin set on the results, as strict JSON values.

    Args:
        value: Anything; a mapping by model may hold `Skipped` and `Failed`.
    """
    if isinstance(value, Mapping):
        return {
            str(key): encode_absent(item) if isinstance(item, Skipped | Failed) else plain(item)
            for key, item in value.items()
        }
    return encode_absent(value) if isinstance(value, Skipped | Failed) else plain(value)


def decode_plugin(value: Any) -> Any:
    """The JSON values of a plugin with `Skipped` and `Failed` restored.

    Args:
        value: JSON values.
    """
    if isinstance(value, Mapping):
        return {key: absent(item) or item for key, item in value.items()}
    return value


def by_model(value: Any, models: Sequence[str]) -> dict[str, Any]:
    """The entries of models, as JSON values or `Skipped` or `Failed`; empty where the results are not by model.

    Args:
        value: What a plugin set.
        models: Names of the models.
    """
    if not isinstance(value, Mapping):
        return {}
    return {name: absent(value[name]) or plain(value[name]) for name in models if name in value}


def flat(entry: Any) -> dict[str, Any]:
    """The result for one model as columns: numbers, words, `Estimate`s and lists by dotted name, without findings.

    Args:
        entry: Live or JSON value; what is no mapping becomes the column ``value``.
    """
    entry = plain(entry)
    if not isinstance(entry, Mapping) or _estimate(entry):
        return {"value": _estimate(entry) or entry}
    return dict(_columns({key: item for key, item in entry.items() if key != FINDINGS or not _findings(item)}, ()))


def _columns(entry: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for key, item in entry.items():
        place = (*path, key)
        if (estimate := _estimate(item)) is not None:
            yield ".".join(place), estimate
        elif isinstance(item, Mapping) and len(place) < MOST_LEVELS:
            yield from _columns(item, place)
        else:
            yield ".".join(place), f"mapping of {len(item)}" if isinstance(item, Mapping) else item


def _estimate(value: Any) -> Estimate | None:
    if not isinstance(value, Mapping) or not set(value) >= _ESTIMATE:
        return None
    numbers = (value["value"], value["low"], value["high"])
    if not isinstance(value["n"], int) or not all(v is None or isinstance(v, int | float) for v in numbers):
        return None
    return Estimate(value=value["value"], low=value["low"], high=value["high"], n=value["n"])


def plugin_rows(value: Any, models: Sequence[str]) -> list[dict[str, Any]]:
    """One row per model, or per entry where a mapping has other keys; an `Estimate` takes three columns.

    Args:
        value: What a plugin set.
        models: Names of the models.
    """
    value = encode_plugin(value)
    if not isinstance(value, Mapping):
        return [{"model": None, **_row({"value": value})}]
    if not by_model(value, models) and not any(isinstance(item, Mapping) for item in value.values()):
        lengths = {len(item) if isinstance(item, list) else None for item in value.values()}
        # Lists of one length are the columns of a table, such as a data frame.
        by_row = [*zip(*value.values(), strict=True)] if len(lengths) == 1 and None not in lengths else [value.values()]
        return [{"model": None, **_row(dict(zip(value, items, strict=True)))} for items in by_row if value]
    return [{"model": key, **_row(flat(item))} for key, item in value.items()]


def _row(columns: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in columns.items():
        # The first column says whose row it is.
        key = f"{name}_" if name == "model" else name
        if isinstance(value, Estimate):
            row |= {key: value.value, f"{key}_low": value.low, f"{key}_high": value.high}
        else:
            row[key] = value
    return row


def plugin_findings(value: Any, models: Sequence[str]) -> Iterator[tuple[str, Finding]]:
    """The findings that a plugin put into its results, with the model that each is about.

    Args:
        value: What a plugin set.
        models: Names of the models.
    """
    if not isinstance(value, Mapping):
        return
    for name in models:
        entry = value.get(name)
        held = entry.get(FINDINGS) if isinstance(entry, Mapping) else getattr(entry, FINDINGS, None)
        yield from ((name, finding) for finding in _findings(held))


def _findings(held: Any) -> list[Finding]:
    """The findings in a list; what is none of them stays an ordinary value of the plugin."""
    items = held if isinstance(held, list | tuple) else ()
    return [found for item in items if (found := _finding(item)) is not None]


def _finding(item: Any) -> Finding | None:
    if isinstance(item, Finding):
        item = plain(item)
    if not isinstance(item, Mapping):
        return None
    kind, layer, message = (item.get(key) for key in ("kind", "layer", "message"))
    severity: Any = item.get("severity")
    evidence = item.get("evidence", {})
    if severity not in get_args(Severity) or not isinstance(evidence, Mapping) or not isinstance(layer, str | None):
        return None
    if not isinstance(kind, str) or not isinstance(message, str):
        return None
    return Finding(kind=kind, layer=layer, severity=severity, evidence=dict(evidence), message=message)
