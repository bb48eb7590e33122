"""Sparsity: which share of the weights is zero, layer by layer and weighted by their number."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.inspection_report import Definition, Experiment, Reading
from analyzer.data_types.values import Estimate
from analyzer.data_types.weights import MATRIX_ROLES
from analyzer.inspection import kernels, logical_weights
from analyzer.inspection.view import LayerInfo, ModelView
from analyzer.measures.weights import NEAR_ZERO

_SHARE = "zero weights of all such layers over their number"

DEFINITIONS = {
    "convolutional": Definition(
        raw="mean over layers with 'conv' in their name of the share of zero weights", scale_free=_SHARE
    ),
    "fully_connected": Definition(
        raw="mean over the other layers with 'fc' or 'linear' in their name, and Dense layers, of that share",
        scale_free=_SHARE,
    ),
    "total": Definition(
        raw="(convolutional + fully connected) / 2, whatever their sizes; a kind without layers counts as 0",
        scale_free="zero weights of all kernels, embeddings and scales over their number",
    ),
    "negligible": Definition(
        raw="none",
        scale_free=f"weights up to {NEAR_ZERO:g} of their layer's root mean square, over their number",
    ),
    "zero_share": Definition(raw="share of zero weights of the layer", scale_free="the same"),
}


def sparsity(view: ModelView) -> Experiment:
    """Shares of zero weights.

    Args:
        view: The opened model.
    """
    counted: list[tuple[LayerInfo, _Counts]] = []
    skipped: dict[str, str] = {}
    for info in view.layers:
        tensors, note = _tensors(view, info)
        if note is not None:
            skipped[info.id] = note
        elif tensors:
            counted.append((info, _count(tensors)))
    groups = {name: [c for info, c in counted if _kind(info) == name] for name in ("convolutional", "fully_connected")}
    raw = {name: float(np.mean([c[0] / c[2] for c in found])) if found else 0.0 for name, found in groups.items()}
    everything = [c for _, c in counted]
    model = {
        name: Reading(raw=raw[name] if found else None, scale_free=_share(found, 0)) for name, found in groups.items()
    }
    model["total"] = Reading(raw=sum(raw.values()) / 2, scale_free=_share(everything, 0))
    model["negligible"] = Reading(raw=None, scale_free=_share(everything, 1))
    layers = {
        info.id: {
            "zero_share": Reading(raw=c[0] / c[2], scale_free=_share([c], 0)),
            "negligible": Reading(raw=None, scale_free=_share([c], 1)),
        }
        for info, c in counted
    }
    n = sum(c[2] for c in everything)
    return Experiment(name="sparsity", n=n, definitions=DEFINITIONS, model=model, layers=layers, skipped=skipped)


_Counts = tuple[int, int, int]
"""Zero weights, negligible weights, weights."""


def _tensors(view: ModelView, info: LayerInfo) -> tuple[list[NDArray[np.floating]], str | None]:
    """Kernels of a layer, else its scale, as what it computes with; or why they cannot be read."""
    by_role: dict[bool, list[NDArray[np.floating]]] = {True: [], False: []}
    for variable in view.variables:
        if variable.owner is not info:
            continue
        read = logical_weights.read(info.layer, variable.name, variable.variable, merge_lora=True)
        role, _ = kernels.classify(info.layer, variable.name, tuple(read.values.shape))
        if role not in (*MATRIX_ROLES, "scale") or not read.values.size:
            continue
        if read.note is not None:
            return [], read.note
        by_role[role in MATRIX_ROLES].append(read.values)
    return by_role[True] or by_role[False], None


def _count(tensors: Sequence[NDArray[np.floating]]) -> _Counts:
    values = np.concatenate([np.asarray(tensor, np.float64).ravel() for tensor in tensors])
    rms = float(np.sqrt(np.square(values).mean()))
    return int(np.sum(values == 0)), int(np.sum(np.abs(values) <= NEAR_ZERO * rms)), values.size


def _share(found: Sequence[_Counts], which: int) -> Estimate:
    n = sum(c[2] for c in found)
    return Estimate(value=sum(c[which] for c in found) / n if n else None, n=n)


def _kind(info: LayerInfo) -> str | None:
    name = info.name.lower()
    if "conv" in name:
        return "convolutional"
    named = "fc" in name or "linear" in name
    return "fully_connected" if named or isinstance(info.layer, keras.layers.Dense) else None
