"""What `compare_methods` measures: one subject, several methods and noise, all in the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.data_types.explanation_quality import QualityScore
from analyzer.errors import Unsupported
from analyzer.inspection.view import ModelView
from analyzer.relevance.evaluation import faithfulness, quality
from analyzer.relevance.evaluation.explained_score import ExplainedScore
from analyzer.relevance.evaluation.randomization import values_of
from analyzer.relevance.evaluation.reinitialize import redraw
from analyzer.relevance.evaluation.removal import Removal
from analyzer.relevance.evaluation.scoring import quality_score
from analyzer.relevance.presets import Preset

if TYPE_CHECKING:
    from analyzer.data_types.explanation import Explanation

METRICS = (
    "abpc",
    "comprehensiveness",
    "sufficiency",
    "insertion",
    "deletion",
    "faithfulness_correlation",
    "max_sensitivity",
    "random_logit",
    "parameter_randomization",
    "sparseness",
    "complexity",
)
"""Measures of a comparison; the first one decides."""

Maps = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What is explained: a model, samples, and a target that does not move with them.

    Attributes:
        view: The opened model.
        arranged: Samples in the structure that the model is called with.
        inputs: The same by name of the input.
        score: The explained value.
        target: What `explain` is asked for.
        n_classes: Number of classes where a class is explained, else None.
    """

    view: ModelView
    arranged: Any
    inputs: Maps
    score: ExplainedScore
    target: Any
    n_classes: int | None

    def packed(self, x: Any) -> Any:
        """Arrays by name in the structure that the model is called with."""
        return keras.tree.pack_sequence_as(self.arranged, list(x.values()))

    def predict(self, x: Any) -> NDArray[np.float64]:
        """The explained value of each sample."""
        return self.score(self.packed(x))


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One method on the subject.

    Attributes:
        subject: What is explained.
        method: As for `explain`.
        shared: Further arguments of `explain`.
    """

    subject: Subject
    method: str | Preset
    shared: dict[str, Any]

    def maps(self, x: Any, *, target: Any = None, values: Mapping[int, Any] | None = None) -> Maps:
        """Maps by input name.

        Args:
            x: All samples by input name.
            target: What is explained; None for the subject's.
            values: Values that stand for those of variables.
        """
        from analyzer.relevance.explain import explain

        subject = self.subject
        given = dict(x) if getattr(subject.view.model, "inputs", None) else subject.packed(x)
        found: Explanation = explain(
            subject.view.model,
            given,
            subject.target if target is None else target,
            self.method,
            layers=None,
            values=values,
            **self.shared,
        )
        against = found.against or {}
        # Two maps that travel together speak for and against: their difference is the signed map.
        maps = [array - against[name] if name in against else array for name, array in found.inputs.items()]
        return dict(zip(subject.inputs, maps, strict=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class Noise:
    """Random maps in place of explanations, new ones at each call."""

    removal: Removal
    rng: np.random.Generator

    def maps(self, x: Any, *, target: Any = None, values: Mapping[int, Any] | None = None) -> Maps:
        """Noise in the shapes of the inputs, whatever is asked for."""
        del x, target, values
        return dict(quality.random_maps(self.removal, int(self.rng.integers(2**31))))


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """Measures every method in the same way.

    Attributes:
        subject: What is explained.
        removal: Its inputs and what stands in place of a feature.
        metrics: Which of `METRICS` are computed.
        steps: Points of perturbation curves after the first.
        common: Arguments of every measure: draws and seed.
        told: Told of progress.
        skipped: Reason by measure for those that turned out not to apply.
        random_values: Parameters drawn anew, once they were needed.
    """

    subject: Subject
    removal: Removal
    metrics: tuple[str, ...]
    steps: int
    common: dict[str, Any]
    told: Callable[[str, int, int], None]
    skipped: dict[str, str] = field(default_factory=dict)
    random_values: list[dict[int, Any]] = field(default_factory=list)

    def measure(self, name: str, run: Run | Noise, maps: Maps) -> dict[str, QualityScore]:
        """All measures of one method's maps, in the order of `METRICS`."""

        def told(label: str, done: int, total: int) -> None:
            self.told(f"{name}: {label}", done, total)

        following: dict[str, Any] = {**self.common, "progress": told}
        predict, removal = self.subject.predict, self.removal
        curves = faithfulness.morf_lerf(predict, removal, maps, steps=self.steps, **following)
        makers: dict[str, Callable[[], QualityScore]] = {
            "abpc": lambda: curves.abpc,
            "comprehensiveness": lambda: curves.comprehensiveness,
            "sufficiency": lambda: curves.sufficiency,
            "insertion": lambda: faithfulness.insertion_of(curves, **self.common),
            "deletion": lambda: faithfulness.deletion_of(curves, **self.common),
            "faithfulness_correlation": lambda: faithfulness.faithfulness_correlation(
                predict, removal, maps, **following
            ),
            "max_sensitivity": lambda: quality.max_sensitivity(run.maps, removal, maps, **following),
            "random_logit": lambda: self._random_logit(run, maps),
            "parameter_randomization": lambda: self._randomized(run, maps),
            "sparseness": lambda: quality.sparseness(removal, maps, **self.common),
            "complexity": lambda: quality.complexity(removal, maps, **self.common),
        }
        found = {}
        for metric in METRICS:
            if metric in self.metrics and metric not in self.skipped:
                try:
                    found[metric] = makers[metric]()
                except Unsupported as error:
                    self.skipped[metric] = str(error)
        return found

    def _random_logit(self, run: Run | Noise, maps: Maps) -> QualityScore:
        subject = self.subject
        if subject.n_classes is None:
            raise Unsupported("What is explained is no class: there is no other class to explain.")
        output = next(iter(subject.target)) if isinstance(subject.target, Mapping) else None

        def attribute(x: Any, targets: NDArray[np.int64]) -> Maps:
            return run.maps(x, target=targets if output is None else {output: targets})

        index = subject.score.target.index
        targets = np.broadcast_to(np.asarray(index)[0], (self.removal.n,))
        return quality.random_logit(attribute, self.removal, targets, subject.n_classes, maps=maps, **self.common)

    def _randomized(self, run: Run | Noise, maps: Maps) -> QualityScore:
        """Similarity with the maps of the same model with all parameters drawn anew."""
        if not self.random_values:
            drawn, _ = redraw(self.subject.view, self.common["seed"])
            self.random_values.append(values_of(drawn))
        if not self.random_values[0]:
            raise Unsupported("The model has no parameters that can be drawn anew.")
        random = run.maps(self.removal.whole, values=self.random_values[0])
        similarity = quality.map_similarity(self.removal, maps, random)
        return quality_score("parameter_randomization", "smaller", similarity, **self.common)
