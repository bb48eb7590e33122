"""`explain`: which inputs and which layers made a decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer.config import check_names
from analyzer.data_types.explanation import Explanation
from analyzer.errors import ConfigError
from analyzer.inspection import inputs
from analyzer.inspection.features import arranged_for, check_whole, open_on, opened
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.selection import Layers
from analyzer.relevance.attribution import ATTRIBUTIONS, attribute
from analyzer.relevance.presets import PRESETS, Preset, preset_of
from analyzer.relevance.propagation import propagate
from analyzer.relevance.targets import resolve

if TYPE_CHECKING:
    import keras


def explain(
    model: keras.Model | str | Path,
    x: Any,
    target: Any = "predicted",
    method: str | Preset = "auto",
    layers: Layers | str = "all",
    task: str | None = None,
    start: float | str = "output",
    multiplier: float = 1.0,
    threshold: float = 0.5,
    unknown: str = "raise",
    *,
    batch_size: int = 32,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    values: Mapping[int, Any] | None = None,
) -> Explanation:
    """Which inputs, and which layers, made a decision.

    Relevance starts at one output and goes back layer by layer, each of which hands on what it received, in shares
    that its rule decides (Bach et al., 2015, doi:10.1371/journal.pone.0130140); what biases, softmaxes and stabilisers
    absorb is booked. The model and the process stay as they were. Where an output ends in a softmax or sigmoid, its
    logit is explained.

    Args:
        model: A built model, or the path of a ``.keras`` file.
        x: Samples: one array, a list, or a dict by input name; any number.
        target: What is explained. A class; ``"predicted"`` (of each sample); a list of classes, all at once; an array
            with a class for each sample; a tuple that indexes the output of a sample, e.g. ``(position, token)``;
            ``{output name: any of these}`` where there are several outputs; or a function of what the model returns,
            last softmax and sigmoid cut, that gives one number per sample. For a binary output, class 0 is the negative
            logit.
        method: ``"auto"`` chooses by the layers found and says what it chose; the name of a preset (see
            `analyzer.relevance.presets`) or a preset of your own; or another attribution: ``"gradient"``,
            ``"input_x_gradient"``, ``"smoothgrad"``, ``"vargrad"``, ``"integrated_gradients"``,
            ``"expected_gradients"``, ``"guided_backprop"``, ``"grad_cam"``, ``"grad_cam_plus_plus"``,
            ``"occlusion"``, ``"layer_conductance"``.
        layers: Whose relevance is returned: ``"all"``, None for the inputs only (the fastest, without the ledger), or
            what `analyzer.features` takes.
        task: What kind of output it is: ``"binary"``, ``"multiclass"``, ``"multilabel"``, ``"regression"``, ``"box"``,
            ``"segmentation"`` or ``"sequence"``; None to go by its shape and last activation.
        start: ``"output"`` begins with the value explained; a number begins with that amount, divided among several
            outputs that are explained together.
        multiplier: Multiplies the start.
        threshold: For segmentation: pixels whose probability is above it are explained.
        unknown: What happens at a layer without a rule: ``"raise"``, or ``"gradient"``: relevance goes through by its
            gradient, and the ledger names it.
        batch_size: Most samples per batch, unless the model fixes it.
        seed: For methods that draw noise.
        options: Further options of a method other than a preset, e.g. ``{"steps": 64}``.
        progress: Called with what is running, how much is done and how much there is.
        values: Values that stand for those of variables, by ``id`` of the variable.

    Returns:
        The explanation; see `analyzer.data_types.explanation.Explanation`.

    Raises:
        ConfigError: If the method, the target or an option does not exist for this model.
        DataError: If x does not fit the model, or its outputs are not finite.
        ModelError: If the model was never built or its file cannot be opened.
        Unsupported: If a layer has no rule.
        DeviceMemoryError: If a single sample does not fit into memory.
    """
    check_whole("batch_size", batch_size)
    check_names([unknown], ["raise", "gradient"], what="unknown")
    other = isinstance(method, str) and method in ATTRIBUTIONS
    if not other and not isinstance(method, Preset) and method != "auto":
        if not isinstance(method, str):
            raise ConfigError(f"method={method!r}: expected the name of a method or a Preset.")
        check_names([method], ["auto", *PRESETS, *ATTRIBUTIONS], what="method")
        preset_of(method)
    if options and not other:
        raise ConfigError(
            f"options={dict(options)!r} are for attributions other than relevance; copy and change a preset."
        )
    with opened(model) as live, untouched_process():
        arranged = arranged_for(live, x)
        view = open_on(live, arranged)
        n = inputs.count(arranged)
        resolved = resolve(view, target, n, task=task, start=start, multiplier=multiplier, threshold=threshold)
        common: dict[str, Any] = {"batch_size": batch_size, "progress": progress, "values": values}
        if other:
            chosen: Explanation = attribute(
                view, arranged, resolved, str(method), layers, seed=seed, options=options or {}, **common
            )
            return chosen
        return propagate(view, arranged, resolved, method, layers, unknown=unknown, **common)
