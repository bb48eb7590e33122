"""Calibration: does a model know how sure it may be?"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from analyzer.analyzers.base import BaseAnalyzer, material, outcome
from analyzer.analyzers.calibration_findings import (
    classification_findings,
    gaussian_findings,
    multilabel_findings,
    quantile_findings,
    regression_findings,
)
from analyzer.data_types.calibration import ClassificationCalibration, MultiLabelCalibration
from analyzer.data_types.outputs import OutputData
from analyzer.data_types.regression_calibration import GaussianCalibration, QuantileCalibration, RegressionCalibration
from analyzer.data_types.results import Calibration, for_outputs
from analyzer.errors import Unsupported
from analyzer.inspection.needs import Need, Predictions
from analyzer.measures.calibration.classification import classification_calibration
from analyzer.measures.calibration.gaussian import gaussian_calibration
from analyzer.measures.calibration.multilabel import multilabel_calibration
from analyzer.measures.calibration.quantiles import quantile_calibration
from analyzer.measures.calibration.regression import regression_calibration
from analyzer.measures.calibration.suggestions import MIN_UNITS, suggest_recalibration

if TYPE_CHECKING:
    from analyzer.data_types import AnalysisResults, DataInput

MAX_ROWS = 500_000
"""Most rows (positions) that are looked at; a seeded sample of this size stands for more."""

NO_LABELS = "No labels were given: pass y_data (key y in an .npz file) to measure calibration."
_WEIGHTS_IGNORED = "Sample weights are not used: every row counts once."
_POSITIONS = (
    "Positions of one sample are not independent: intervals resample whole samples, the test looks at one random "
    "position of each, and the asymptotic KS p-value is left out."
)
_NO_SUGGESTION = f"No recalibration is suggested: it takes {MIN_UNITS} samples and more than one class."


class CalibrationAnalyzer(BaseAnalyzer):
    """Calibration of every output that has labels, in the form that suits what it predicts."""

    name: ClassVar[str] = "calibration"

    def requires_data(self) -> bool:
        """Calibration compares predictions with labels."""
        return True

    def needs(self) -> tuple[Need, ...]:
        """Predictions."""
        return (Predictions(),)

    def analyze(self, results: AnalysisResults, data: DataInput | None, cache: Mapping[str, Any]) -> None:
        """Fill ``results.calibration``."""
        del data
        results.calibration = self.each_model(lambda name: self._model(name, cache))

    def _model(self, name: str, cache: Mapping[str, Any]) -> Any:
        outputs: dict[str, OutputData] = material(cache, name, Predictions())
        if len(outputs) == 1:
            return self.output(next(iter(outputs.values())))
        return for_outputs({key: outcome(functools.partial(self.output, each)) for key, each in outputs.items()})

    def output(self, output: OutputData) -> Calibration:
        """Calibration of one output.

        Args:
            output: Predictions and labels.

        Raises:
            Unsupported: If there are no labels, the task is unknown, or predicted variances are not positive.
        """
        if output.task.kind == "unknown":
            raise Unsupported(output.task.reason or "What this output predicts is not known. Say task=....")
        if output.labels is None:
            raise Unsupported(NO_LABELS)
        if len(output.labels) == 0:
            raise Unsupported("There are no samples to measure calibration on.")
        if output.task.kind == "regression":
            return self._regression(output)
        if output.task.kind == "gaussian":
            return self._gaussian(output)
        if output.task.kind == "quantile":
            return self._quantile(output)
        return self._multilabel(output) if output.task.kind == "multilabel" else self._classification(output)

    def _classification(self, output: OutputData) -> ClassificationCalibration:
        p, labels, groups, logits, notes = self._rows(output)
        binary = output.task.kind == "binary"
        columns = p[:, None] if binary else p
        if not binary and columns.shape[1] < 2:
            raise Unsupported("One class cannot be mistaken for another: the output has a single softmax column.")
        result = classification_calibration(
            p,
            labels,
            task=output.task.kind,
            from_logits=output.task.from_logits,
            n_bins=self.config.calibration_bins,
            n_bootstrap=self.config.n_bootstrap,
            seed=self.config.seed,
            groups=groups,
            class_names=output.class_names,
        )
        suggestions = suggest_recalibration(
            columns,
            labels[:, None].astype(np.float64) if binary else np.eye(p.shape[1])[labels],
            activation="sigmoid" if binary else "softmax",
            logits=logits[:, None] if binary and logits is not None else logits,
            groups=groups,
            n_bins=self.config.calibration_bins,
            n_bootstrap=self.config.n_bootstrap,
            seed=self.config.seed,
        )
        notes += () if suggestions else (_NO_SUGGESTION,)
        result = dataclasses.replace(result, recalibration=suggestions, notes=notes)
        return dataclasses.replace(result, findings=tuple(classification_findings(result)))

    def _multilabel(self, output: OutputData) -> MultiLabelCalibration:
        p, labels, groups, logits, notes = self._rows(output)
        result = multilabel_calibration(
            p,
            labels,
            from_logits=output.task.from_logits,
            n_bins=self.config.calibration_bins,
            n_bootstrap=self.config.n_bootstrap,
            seed=self.config.seed,
            groups=groups,
            label_names=output.class_names,
        )
        suggestions = suggest_recalibration(
            p,
            labels.astype(np.float64),
            activation="sigmoid",
            logits=logits,
            groups=groups,
            n_bins=self.config.calibration_bins,
            n_bootstrap=self.config.n_bootstrap,
            seed=self.config.seed,
        )
        notes += () if suggestions else (_NO_SUGGESTION,)
        result = dataclasses.replace(result, recalibration=suggestions, notes=notes)
        return dataclasses.replace(result, findings=tuple(multilabel_findings(result)))

    def _regression(self, output: OutputData) -> RegressionCalibration:
        truth = _labels(output)
        result = regression_calibration(
            output.raw.reshape(truth.shape).astype(np.float64),
            truth,
            n_bootstrap=self.config.n_bootstrap,
            seed=self.config.seed,
            groups=output.groups,
        )
        result = dataclasses.replace(result, notes=_weight_note(output))
        return dataclasses.replace(result, findings=tuple(regression_findings(result)))

    def _gaussian(self, output: OutputData) -> GaussianCalibration:
        truth = _labels(output)
        raw = output.raw.reshape(len(truth), -1).astype(np.float64)
        mean, variance = raw[:, : truth.shape[1]], raw[:, truth.shape[1] :]
        if not (variance > 0).all():
            raise Unsupported(
                f"Output {output.name!r} should hold means and then variances, but {int((variance <= 0).sum())} of its "
                f"variances are not positive (least: {variance.min():.4g}). Pass them through softplus or exp, or say "
                "task='regression'."
            )
        result = gaussian_calibration(
            mean,
            variance,
            truth,
            n_bootstrap=self.config.n_bootstrap,
            seed=self.config.seed,
            groups=output.groups,
        )
        result = dataclasses.replace(result, notes=_weight_note(output))
        return dataclasses.replace(result, findings=tuple(gaussian_findings(result)))

    def _quantile(self, output: OutputData) -> QuantileCalibration:
        truth = _labels(output)
        levels = output.task.quantiles
        if not levels:
            raise Unsupported("The levels of the quantiles are not known. Say task='quantile:0.1,0.5,0.9'.")
        n, n_targets = truth.shape
        # Several targets become rows of their own, grouped by sample.
        groups = np.repeat(np.arange(n), n_targets) if n_targets > 1 else output.groups
        result = quantile_calibration(
            output.raw.reshape(n * n_targets, len(levels)).astype(np.float64),
            truth.reshape(-1),
            levels,
            n_bootstrap=self.config.n_bootstrap,
            seed=self.config.seed,
            groups=groups,
        )
        result = dataclasses.replace(result, notes=_weight_note(output))
        return dataclasses.replace(result, findings=tuple(quantile_findings(result)))

    def _rows(
        self, output: OutputData
    ) -> tuple[
        NDArray[np.float64],
        NDArray[np.int64],
        NDArray[np.int64] | None,
        NDArray[np.float64] | None,
        tuple[str, ...],
    ]:
        """Probabilities, labels, groups, the logits the model returns (None if it does not), and notes."""
        if output.probabilities is None:
            raise Unsupported(output.task.reason)
        notes = (*_weight_note(output), *((_POSITIONS,) if output.groups is not None else ()))
        p, labels, groups = output.probabilities, np.asarray(output.labels), output.groups
        logits = output.logits if output.task.from_logits else None
        if len(labels) > MAX_ROWS:
            rng = np.random.default_rng([self.config.seed, 4])
            rows = np.sort(rng.choice(len(labels), MAX_ROWS, replace=False))
            notes += (f"A random {MAX_ROWS} of {len(labels)} positions were looked at.",)
            p, labels = p[rows], labels[rows]
            groups = None if groups is None else groups[rows]
            logits = None if logits is None else logits[rows]
        return p, labels, groups, logits, notes


def _labels(output: OutputData) -> NDArray[np.float64]:
    labels = np.asarray(output.labels, dtype=np.float64)
    return labels.reshape(len(labels), -1)


def _weight_note(output: OutputData) -> tuple[str, ...]:
    return () if output.sample_weight is None else (_WEIGHTS_IGNORED,)
