"""Results made up for figures: every kind, of any size, with no model behind them."""

from __future__ import annotations

import dataclasses
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from analyzer.comparison.pareto import pareto as find_pareto
from analyzer.data_types import AnalysisResults, Estimate, Failed, Finding, MultiOutput, OutputTask, Skipped
from analyzer.data_types.calibration import ClassificationCalibration, LabelCalibration, MultiLabelCalibration
from analyzer.data_types.calibration_parts import CalibrationVerdict, ClassCalibration, ReliabilityBins, SmoothCurve
from analyzer.data_types.comparison import Comparison, ModelPair, PairwiseSimilarity, RelevanceAgreement, WeightPca
from analyzer.data_types.cost import CostResult, LayerCost, ModelInput
from analyzer.data_types.information_flow import GradientFlow, InformationFlowResult, LayerFlow
from analyzer.data_types.metric_names import Metric
from analyzer.data_types.pareto import ParetoResult
from analyzer.data_types.performance import PerformanceResult
from analyzer.data_types.regression_calibration import (
    Coverage,
    GaussianCalibration,
    QuantileCalibration,
    RegressionCalibration,
)
from analyzer.data_types.training import Curve, LearningRateStep, Peak, TrainingResult
from analyzer.data_types.weights import Health, Histogram, LayerWeights, ParameterTotals, WeightResult
from tests.visualizers.synthetic_relevance import RelevanceResult, explanation, relevance
from tests.visualizers.synthetic_robustness import robustness, robustness_pairs
from tests.visualizers.synthetic_shift import shift

__all__ = ["RelevanceResult", "explanation", "relevance", "robustness", "shift"]

LONG = "ResNet/" + "stage_block-unit.branch/" * 12 + "final"
NASTY = ("$x$", "<b>bold</b> & co", "_hidden", "日本 🚀", "../../etc", "a\nb\tc", "100 % \\alpha^2", "\u202egnp.exe")


def estimate(value: float | None, n: int = 300, half: float | None = 0.02) -> Estimate:
    """An estimate with a symmetric interval."""
    if value is None or half is None:
        return Estimate(value=value, n=n)
    return Estimate(value=float(value), low=float(value) - half, high=float(value) + half, n=n, method="made up")


def make(cls: type, **known: Any) -> Any:
    """A result with the fields that figures do not read filled in by type."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if field.name not in known and required:
            known[field.name] = _filler(hints[field.name])
    return cls(**known)


def _filler(hint: Any) -> Any:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else ()
    if type(None) in options:
        return None
    if hint is Estimate:
        return estimate(0.1)
    if dataclasses.is_dataclass(hint):
        return make(hint)
    if get_origin(hint) is tuple:
        return ()
    return {int: 300, float: 0.1, str: "made up", bool: False}.get(hint, np.zeros(1))


def bins_of(confidence: np.ndarray, correct: np.ndarray, n_bins: int = 15) -> ReliabilityBins:
    """Equal-width bins, empty ones left out."""
    edges = np.linspace(0, 1, n_bins + 1)
    place = np.clip(np.digitize(confidence, edges) - 1, 0, n_bins - 1)
    filled = np.unique(place)
    count = np.array([(place == b).sum() for b in filled])
    mean = np.array([confidence[place == b].mean() for b in filled])
    spread = 1.96 * np.sqrt(mean * (1 - mean) / count)
    return ReliabilityBins(
        lower=edges[filled],
        upper=edges[filled + 1],
        confidence=mean,
        accuracy=np.array([correct[place == b].mean() for b in filled]),
        count=count,
        band_low=np.clip(mean - spread, 0, 1),
        band_high=np.clip(mean + spread, 0, 1),
    )


def curve_of(confidence: np.ndarray, correct: np.ndarray) -> SmoothCurve:
    """A kernel smoother."""
    at = np.linspace(confidence.min(), confidence.max(), 60)
    kernel = np.exp(-0.5 * ((at[:, None] - confidence) / 0.06) ** 2)
    mass = kernel.sum(1)
    return SmoothCurve(confidence=at, accuracy=kernel @ correct / mass, density=mass / mass.sum(), bandwidth=0.06)


def verdict(direction: Any = "over-confident", n: int = 300) -> CalibrationVerdict:
    """A verdict."""
    return CalibrationVerdict(
        text=f"{direction} (p = 0.001, n = {n})", direction=direction, p_value=0.001, level=0.05, test="made up", n=n
    )


def classification(
    seed: int = 0, n: int = 300, classes: int = 10, sharp: float = 3.0, names: tuple[str, ...] = ()
) -> ClassificationCalibration:
    """Softmax predictions that are too sure of themselves."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes))
    truth = np.exp(2.2 * logits)
    truth /= truth.sum(1, keepdims=True)
    labels = (truth.cumsum(1) < rng.random((n, 1))).sum(1).clip(0, classes - 1)
    p = np.exp(sharp * logits)
    p /= p.sum(1, keepdims=True)
    confidence, predicted = p.max(1), p.argmax(1)
    correct = predicted == labels
    ece = float(abs(confidence.mean() - correct.mean()))
    per_class = tuple(
        ClassCalibration(
            index=k,
            name=names[k] if names else str(k),
            ece=estimate(0.03 + 0.01 * rng.random(), n, 0.01),
            n=int((labels == k).sum()),
            base_rate=float((labels == k).mean()),
            mean_probability=float(p[:, k].mean()),
        )
        for k in range(classes)
    )
    return make(
        ClassificationCalibration,
        task="binary" if classes == 2 else "multiclass",
        n=n,
        n_samples=n,
        n_classes=classes,
        n_bins=15,
        ece=estimate(ece, n),
        accuracy=estimate(correct.mean(), n, 0.04),
        mean_confidence=estimate(confidence.mean(), n),
        brier=estimate(float(1 - correct.mean()), n, 0.03),
        log_loss=estimate(0.8, n, 0.1),
        per_class=per_class,
        verdict=verdict(n=n),
        reliability=bins_of(confidence, correct),
        smooth_curve=curve_of(confidence, correct),
        confidence=confidence,
        entropy=-(p * np.log(np.clip(p, 1e-300, None))).sum(1),
        correct=correct,
        predicted=predicted,
    )


def multilabel(seed: int = 0, n: int = 300, labels: int = 4) -> MultiLabelCalibration:
    """Independent labels."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.7, 0.9, size=(n, labels))
    y = rng.random((n, labels)) < p**1.4
    parts = tuple(
        make(
            LabelCalibration,
            index=k,
            name=f"label {k}",
            n=n,
            n_positive=int(y[:, k].sum()),
            ece=estimate(0.05 + 0.01 * k, n),
            verdict=verdict("miscalibrated", n),
            reliability=bins_of(p[:, k], y[:, k]),
            smooth_curve=curve_of(p[:, k], y[:, k]),
        )
        for k in range(labels)
    )
    confidence = np.maximum(p, 1 - p)
    entropy = -(p * np.log(p.clip(1e-300)) + (1 - p) * np.log((1 - p).clip(1e-300)))
    return make(
        MultiLabelCalibration,
        task="multilabel",
        n=n,
        n_samples=n,
        n_bins=15,
        ece=estimate(0.065, n),
        brier=estimate(0.15, n),
        accuracy=estimate(((p > 0.5) == y).mean(), n),
        worst_label=f"label {labels - 1}",
        labels=parts,
        verdict=verdict("miscalibrated", n),
        confidence=confidence,
        entropy=entropy,
        correct=(p > 0.5) == y,
    )


def regression(seed: int = 0, n: int = 300) -> RegressionCalibration:
    """A point regression of two targets."""
    rng = np.random.default_rng(seed)
    prediction = rng.normal(size=(n, 2)) * 3
    return make(
        RegressionCalibration,
        task="regression",
        n=n,
        n_samples=n,
        rmse=estimate(0.7, n, 0.05),
        prediction=prediction,
        residual=rng.normal(size=(n, 2)) * (0.3 + 0.1 * abs(prediction)),
    )


def gaussian(seed: int = 0, n: int = 300) -> GaussianCalibration:
    """A head of mean and variance."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 1)) * 1.3
    coverage = tuple(
        Coverage(nominal=level, observed=estimate(max(level - 0.1, 0.05), n, 0.04))
        for level in (0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
    )
    pit = rng.beta(0.7, 0.7, (n, 1))
    return make(
        GaussianCalibration,
        task="gaussian",
        n=n,
        n_samples=n,
        coverage=coverage,
        pit=pit,
        prediction=rng.normal(size=(n, 1)),
        residual=z,
        predicted_std=np.ones((n, 1)),
        verdict=verdict(n=n),
    )


def quantile(n: int = 300) -> QuantileCalibration:
    """A head of three quantiles."""
    levels = (0.1, 0.5, 0.9)
    return make(
        QuantileCalibration,
        task="quantile",
        n=n,
        n_samples=n,
        levels=levels,
        verdict=verdict("calibrated", n),
        coverage=tuple(Coverage(nominal=q, observed=estimate(q, n, 0.03)) for q in levels),
        pinball=tuple(estimate(0.2 - abs(q - 0.5) * 0.2, n) for q in levels),
        prediction=np.zeros((n, 3)),
        residual=np.zeros((n, 3)),
    )


def weights(seed: int = 0, ids: tuple[str, ...] = ("conv2d", "conv2d_1", "dense", "dense_1")) -> WeightResult:
    """Normal weights; the third layer is sick and the last one dead."""
    rng = np.random.default_rng(seed)
    layers, findings = [], []
    for i, key in enumerate(ids):
        values = rng.standard_t(5, size=2000) * 0.05 * 1.1 ** (i % 7)
        score = 1.0 if i != 2 else 0.35
        if i == len(ids) - 1 and i > 0:
            values, score = values * 0, 0.0
        counts, edges = np.histogram(values, bins=50)
        health = Health(score=score, worst=None if score == 1 else "made_up")
        l2 = float(np.linalg.norm(values))
        layers.append(
            make(
                LayerWeights,
                id=key,
                name=key,
                type="Dense",
                order=i,
                parameters=2000 + i,
                trainable=2000,
                tensors=(f"{key}/kernel",),
                size=2000,
                health=health,
                l2=l2,
                rms=l2 / 2000**0.5,
                spectral_norm=l2 / 3,
                histogram=Histogram(counts=counts, edges=edges),
            )
        )
        if score < 1:
            findings.append(Finding(kind="made_up", layer=key, severity="warning" if score else "error", message="bad"))
    worst = min(range(len(ids)), key=lambda i: layers[i].health.score)
    return WeightResult(
        findings=tuple(findings),
        tensors=(),
        layers=tuple(layers),
        omitted_tensors=0,
        totals=ParameterTotals(total=2000 * len(ids), trainable=2000 * len(ids), non_trainable=0),
        health=Health(score=layers[worst].health.score, worst=ids[worst]),
    )


def training(seed: int = 0, epochs: int = 30, runs: int = 1, window: int | None = 5) -> TrainingResult:
    """A run that overfits in its second half."""
    rng = np.random.default_rng(seed)
    t = np.arange(1, epochs + 1)

    def noisy(line: np.ndarray) -> np.ndarray:
        return line + 0.02 * rng.normal(size=(runs, epochs))

    raw = {
        "loss": noisy(1.6 * np.exp(-t / 6) + 0.1),
        "val_loss": noisy(1.6 * np.exp(-t / 6) + 0.25 + 0.012 * np.clip(t - 12, 0, None)),
        "accuracy": noisy(1 - 0.8 * np.exp(-t / 5)),
        "val_accuracy": noisy(0.93 - 0.7 * np.exp(-t / 5)),
    }
    pairs = {"loss": "down", "accuracy": "up"}
    metrics = {
        name: Metric(
            name=name, family=name, direction=way, prefix=None, train=name, validation=f"val_{name}", reason="made up"
        )
        for name, way in pairs.items()
    }
    curves = {}
    for name, series in {**raw, "gap": raw["val_loss"] - raw["loss"]}.items():
        smooth = None if window is None else np.array([_smooth(run, window) for run in series])
        split = None if name == "gap" else "validation" if name.startswith("val_") else "training"
        curves[name] = Curve(metric=name.removeprefix("val_"), raw=series, smoothed=smooth, split=split)
    best = int(raw["val_accuracy"][0].argmax())
    value = float(raw["val_accuracy"][0, best])
    peak = Peak(
        series="val_accuracy",
        direction="up",
        value=estimate(value, runs, None),
        epoch=estimate(best + 1, runs, None),
        corrected=estimate(value - 0.02, runs, None),
    )
    return TrainingResult(
        n_runs=runs,
        epochs=t,
        performance=metrics["accuracy"],
        performance_reason="made up",
        loss=metrics["loss"],
        metrics=metrics,
        peak_performance=peak,
        epochs_to_convergence=estimate(9, runs, None),
        overfitting_index=estimate(0.3, runs, None),
        final_gap=estimate(0.4, runs, None),
        training_stability_score=estimate(0.031, runs, None),
        evaluated_gap=estimate(0.25, 200),
        learning_rate_steps=(LearningRateStep(run=1, epoch=11, before=1e-3, after=1e-4),),
        gap=curves.pop("gap"),
        curves=curves,
        smoothing_window=window,
    )


def _smooth(line: np.ndarray, window: int) -> np.ndarray:
    padded = np.pad(line, (window // 2, window - 1 - window // 2), mode="edge")
    return np.convolve(padded, np.ones(window) / window, mode="valid")


FLOW_IDS = ("conv2d", "relu", "dense", "relu_1", "logits")


def flow(
    seed: int = 0, ids: tuple[str, ...] = FLOW_IDS, *, full: bool = True, units: int = 32, broken: bool = False
) -> InformationFlowResult:
    """Activations of a net: the last rectifier has dead units, and two of them are found wanting.

    Args:
        seed: Seed.
        ids: Layers; those with ``relu`` in their names are rectified.
        full: With ranks, gradients and probes; else what one pass without labels and kept rows gives.
        units: Units of each layer.
        broken: One unit of the second layer is NaN.
    """
    rng = np.random.default_rng(seed)
    layers = [_layer_flow(rng, key, i, len(ids), units) for i, key in enumerate(ids)]
    rectified = [i for i, key in enumerate(ids) if "relu" in key]
    findings = []
    if rectified:
        sick = layers[rectified[-1]]
        mean, zeros = sick.unit_mean.copy(), sick.unit_zero_share.copy()
        mean[: units // 8], zeros[: units // 8] = 0.0, 1.0
        layers[rectified[-1]] = dataclasses.replace(
            sick, dead_units=units // 8, dead_bound=0.01, unit_mean=mean, unit_zero_share=zeros, duplicate_units=1
        )
        message = f"{units // 8} of {units} units of {sick.id} were zero for all 300 samples."
        findings.append(Finding(kind="dead_units", layer=sick.id, severity="warning", message=message))
    if broken and len(ids) > 1:
        sick = layers[1]
        mean = sick.unit_mean.copy()
        mean[1] = np.nan
        layers[1] = dataclasses.replace(
            sick, mean=None, std=None, min=None, max=None, unit_mean=mean, not_finite_units=1, effective_rank=None
        )
        message = f"NaN or infinity first appears in the output of {sick.id}."
        findings.append(Finding(kind="not_finite", layer=sick.id, severity="error", message=message))
    if not full:
        kept = ("id", "kind", "order", "n_units", "n_values", "mean", "std", "min", "max", "sparsity", "positive_ratio")
        kept += ("dead_units", "unit_mean", "unit_std", "unit_zero_share", "not_finite_units")
        bare = tuple(LayerFlow(**{name: getattr(layer, name) for name in kept}) for layer in layers)
        return InformationFlowResult(
            n=300, layers=bare, skipped={}, findings=tuple(findings), gradients_reason="no labels were given"
        )
    gap = np.abs(np.subtract.outer(np.arange(len(ids)), np.arange(len(ids))))
    cka = 1 / (1 + 0.3 * gap)
    if broken:
        cka[1], cka[:, 1] = np.nan, np.nan
    return InformationFlowResult(
        n=300,
        n_kept=256,
        layers=tuple(layers),
        skipped={},
        cka_layers=ids,
        cka=cka,
        gradients=GradientFlow(loss="made up", n=64),
        findings=tuple(findings),
    )


def _layer_flow(rng: np.random.Generator, key: str, i: int, count: int, units: int) -> LayerFlow:
    relu, depth = "relu" in key, (i + 1) / count
    mean = rng.normal(0, 0.4, units)
    zeros = np.clip(rng.uniform(0.2, 0.95, units), 0, 1) if relu else np.zeros(units)
    care = np.clip(rng.beta(1 + 3 * depth, 6, units) * depth, 0, 1)
    rank = float(rng.uniform(0.2, 0.9) * units)
    return make(
        LayerFlow,
        id=key,
        kind="ReLU" if relu else "Dense",
        order=i,
        n_units=units,
        n_values=9600,
        mean=0.4 if relu else 0.05 * (i % 7),
        std=0.6,
        min=0.0 if relu else -2.2,
        max=3.1,
        sparsity=float(zeros.mean()),
        positive_ratio=0.5,
        dead_units=0 if relu else None,
        saturated_units=None if relu or i % 3 else 2,
        dormant_ratio=estimate(rng.choice([0.0, 0.002, 0.07]), 256) if relu else None,
        n_rows=256,
        effective_rank=estimate(rank, 256, 0.04 * units),
        effective_rank_ceiling=min(255, units),
        rankme=1.1 * rank,
        participation_ratio=0.7 * rank,
        stable_rank=0.3 * rank,
        intrinsic_dimension=estimate(rng.uniform(2, 9), 256, 0.7),
        linear_rank=None if relu else min(units, 255),
        mean_square=0.5,
        gain=float(rng.lognormal(0, 0.7)) if i else None,
        input_cosine=estimate(rng.uniform(0.1, 0.8), 256),
        gradient_norm=estimate(float(10 ** (-2.5 * (1 - depth)) * rng.lognormal(0, 0.2)), 64, 1e-4),
        gradient_scale=float(10 ** (-3.5 * (1 - depth)) * 0.1),
        separability=estimate(0.7 * depth, 256, 0.05),
        probe=estimate(0.3 + 0.65 * depth, 64, 0.04),
        probe_chance=0.13,
        unit_similarity=estimate(0.2, 256),
        duplicate_units=0,
        specialization=estimate(float(care.mean()), 256, 0.02),
        unit_mean=np.abs(mean) if relu else mean,
        unit_std=np.full(units, 0.6),
        unit_zero_share=zeros,
        unit_specialization=care,
    )


def performance(seed: int = 0, n: int = 300, kind: Any = "multiclass") -> PerformanceResult:
    """Numbers for the table."""
    rng = np.random.default_rng(seed)
    task = OutputTask(kind=kind, n_classes=10)
    if kind == "regression":
        return PerformanceResult(
            task=task,
            n=n,
            loss=estimate(0.52, n),
            loss_name="mean_squared_error",
            metrics={"root_mean_squared_error": estimate(0.7, n), "r2": estimate(0.91, n)},
        )
    return PerformanceResult(
        task=task,
        n=n,
        accuracy=estimate(rng.uniform(0.85, 0.98), n),
        loss=estimate(rng.uniform(0.1, 0.9), n),
        loss_name="sparse_categorical_crossentropy",
        metrics={"f1_macro": estimate(0.9, n), "top_5_accuracy": estimate(0.99, n)},
    )


def pairwise(names: tuple[str, ...], measure: str = "linear_cka", output: str | None = None) -> PairwiseSimilarity:
    """A full matrix, one entry undefined where there are more than three models."""
    pairs = []
    for i, first in enumerate(names):
        for j, second in enumerate(names[:i]):
            value = estimate(1 / (1 + 0.15 * (i + j)), 300)
            undefined = len(names) > 3 and (i, j) == (3, 1)
            pairs.append(
                ModelPair(
                    first=first,
                    second=second,
                    estimate=None if undefined else value,
                    reason="made up" if undefined else None,
                )
            )
    return PairwiseSimilarity(measure=measure, names=names, pairs=tuple(pairs), output=output)


def comparison(names: tuple[str, ...], *, pca: bool = True) -> Comparison:
    """What lies between models."""
    rng = np.random.default_rng(1)
    plane = WeightPca(
        names=names,
        coordinates=rng.normal(size=(len(names), 2)) * [3, 1],
        n_features=24,
        explained_variance=np.array([0.71, 0.2]),
    )
    return Comparison(
        names=names,
        weight_pca=plane if pca and len(names) > 2 else None,
        cka=pairwise(names) if len(names) > 1 else None,
        agreement=(pairwise(names, "agreement", "output"),) if len(names) > 1 else (),
        relevance=relevance_agreement(names) if len(names) > 1 else None,
        robustness=robustness_pairs(names),
        pareto=pareto(names),
    )


def relevance_agreement(names: tuple[str, ...]) -> RelevanceAgreement:
    """How alike relevance maps are."""
    measures = {name: pairwise(names, f"relevance_{name}") for name in ("spearman", "cosine")}
    return RelevanceAgreement(method="epsilon_plus", target="predicted class", input="image", n=64, **measures)


def pareto(names: tuple[str, ...], objectives: Any = None) -> ParetoResult:
    """A sweep: the last model is under-fitted, one has no history where there are more than three."""
    rng = np.random.default_rng(3)
    found = AnalysisResults(names)
    for i, name in enumerate(names):
        found.performance[name] = performance(i)
        found.calibration[name] = classification(i)
        found.weights[name] = weights(i, tuple(f"layer_{k}" for k in range(3 + i)))
        found.training_dynamics[name] = Skipped("no training history was given") if i == 3 else _swept(i, rng)
    if len(names) > 1:
        last = training(len(names))
        for curve in (last.curves["loss"], last.curves["val_loss"]):
            curve.raw[:] += 2
        peak = dataclasses.replace(last.peak_performance, value=estimate(0.5, 1, None))
        index = estimate(0.01, 1, None)
        found.training_dynamics[names[-1]] = dataclasses.replace(last, peak_performance=peak, overfitting_index=index)
    return find_pareto(found, objectives)


def _swept(seed: int, rng: np.random.Generator) -> TrainingResult:
    one = training(seed)
    index = float(rng.uniform(0.05, 0.5))
    peak = dataclasses.replace(one.peak_performance, value=estimate(0.8 + 0.35 * index - index**2 * 0.2, 1, None))
    return dataclasses.replace(
        one,
        peak_performance=peak,
        overfitting_index=estimate(index, 1, None),
        epochs_to_convergence=estimate(int(rng.integers(3, 25)), 1, None),
    )


def layer_cost(key: str, *sources: str, kind: str = "Dense", **known: Any) -> LayerCost:
    """One layer of 16 units."""
    usual = {
        "name": key.rpartition("/")[2],
        "kind": kind,
        "order": 0,
        "inside": None,
        "composite": False,
        "sources": sources,
        "sources_inferred": False,
        "closes": (),
        "parameters": 272,
        "output_shapes": ((16,),),
        "output_bytes": 64,
        "flops": 560,
    }
    return LayerCost(id=key, **usual | known)


def cost_of(*layers: LayerCost, inputs: tuple[str, ...] = ("input",)) -> CostResult:
    """Costs with this graph."""
    return make(
        CostResult,
        parameters=sum(layer.parameters for layer in layers),
        parameter_bytes=4 * sum(layer.parameters for layer in layers),
        flops=sum(layer.flops or 0 for layer in layers),
        bytes_by_dtype={},
        uncounted={layer.id: layer.why_uncounted for layer in layers if layer.why_uncounted},
        inputs=tuple(ModelInput(id=key, shape=(8, 8, 3)) for key in inputs),
        layers=layers,
    )


def cost(ids: tuple[str, ...]) -> CostResult:
    """A chain in which every fourth layer also takes what entered the third before it."""
    before = ("input", *ids)
    return cost_of(
        *(layer_cost(key, before[k], *([before[k - 3]] if k % 4 == 3 else [])) for k, key in enumerate(ids)),
    )


def results(
    names: tuple[str, ...] = ("mlp", "cnn", "overfit"),
    *,
    same: bool = True,
    classes: int = 10,
    layers: int = 4,
    layer_name: str = "block/layer_{}",
    trouble: bool = True,
) -> AnalysisResults:
    """A whole audit.

    Args:
        names: Models.
        same: Whether all have one architecture.
        classes: Number of classes.
        layers: Layers of each model.
        layer_name: Pattern of their ids.
        trouble: Skip one analysis of the last model and break another.
    """
    found = AnalysisResults(names)
    for i, name in enumerate(names):
        ids = tuple(layer_name.format(k if same else f"{chr(97 + i)}{k}") for k in range(layers))
        found.performance[name] = performance(i)
        found.calibration[name] = classification(i, classes=classes, sharp=2.2 + 0.4 * i)
        found.weights[name] = weights(i, ids)
        found.training_dynamics[name] = training(i)
        found.cost[name] = cost(ids)
        found.information_flow[name] = flow(i, tuple(f"{key}_relu" if k % 2 else key for k, key in enumerate(ids)))
        found.relevance[name] = relevance(i, ids)
        found.robustness[name] = robustness(i, withheld=i == 1)
        found.shift[name] = shift(i, ids, labelled=i != 1, moved=i != 2)
    if trouble and len(names) > 1:
        found.training_dynamics[names[-1]] = Skipped("no training history was given for this model")
        found.information_flow[names[-1]] = Failed("ValueError: a layer returned a dict", "information_flow.analyze")
        found.relevance[names[-1]] = Skipped("no data were given")
        found.robustness[names[-1]] = robustness(len(names) - 1, attacked=False)
    found.comparison = comparison(names, pca=same)
    return found


def every_task() -> AnalysisResults:
    """One model of each kind of output, and one with two outputs."""
    kinds: dict[str, Any] = {
        "binary": classification(1, classes=2),
        "multiclass": classification(2),
        "multilabel": multilabel(),
        "regression": regression(),
        "gaussian": gaussian(),
        "quantile": quantile(),
        "two heads": MultiOutput(outputs={"class": classification(5), "value": regression(3)}),
        "skipped": Skipped("no labels were given"),
        "failed": Failed("ZeroDivisionError: division by zero", "measures"),
    }
    found = AnalysisResults(tuple(kinds))
    for name, result in kinds.items():
        found.calibration[name] = result
        found.performance[name] = performance(kind="regression" if name in ("regression", "gaussian") else "multiclass")
    return found
