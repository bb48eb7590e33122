"""Attributions other than relevance, on the same targets: see `attribute`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.config import check_names
from analyzer.data_types.explanation import Explanation
from analyzer.errors import ConfigError
from analyzer.inspection.batching import in_batches
from analyzer.inspection.features import arranged_for
from analyzer.inspection.inputs import input_names
from analyzer.inspection.selection import Layers
from analyzer.inspection.view import ModelView
from analyzer.relevance.attributions.cam import GradCam, GradCamPlusPlus
from analyzer.relevance.attributions.explained import cut, explanation
from analyzer.relevance.attributions.gradients import (
    Gradient,
    GuidedBackprop,
    InputTimesGradient,
    SmoothGrad,
    SquareGrad,
    VarGrad,
)
from analyzer.relevance.attributions.method import Batch, Method, Part, Question
from analyzer.relevance.attributions.observed import Observed
from analyzer.relevance.attributions.occlusion import Occlusion
from analyzer.relevance.attributions.passing import Pass
from analyzer.relevance.attributions.path import ExpectedGradients, IntegratedGradients, LayerConductance
from analyzer.relevance.propagation import chosen_calls
from analyzer.relevance.targets import Target
from analyzer.relevance.tracing import plan

METHODS: dict[str, type[Method]] = {
    "gradient": Gradient,
    "input_x_gradient": InputTimesGradient,
    "smoothgrad": SmoothGrad,
    "vargrad": VarGrad,
    "squaregrad": SquareGrad,
    "integrated_gradients": IntegratedGradients,
    "expected_gradients": ExpectedGradients,
    "guided_backprop": GuidedBackprop,
    "grad_cam": GradCam,
    "grad_cam_plus_plus": GradCamPlusPlus,
    "occlusion": Occlusion,
    "layer_conductance": LayerConductance,
}
"""By name. Options of each are the keyword-only arguments of its class."""

ATTRIBUTIONS: tuple[str, ...] = tuple(METHODS)
"""Names of the attributions."""


def attribute(
    view: ModelView,
    arranged: Any,
    target: Target,
    method: str,
    layers: Layers | str,
    *,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    batch_size: int = 32,
    progress: Callable[[str, int, int], None] | None = None,
    values: Mapping[int, Any] | None = None,
) -> Explanation:
    """Explain by a method that is no relevance; see `analyzer.relevance.explain.explain`.

    Maps of inputs of whole numbers have one number per token, from what stands at its embedding. The ledger has a row
    where a method promises a sum: ``relevance_in`` is what was to be shared out (``f(x) - f(baseline)``),
    ``relevance_out`` the sum of the map; ``measured["completeness_gap"]`` has the difference for each sample.

    Args:
        view: The opened model.
        arranged: Samples in the structure that the model is called with.
        target: What is explained. Predicted classes and masks are those of the samples as they are.
        method: One of `ATTRIBUTIONS`.
        layers: Whose maps are returned; for gradient, input_x_gradient, guided_backprop and layer_conductance.
        seed: For methods that draw; what is drawn for a sample depends on this and on its position in x.
        options: Options of the method, by name; see the classes in `METHODS`.
        batch_size: Most samples per batch.
        progress: Told after every batch.
        values: Values that stand for those of variables.

    Raises:
        ConfigError: If an option is unknown or has no such value, or layers are named to a method that has none.
        DataError: If what is explained is not finite.
        Unsupported: If the method does not apply to this model.
        DeviceMemoryError: If a single sample does not fit.
    """
    planned = plan(view)
    kind = METHODS[method]
    check_options(method, kind, options or {})
    if not kind.of_layers and layers is not None and not (isinstance(layers, str) and layers == "all"):
        having = ", ".join(name for name, one in METHODS.items() if one.of_layers)
        raise ConfigError(
            f"layers={layers!r}: {method} explains inputs only. Leave layers out, or use one of {having}."
        )
    question = Question(
        plan=planned,
        arranged=arranged,
        names=input_names(view.model, arranged),
        layers=layers,
        taps=chosen_calls(planned, layers) if kind.of_layers else frozenset(),
        seed=seed,
        arrange=lambda more: arranged_for(view.model, more),
    )
    working = kind(question, **(options or {}))
    observed = Observed(plan=planned, taps=working.taps, guided=working.guided)
    passing: Pass | None = None

    def run(x: Any, rows: NDArray[np.int64], real: int) -> Part:
        nonlocal passing
        if passing is None:
            passing = Pass(observed, target, x, values)
            working.begin(passing)
        batch = Batch(flat=[np.asarray(array) for array in keras.tree.flatten(x)], rows=rows)
        return cut(working.part(passing, batch), real, int(rows[0]))

    def forget() -> None:
        nonlocal passing
        passing = None

    parts = list(
        in_batches(
            view.model,
            arranged,
            batch_size,
            run,
            forget=forget,
            too_large=f"by {method}. Ask for fewer layers, layers=None for the inputs, or use a larger device.",
            told=None if progress is None else lambda done, n: progress(method, done, n),
        )
    )
    if passing is not None:
        passing.release()
    return explanation(parts, question, target, method, working.notes)


def check_options(method: str, kind: type[Method], options: Mapping[str, Any]) -> None:
    """Refuse options that a method does not have.

    Raises:
        ConfigError: With those that it has.
    """
    known = [name for name, one in inspect.signature(kind).parameters.items() if one.kind is one.KEYWORD_ONLY]
    if options and not known:
        raise ConfigError(f"options={dict(options)!r}: {method} has no options.")
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ConfigError(f"Unknown option {unknown[0]!r} of {method}. Its options: {', '.join(known)}.")
    check_names(options, known, what=f"option of {method}")
