"""How the numbers came about: versions, backend, seed, options, files and samples."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import keras
import numpy as np

from analyzer.config import AnalysisConfig
from analyzer.data_types import DataInput

_COMPILED = ("loss", "metrics", "weighted_metrics")
_PACKAGES = ("keras-analyzer", "keras", "numpy", "scipy", "scikit-learn", "matplotlib")


def describe(
    config: AnalysisConfig,
    files: Mapping[str, Any],
    sample: DataInput | None,
    analyses: Sequence[str],
    reference: DataInput | None = None,
) -> dict[str, Any]:
    """Everything that two equal runs have in common.

    Args:
        config: The options.
        files: Facts of the model files, by model name.
        sample: The samples looked at.
        analyses: Names of the analyses that ran.
        reference: The training data looked at.
    """
    backend = keras.backend.backend()
    return {
        "versions": {name: _version(name) for name in (*_PACKAGES, backend)},
        "python": platform.python_version(),
        "backend": backend,
        "floatx": keras.config.floatx(),
        "seed": config.seed,
        "config": config.to_dict(),
        "analyses": list(analyses),
        "data": None if sample is None else _describe_sample(sample),
        "reference_data": None if reference is None else _describe_sample(reference),
        "files": {
            name: {k: v for k, v in dataclasses.asdict(facts).items() if k not in _COMPILED}
            for name, facts in files.items()
        },
    }


def now() -> str:
    """The date and time in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _describe_sample(sample: DataInput) -> dict[str, Any]:
    indices = np.arange(len(sample)) if sample.indices is None else sample.indices
    digest = hashlib.sha256()
    for array in keras.tree.flatten([sample.x_data, sample.y_data, sample.sample_weight]):
        if array is not None:
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return {
        "n": len(sample),
        "first_index": int(indices[0]),
        "last_index": int(indices[-1]),
        "indices_sha256": hashlib.sha256(indices.tobytes()).hexdigest(),
        "sha256": digest.hexdigest(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
