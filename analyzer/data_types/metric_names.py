"""What the name of a logged metric says: its direction, its split and its pair.

Nothing is guessed: a name is either in the table below (perhaps behind ``val_`` and a prefix such as the name of an
output) or it is reported as unknown and not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Direction = Literal["up", "down"]
Split = Literal["training", "validation"]

LEARNING_RATE_NAMES = ("learning_rate", "lr")
"""Names under which Keras' callbacks log the learning rate (``lr`` in Keras 2)."""

VALIDATION_PREFIXES = ("val_", "validation_", "valid_")
TRAINING_PREFIXES = ("train_", "training_")


@dataclass(frozen=True, kw_only=True)
class MetricFamily:
    """Metrics that mean the same.

    Attributes:
        name: Name of the family.
        direction: ``"up"`` where more is better.
        names: Names as logged, in lower case, without split and prefix.
        rank: Place in the order in which one metric is chosen to stand for the performance of a model, smallest
            first; None for what shows one side only (recall alone is perfect for a model that always says yes).
        chance: Value that a model without skill reaches by definition, or None where it depends on the data.
    """

    name: str
    direction: Direction
    names: frozenset[str]
    rank: int | None = None
    chance: float | None = None


def _family(
    name: str, direction: Direction, names: str, *, rank: int | None = None, chance: float | None = None
) -> MetricFamily:
    return MetricFamily(name=name, direction=direction, names=frozenset(names.split()), rank=rank, chance=chance)


METRIC_TABLE: tuple[MetricFamily, ...] = (
    _family(
        "accuracy",
        "up",
        "accuracy acc binary_accuracy categorical_accuracy sparse_categorical_accuracy balanced_accuracy",
        rank=0,
    ),
    _family("roc_auc", "up", "roc_auc auroc", rank=1, chance=0.5),
    # Keras calls the areas under the ROC and under the precision-recall curve both "auc": no chance level is known.
    _family("auc", "up", "auc pr_auc auprc average_precision", rank=1),
    _family("f1", "up", "f1_score f1 macro_f1 micro_f1 weighted_f1 fbeta_score f_beta", rank=2),
    _family(
        "overlap",
        "up",
        "iou io_u mean_iou mean_io_u binary_iou binary_io_u one_hot_io_u one_hot_mean_io_u dice dice_score "
        "dice_coefficient jaccard",
        rank=3,
    ),
    _family(
        "agreement",
        "up",
        "r2_score r2 cohen_kappa kappa mcc matthews_correlation matthews_correlation_coefficient "
        "pearson_correlation concordance_correlation spearman_correlation",
        rank=4,
        chance=0.0,
    ),
    _family("quality", "up", "bleu rouge rouge_l psnr ssim", rank=5),
    _family(
        "one side",
        "up",
        "precision recall sensitivity specificity sensitivity_at_specificity specificity_at_sensitivity "
        "precision_at_recall recall_at_precision true_positives true_negatives",
    ),
    _family("loss", "down", "loss", rank=6),
    _family(
        "error",
        "down",
        "error err error_rate mae mean_absolute_error mse mean_squared_error rmse root_mean_squared_error mape "
        "mean_absolute_percentage_error msle mean_squared_logarithmic_error mean_relative_error log_cosh logcosh "
        "log_cosh_error huber wer cer",
        rank=7,
    ),
    _family(
        "divergence",
        "down",
        "binary_crossentropy categorical_crossentropy sparse_categorical_crossentropy crossentropy cross_entropy bce "
        "cce nll neg_log_likelihood negative_log_likelihood log_loss kl_divergence kullback_leibler_divergence kld "
        "poisson hinge squared_hinge categorical_hinge perplexity brier brier_score crps",
        rank=7,
    ),
    _family("calibration", "down", "ece expected_calibration_error"),
    _family("one side", "down", "false_positives false_negatives"),
)
"""Every metric whose direction is known. The option ``metric_directions`` extends it for one analysis."""

AMBIGUOUS = {
    "cosine_similarity": "is maximised as a Keras metric and minimised as a Keras loss",
}
"""Known names whose direction the name does not tell."""

_BY_NAME = {name: family for family in METRIC_TABLE for name in family.names}
_TOP_K = _family("top-k accuracy", "up", "")
_TOP_K_NAME = re.compile(r"(?:(?P<prefix>.+)_)?top_?(?:\d+|k)_?(?:sparse_)?(?:categorical_)?acc(?:uracy)?(?:_\d+)?")
_SEPARATOR = re.compile(r"[ /.-]")
_COUNTER = re.compile(r"_\d+$")
_NEGATING = frozenset({"neg", "negative", "minus", "inverse", "inv", "non", "anti", "one_minus", "delta", "change"})


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of a history, with its training and its validation series.

    Attributes:
        name: Name without the split, e.g. ``"head_accuracy"``.
        family: Family of `METRIC_TABLE`, or ``"given"`` where the user named the direction.
        direction: ``"up"`` where more is better, ``"down"`` where less is.
        prefix: What stands before the known name, such as the name of an output; None without one.
        train: Name of the series over training data; None where there is none.
        validation: Name of the series over validation data; None where there is none.
        reason: How the direction is known.
    """

    name: str
    family: str
    direction: Direction
    prefix: str | None
    train: str | None
    validation: str | None
    reason: str


def split_name(series: str) -> tuple[str, Split]:
    """The name of a series without its split, and the split.

    Args:
        series: Name as logged, e.g. ``"val_accuracy"``, ``"Validation Accuracy"`` or ``"val/accuracy"``.
    """
    plain = plain_name(series)
    splits: tuple[tuple[tuple[str, ...], Split], ...] = (
        (VALIDATION_PREFIXES, "validation"),
        (TRAINING_PREFIXES, "training"),
    )
    for prefixes, split in splits:
        for prefix in prefixes:
            if plain.startswith(prefix) and len(plain) > len(prefix):
                return series[len(prefix) :], split
    return series, "training"


def plain_name(name: str) -> str:
    """A name in lower case with ``_`` between its words, as long as before.

    Args:
        name: Name as logged.
    """
    return _SEPARATOR.sub("_", name.lower())


def recognise(name: str) -> tuple[MetricFamily, str | None] | None:
    """The family of a metric and what stands before its known name; None where the direction is not known.

    Keras' counters (``auc_1``) are ignored, the longest known name counts (``head_mean_squared_error`` is a mean
    squared error of ``head``), and a negating prefix (``neg_mean_squared_error``) leaves the direction unknown.

    Args:
        name: Name without the split.
    """
    plain = plain_name(name)
    if plain in _BY_NAME:
        return _BY_NAME[plain], None
    top = _TOP_K_NAME.fullmatch(plain)
    if top:
        return _TOP_K, top["prefix"]
    plain = _COUNTER.sub("", plain)
    if plain in _BY_NAME:
        return _BY_NAME[plain], None
    endings = [known for known in _BY_NAME if plain.endswith(f"_{known}")]
    if not endings or any(plain == word or plain.endswith(f"_{word}") for word in AMBIGUOUS):
        return None
    longest = max(endings, key=len)
    prefix = plain[: -len(longest) - 1]
    if _NEGATING.intersection(prefix.split("_")):
        return None
    return _BY_NAME[longest], prefix


def pair_metrics(
    names: Iterable[str], directions: Mapping[str, Direction] | None = None
) -> tuple[dict[str, Metric], dict[str, str]]:
    """Pair training with validation series and give each metric its direction.

    Args:
        names: Names of series as logged; learning rates are passed over.
        directions: Directions that the user knows, by metric name (without split); they beat the table.

    Returns:
        Metrics by name in order of appearance, and the names that are not used, each with the reason.
    """
    found: dict[str, dict[Split, str]] = {}
    unused: dict[str, str] = {}
    # Shorter names first among equals, so that "loss" beats "train_loss" for the same place.
    for series in sorted(names, key=lambda n: split_name(n)[0] != n and not n.startswith("val_")):
        if series in LEARNING_RATE_NAMES:
            continue
        name, split = split_name(series)
        places = found.setdefault(name, {})
        if split in places:
            unused[series] = f"{places[split]!r} already is the {split} series of {name!r}"
        else:
            places[split] = series
    metrics: dict[str, Metric] = {}
    for name, places in found.items():
        metric = _metric(name, places, dict(directions or {}))
        if metric is None:
            unused.update(dict.fromkeys(places.values(), _unknown(name)))
        else:
            metrics[name] = metric
    return metrics, unused


def _metric(name: str, places: Mapping[Split, str], directions: Mapping[str, Direction]) -> Metric | None:
    train, validation = places.get("training"), places.get("validation")
    if name in directions:
        return Metric(
            name=name,
            family="given",
            direction=directions[name],
            prefix=None,
            train=train,
            validation=validation,
            reason="direction given by the user",
        )
    known = recognise(name)
    if known is None:
        return None
    family, prefix = known
    before = f", behind the prefix {prefix!r}" if prefix else ""
    return Metric(
        name=name,
        family=family.name,
        direction=family.direction,
        prefix=prefix,
        train=train,
        validation=validation,
        reason=f"{'more' if family.direction == 'up' else 'less'} is better for the family {family.name!r}{before}",
    )


def _unknown(name: str) -> str:
    why = AMBIGUOUS.get(_COUNTER.sub("", plain_name(name)), "has a direction that its name does not tell")
    return f"{name!r} {why}: pass AnalysisConfig(metric_directions={{{name!r}: 'up'}}), or 'down'"


def choose_performance(metrics: Mapping[str, Metric]) -> tuple[Metric | None, str]:
    """The metric that stands for the validation performance of a model, and why it was chosen.

    A metric that the user gave a direction for goes first, then metrics of the whole model in the order of their
    family's rank, then the one metric of its family that has a prefix. Where several outputs each have one, the loss
    stands for all of them.

    Args:
        metrics: Metrics by name.
    """
    candidates = [m for m in metrics.values() if m.validation is not None]
    given = [m for m in candidates if m.family == "given"]
    if given:
        return given[0], f"{given[0].validation!r}: the user named its direction"
    ranked = sorted((_rank(m), i) for i, m in enumerate(candidates) if m.prefix is None and _rank(m) < _NEVER)
    best = candidates[ranked[0][1]] if ranked else None
    loss_rank = _BY_NAME["loss"].rank or 0
    if best is not None and _rank(best) < loss_rank:
        return best, f"{best.validation!r}: first in the order of families that are whole-model performance"
    behind = [m for m in candidates if m.prefix is not None and _rank(m) < loss_rank]
    if len(behind) == 1:
        return behind[0], f"{behind[0].validation!r}: the only performance metric with validation values"
    if best is not None:
        also = f"; {', '.join(m.name for m in behind)} belong to single outputs" if behind else ""
        return best, f"{best.validation!r}: no whole-model performance metric has validation values{also}"
    if not candidates:
        return None, "no recognised metric has validation values"
    return None, "no metric with validation values describes the whole model"


_NEVER = 1000


def _rank(metric: Metric) -> int:
    known = recognise(metric.name)
    return _NEVER if known is None or known[0].rank is None else known[0].rank


def chance_level(metric: Metric) -> float | None:
    """The value that a model without skill reaches by definition of the metric, e.g. 0.5 for the area under ROC."""
    known = recognise(metric.name)
    return None if known is None or metric.family == "given" else known[0].chance


def loss_of(metrics: Mapping[str, Metric]) -> Metric | None:
    """The loss of the whole model; None where none was logged.

    Args:
        metrics: Metrics by name.
    """
    return next((metric for name, metric in metrics.items() if plain_name(name) == "loss"), None)
