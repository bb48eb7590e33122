"""The JSON Schema of `analysis_results.json`, made from the type hints and docstrings of the result dataclasses.

``python -m analyzer.data_types.schema`` writes it anew beside this module; a test compares the two.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from analyzer.data_types.comparison import Comparison
from analyzer.data_types.history import History
from analyzer.data_types.results import ANALYSIS_TYPES, SCHEMA_VERSION
from analyzer.data_types.values import Finding

SCHEMA_PATH = Path(__file__).with_name("analysis_results.schema.json")
"""The published schema."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_NUMBER = {"type": ["number", "null"]}
_SCALARS: dict[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    # A float that is not finite has no place in JSON and is written as null.
    float: _NUMBER,
    str: {"type": "string"},
    type(None): {"type": "null"},
}
_ELEMENTS = {"b": {"type": "boolean"}, "i": {"type": "integer"}, "u": {"type": "integer"}}
"""Elements of inline arrays by the kind of their NumPy type; all others are numbers."""

Definitions = dict[str, Any]


def build_schema() -> dict[str, Any]:
    """The schema of the document that `AnalysisResults.to_document` makes, as JSON values (draft 2020-12)."""
    definitions: Definitions = {}
    analyses = {name: _analysis(name, hint, definitions) for name, hint in ANALYSIS_TYPES.items()}
    finding_list = {"type": "array", "items": _reference(Finding, definitions)}
    properties = {
        "schema_version": {
            "const": SCHEMA_VERSION,
            "description": "Releases read every document whose number before the point is theirs.",
        },
        "models": {"type": "array", "items": {"type": "string"}, "description": "Names of the models, in order."},
        **analyses,
        "comparison": {
            "description": "What lies between models.",
            "anyOf": [*_entries([Comparison], definitions), *_absent(definitions)],
        },
        "training_history": {
            "description": "The training history that was given, by model name.",
            "type": "object",
            "additionalProperties": _reference(History, definitions),
        },
        "findings": {
            "description": "What was noticed while gathering, by model name.",
            "type": "object",
            "additionalProperties": finding_list,
        },
        "plugins": {
            "description": "What plugins added, by name; also at the top level, except under the names above.",
            "type": "object",
        },
        "provenance": {
            "description": "How the numbers came about: versions, backend, seed, options, data, files.",
            "type": "object",
        },
        "measured": {"description": "Times and memory: what may differ between two equal runs.", "type": "object"},
    }
    return {
        "$schema": DIALECT,
        "$id": f"urn:keras-analyzer:analysis-results:{SCHEMA_VERSION}",
        "title": "analysis_results.json of keras-analyzer",
        "type": "object",
        "properties": properties,
        "required": ["schema_version", "models", "findings", "plugins", "provenance", "measured"],
        "$defs": dict(sorted(definitions.items())),
    }


def schema_text() -> str:
    """The schema as it stands in the published file."""
    return json.dumps(build_schema(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _analysis(name: str, hint: Any, definitions: Definitions) -> dict[str, Any]:
    results = list(get_args(hint)) or [hint]
    single = [*_entries(results, definitions), *_absent(definitions)]
    by_output = _object(
        {
            "status": {"const": "ok"},
            "reason": {"type": "null"},
            "findings": {"type": "array", "items": _reference(Finding, definitions)},
            "outputs": {"type": "object", "additionalProperties": {"anyOf": single}},
        },
        "A model with several outputs: the result of each by output name, and the findings of all.",
    )
    return {
        "description": f"Results of the analysis {name!r} by model name.",
        "type": "object",
        "additionalProperties": {"anyOf": [*single, by_output]},
    }


def _entries(results: Iterable[type], definitions: Definitions) -> list[dict[str, Any]]:
    """References to results as they stand in the document: with their status and the name of their class."""
    references = []
    for cls in results:
        reference = _reference(cls, definitions)
        definition = definitions[cls.__name__]
        if "status" not in definition["properties"]:
            head = {"status": {"const": "ok"}, "reason": {"type": "null"}, "type": {"const": cls.__name__}}
            definition["properties"] = head | definition["properties"]
            definition["required"] = [*head, *definition["required"]]
        references.append(reference)
    return references


def _absent(definitions: Definitions) -> list[dict[str, Any]]:
    """References to what stands in place of a result."""
    text, none = {"type": "string"}, {"type": "array", "maxItems": 0}
    definitions["Skipped"] = _object(
        {"status": {"const": "skipped"}, "reason": text, "findings": none},
        "An analysis that does not apply, or that was not possible, and why.",
    )
    definitions["Failed"] = _object(
        {"status": {"const": "failed"}, "reason": text, "error": text, "where": text, "findings": none},
        "An analysis that broke: the error and the place where it was raised.",
    )
    return [{"$ref": "#/$defs/Skipped"}, {"$ref": "#/$defs/Failed"}]


def _reference(cls: type, definitions: Definitions) -> dict[str, Any]:
    """A reference to the definition of a dataclass, which is made where it does not exist yet."""
    name = cls.__name__
    if name not in definitions:
        definitions[name] = {}
        hints, about = get_type_hints(cls), field_descriptions(cls)
        properties = {}
        for field in dataclasses.fields(cls):
            if field.metadata.get("measured"):
                continue
            described = {"description": about[field.name]} if field.name in about else {}
            properties[field.name] = described | _of_hint(hints[field.name], definitions)
        definitions[name] = _object(properties, _summary(cls))
    return {"$ref": f"#/$defs/{name}"}


def _of_hint(hint: Any, definitions: Definitions) -> dict[str, Any]:
    """What `serialization.encode` makes of a value of the hinted type."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in _SCALARS:
        return dict(_SCALARS[hint])
    if origin is Literal:
        return {"enum": list(args)}
    if origin in (Union, types.UnionType):
        return _any_of([_of_hint(option, definitions) for option in args])
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return {"type": "array", "items": _of_hint(args[0], definitions)}
    if origin is np.ndarray:
        return _array(np.dtype(get_args(args[1])[0]), definitions)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of_hint(args[1], definitions)}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _reference(hint, definitions)
    raise TypeError(f"A field of a result has the type {hint}, for which there is no JSON form.")


def _any_of(options: list[dict[str, Any]]) -> dict[str, Any]:
    """One of several; plain types are joined into one list of types."""
    kinds: list[str] = []
    for option in options:
        if set(option) != {"type"}:
            return {"anyOf": options}
        kinds += [option["type"]] if isinstance(option["type"], str) else option["type"]
    return {"type": list(dict.fromkeys(kinds))}


def _array(dtype: np.dtype[Any], definitions: Definitions) -> dict[str, Any]:
    """An array: nested lists, or the name of a member of `analysis_arrays.npz`."""
    text, size = {"type": "string"}, {"type": "integer", "minimum": 0}
    definitions["StoredArray"] = _object(
        {"array": text, "shape": {"type": "array", "items": size}, "dtype": text},
        "A large array: its name in the .npz file beside this document.",
    )
    name = f"Nested_{dtype.name}"
    element = _ELEMENTS.get(dtype.kind, _NUMBER)
    definitions[name] = {
        "description": f"An array of {dtype.name} as nested lists.",
        "type": "array",
        "items": {"anyOf": [element, {"$ref": f"#/$defs/{name}"}]},
    }
    return {"anyOf": [{"$ref": f"#/$defs/{name}"}, {"$ref": "#/$defs/StoredArray"}]}


def _object(properties: dict[str, Any], description: str) -> dict[str, Any]:
    """An object with exactly these properties: every field is written, also where it is null."""
    return {
        "description": description,
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _summary(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].replace("\n", " ")


def field_descriptions(cls: type) -> dict[str, str]:
    """What docstrings say about each field under ``Attributes:``, those of base classes included.

    Args:
        cls: A dataclass with Google-style docstrings.
    """
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, _, rest = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")
        section = re.split(r"^(?=\S)", rest, maxsplit=1, flags=re.MULTILINE)[0]
        for item in re.finditer(r"^    (\w+): (.+(?:\n {8,}.+)*)", section, flags=re.MULTILINE):
            found[item[1]] = re.sub(r"\s*\n\s*", " ", item[2]).replace("``", "`")
    return found


if __name__ == "__main__":
    SCHEMA_PATH.write_text(schema_text(), encoding="utf-8")
