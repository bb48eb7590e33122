"""How far inputs must move before a classifier decides wrongly, through which layers, and what corruptions cost it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from analyzer.analyzers.base import BaseAnalyzer, material
from analyzer.analyzers.robustness_findings import robustness_findings
from analyzer.data_types import AnalysisResults, DataInput
from analyzer.data_types.robustness import (
    AdversarialExample,
    ClassRobustness,
    CorruptionResult,
    MaskingFlag,
    RobustCurve,
    RobustnessResult,
    ThreatModel,
)
from analyzer.diagnosis.gathered_faults import AttackedLayers, GatheredFaults
from analyzer.errors import Unsupported
from analyzer.measures.bootstrap import wilson
from analyzer.measures.corruption import corruption_accuracy
from analyzer.measures.robustness import aura, robust_accuracy
from analyzer.robustness.gathered_attacks import Attacks, GatheredAttacks
from analyzer.robustness.gathered_corruptions import SEEDS, Corruptions, GatheredCorruptions

POINTS = 41
"""Radii of a curve, 0 among them."""

EXAMPLES = 4
"""Samples kept with what fooled the model, those of the nearest wrong decisions."""


class RobustnessAnalyzer(BaseAnalyzer):
    """Attacks and corrupts a stratified sample of the data of every classifier."""

    name: ClassVar[str] = "robustness"

    def requires_data(self) -> bool:
        """Decisions exist only on data."""
        return True

    def needs(self) -> tuple[AttackedLayers, Corruptions]:
        """Distances to wrong decisions with the layers at fault, and decisions under corruptions."""
        config = self.config
        attacks = Attacks(
            tier=config.robustness_tier,
            norm=config.robustness_norm,
            epsilon_max=config.robustness_epsilon,
            bounds=config.robustness_bounds,
            n_samples=config.robustness_samples,
        )
        layers = AttackedLayers(attacks, n_bootstrap=config.n_bootstrap)
        return layers, Corruptions(n_samples=config.robustness_samples)

    def analyze(self, results: AnalysisResults, data: DataInput | None, cache: Mapping[str, Any]) -> None:
        """Fill ``results.robustness``."""
        del data
        results.robustness = self.each_model(lambda name: self._model(name, cache))

    def _model(self, name: str, cache: Mapping[str, Any]) -> RobustnessResult:
        attacks, corruptions = self.needs()
        attacked, why_no_attack = _or_reason(cache, name, attacks)
        under, why_no_corruption = _or_reason(cache, name, corruptions)
        reasons = {"not attacked": why_no_attack, "not corrupted": why_no_corruption}
        if attacked is not None:
            reasons["layers not traced"] = attacked.why
        notes = tuple(f"{what}: {why}" for what, why in reasons.items() if why)
        if attacked is not None:
            return _result(attacked, under, notes, self.config)
        if under is not None:
            return _only_corrupted(under, notes, self.config)
        raise Unsupported(str(why_no_attack))


def _or_reason(cache: Mapping[str, Any], name: str, need: Any) -> tuple[Any | None, str | None]:
    try:
        return material(cache, name, need), None
    except Unsupported as reason:
        return None, str(reason)


def _only_corrupted(under: GatheredCorruptions, notes: tuple[str, ...], config: Any) -> RobustnessResult:
    clean = under.clean_correct
    return RobustnessResult(
        n=len(clean),
        seed=config.seed,
        withheld="Not attacked.",
        clean_accuracy=wilson(int(clean.sum()), len(clean)),
        corruptions=_corruptions(under, config),
        indices=under.drawn.indices,
        notes=notes,
    )


def _result(
    attacked: GatheredFaults, under: GatheredCorruptions | None, notes: tuple[str, ...], config: Any
) -> RobustnessResult:
    found, layers = attacked.found, attacked.layers
    corruptions = None if under is None else _corruptions(under, config)
    threat, distance = _threat(found, config), found.found.distance * found.box.range
    flags = tuple(
        MaskingFlag(name=flag.name, severity=flag.severity, value=flag.value, n=flag.n, message=flag.text)
        for flag in found.flags
    )
    withheld = "; ".join(flag.message for flag in flags if flag.severity == "withholds") or None
    draws: dict[str, Any] = {"n_bootstrap": config.n_bootstrap, "seed": config.seed}
    score = None if withheld else aura(distance, threat.epsilon_max, **draws)
    curve = _curve(distance, threat.epsilon_max)
    clean_accuracy = robust_accuracy(distance, 0.0)
    robust = None if withheld else robust_accuracy(distance, threat.epsilon_max)
    return RobustnessResult(
        findings=tuple(robustness_findings(clean_accuracy, score, robust, threat, flags, corruptions, layers)),
        n=len(distance),
        seed=config.seed,
        aura=score,
        withheld=withheld,
        clean_accuracy=clean_accuracy,
        robust_accuracy=robust,
        threat=threat,
        curve=curve,
        flags=flags,
        classes=_by_class(found, distance, threat, withheld, config),
        corruptions=corruptions,
        examples=_examples(found, distance, threat, config),
        layers=layers,
        distance=np.where(distance <= threat.epsilon_max, distance, np.nan),
        indices=found.drawn.indices,
        notes=notes,
        seconds=found.seconds,
    )


def _threat(found: GatheredAttacks, config: Any) -> ThreatModel:
    return ThreatModel(
        norm=config.robustness_norm,
        epsilon_max=found.epsilon_max,
        low=found.box.low,
        high=found.box.high,
        bounds_source=found.box.source,
        tier=config.robustness_tier,
    )


def _curve(distance: NDArray[np.float64], epsilon_max: float) -> RobustCurve:
    radii = np.linspace(0.0, epsilon_max, POINTS)
    found = [robust_accuracy(distance, float(radius)) for radius in radii]
    return RobustCurve(
        epsilon=radii,
        accuracy=np.array([each.value for each in found], np.float64),
        low=np.array([each.low for each in found], np.float64),
        high=np.array([each.high for each in found], np.float64),
    )


def _by_class(
    found: GatheredAttacks, distance: NDArray[np.float64], threat: ThreatModel, withheld: str | None, config: Any
) -> tuple[ClassRobustness, ...]:
    made = []
    for label in np.unique(found.drawn.y):
        own = distance[found.drawn.y == label]
        score = aura(own, threat.epsilon_max, n_bootstrap=config.n_bootstrap, seed=config.seed)
        made.append(
            ClassRobustness(
                label=int(label),
                name=config.class_name(int(label)),
                clean_accuracy=robust_accuracy(own, 0.0),
                aura=None if withheld else score,
            )
        )
    return tuple(made)


def _examples(
    found: GatheredAttacks, distance: NDArray[np.float64], threat: ThreatModel, config: Any
) -> tuple[AdversarialExample, ...]:
    """The nearest wrong decisions that needed a step at all."""
    rows = np.flatnonzero((distance > 0) & (distance <= threat.epsilon_max))
    rows = rows[np.argsort(distance[rows], kind="stable")][:EXAMPLES]
    return tuple(
        AdversarialExample(
            index=int(found.drawn.indices[i]),
            label=config.class_name(int(found.drawn.y[i])),
            decided="a tie" if found.decided[i] < 0 else config.class_name(int(found.decided[i])),
            distance=float(distance[i]),
            values=np.asarray(found.drawn.x[i], np.float32),
            moved=np.asarray(found.found.points[i] * found.box.range + found.box.low, np.float32),
        )
        for i in rows
    )


def _corruptions(under: GatheredCorruptions, config: Any) -> CorruptionResult:
    measured = corruption_accuracy(
        under.names, under.correct, under.clean_correct, n_bootstrap=config.n_bootstrap, seed=config.seed
    )
    name, severity, lowest = measured.worst_cell
    return CorruptionResult(
        kind=under.kind,
        source=under.source,
        n=len(under.clean_correct),
        n_seeds=SEEDS,
        corruptions=under.names,
        accuracy=measured.accuracy,
        relative_drop=measured.relative_drop,
        flip_rate=under.flips,
        mean_accuracy=measured.mean_accuracy,
        mean_relative_drop=measured.mean_relative_drop,
        worst_corruption=name,
        worst_severity=severity,
        worst_accuracy=lowest,
        skipped=under.skipped,
    )
