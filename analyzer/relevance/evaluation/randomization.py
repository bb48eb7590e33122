"""Model-parameter randomisation: do maps change when what the model learned is taken away, layer by layer?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.config import Progress as ProgressSetting
from analyzer.config import check_names
from analyzer.data_types.explanation_quality import Order, RandomizationStep, RandomizationTest
from analyzer.errors import Unsupported
from analyzer.inspection.view import ModelView, open_model
from analyzer.measures.map_complexity import relative_entropy_rise
from analyzer.measures.map_similarity import MapSimilarity
from analyzer.progress import Progress
from analyzer.relevance.evaluation.quality import map_similarity
from analyzer.relevance.evaluation.reinitialize import Redrawn, Values, redraw
from analyzer.relevance.evaluation.removal import Inputs, Removal
from analyzer.relevance.evaluation.scoring import check_at_least, mean_of, stepping

Floats = NDArray[np.float64]
AttributeWith = Callable[[Inputs, Values | None], Inputs]
"""From all samples, and values that stand for those of variables, to their maps."""

ORDERS = ("top_down", "bottom_up", "independent")


def parameter_randomization(
    attribute: AttributeWith,
    model: keras.Model | ModelView,
    removal: Removal,
    maps: Inputs | None = None,
    *,
    order: Order = "top_down",
    similarity: MapSimilarity = "spearman",
    steps: int | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    progress: ProgressSetting = False,
) -> RandomizationTest:
    """Compare the maps of a model with those of the same model with some layers' parameters drawn anew.

    Model-parameter randomisation test (Adebayo et al. 2018, arXiv 1810.03292) with the rise in entropy of Hedström et
    al. (2024, arXiv 2405.02383). Parameters come from the model's own initialisers; the model is not touched. A step
    always randomises at least one layer.

    Args:
        attribute: Maps of all samples under given values of variables.
        model: A built model, or one that is open already.
        removal: The inputs.
        maps: Maps of the model itself, where they are there already.
        order: ``"top_down"`` cascades from the output, ``"bottom_up"`` from the input; ``"independent"`` randomises one
            layer at a time.
        similarity: How maps are compared, see `analyzer.relevance.evaluation.quality.map_similarity`.
        steps: At most so many steps, evenly spread over the layers, the last one among them; None for every layer.
        n_bootstrap: Draws behind each interval.
        seed: Draws the parameters, and seeds intervals.
        progress: Whether bars are drawn, or who is told of each step.

    Returns:
        The similarity after each step, its mean, and the rise in entropy with all layers random.

    Raises:
        ConfigError: If an option has no such value.
        Unsupported: If no layer has parameters that can be drawn anew.
    """
    check_names([order], ORDERS, what="order")
    if steps is not None:
        check_at_least("steps", steps)
    view = model if isinstance(model, ModelView) else open_model(model)
    drawn, skipped = redraw(view, seed)
    if not drawn:
        raise Unsupported(f"The model {view.model.name!r} has no layer whose parameters can be drawn anew: {skipped}.")
    stages = _stages(drawn, order, steps)
    own = attribute(removal.whole, None) if maps is None else maps
    similar, random = np.empty((len(stages), removal.n)), own
    with Progress(progress) as bars:
        for i in stepping(bars, "parameter randomisation", len(stages)):
            random = attribute(removal.whole, values_of(stages[i]))
            similar[i] = map_similarity(removal, own, random, similarity)
    if len(stages[-1]) < len(drawn):
        random = attribute(removal.whole, values_of(drawn))
    rise = relative_entropy_rise(removal.scores(own), removal.scores(random))

    def estimate(values: Floats) -> Any:
        return mean_of(values, n_bootstrap=n_bootstrap, seed=seed)

    return RandomizationTest(
        order=order,
        measure=similarity,
        steps=tuple(
            RandomizationStep(
                layer=stage[-1].layer, randomized=tuple(one.layer for one in stage), similarity=estimate(values)
            )
            for stage, values in zip(stages, similar, strict=True)
        ),
        mean_similarity=estimate(_known_mean(similar)),
        entropy_rise=estimate(rise),
        seed=seed,
        skipped=skipped,
    )


def values_of(layers: Sequence[Redrawn]) -> dict[int, Any]:
    """The new values of several layers together."""
    return {key: value for one in layers for key, value in one.values.items()}


def _stages(drawn: Sequence[Redrawn], order: Order, steps: int | None) -> list[Sequence[Redrawn]]:
    """Which layers are random in each step, the one that came last at the end."""
    ordered = list(drawn) if order == "bottom_up" else list(drawn)[::-1]
    count = len(ordered) if steps is None else min(steps, len(ordered))
    # Ends of the steps, counted from 1: no step is without a random layer.
    ends = np.unique(np.round(np.linspace(len(ordered) / count, len(ordered), count)).astype(int).clip(1))
    return [ordered[end - 1 : end] if order == "independent" else ordered[:end] for end in ends]


def _known_mean(similar: Floats) -> Floats:
    known = np.isfinite(similar)
    count = known.sum(axis=0)
    total = np.where(known, similar, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
