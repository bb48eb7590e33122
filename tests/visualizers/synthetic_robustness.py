"""Results of robustness made up for figures, with no model behind them."""

from __future__ import annotations

import numpy as np

from analyzer.data_types.comparison import RobustnessPair
from analyzer.data_types.layer_faults import BranchFault, ByGroup, LayerFault, LayersAtFault
from analyzer.data_types.robustness import (
    AdversarialExample,
    ClassRobustness,
    CorruptionResult,
    MaskingFlag,
    RobustCurve,
    RobustnessResult,
    ThreatModel,
)
from analyzer.data_types.values import Estimate, Finding

NAMES = ("gaussian_noise", "motion_blur", "fog", "contrast", "jpeg_compression", "$elastic_transform$")


def share(value: float, n: int = 200) -> Estimate:
    """An accuracy with an interval."""
    wide = 1.96 * float(np.sqrt(max(value * (1 - value), 1e-4) / n))
    return Estimate(value=value, low=max(value - wide, 0.0), high=min(value + wide, 1.0), n=n, method="Wilson")


def robustness(i: int = 0, *, images: bool = True, withheld: bool = False, attacked: bool = True) -> RobustnessResult:
    """Robustness of the i-th model."""
    rng = np.random.default_rng(i)
    radii = np.linspace(0, 0.1, 41)
    falling = 0.95 / (1 + np.exp((radii - 0.03 - 0.01 * i) * 90)) + 0.02
    n = 200
    return RobustnessResult(
        findings=(
            Finding(kind="not_robust_at_epsilon_max", layer=None, severity="info", message="Nearly nothing holds."),
        ),
        n=n,
        seed=0,
        aura=None if withheld or not attacked else share(float(falling.mean())),
        withheld="61 of 200 samples have no gradient, so the score is withheld." if withheld else None,
        clean_accuracy=share(float(falling[0])),
        robust_accuracy=None if withheld or not attacked else share(float(falling[-1])),
        threat=ThreatModel(norm="linf", epsilon_max=0.1, low=0.0, high=1.0, bounds_source="given", tier="screen")
        if attacked
        else None,
        curve=RobustCurve(
            epsilon=radii, accuracy=falling, low=np.maximum(falling - 0.06, 0), high=np.minimum(falling + 0.06, 1)
        )
        if attacked
        else None,
        flags=(MaskingFlag(name="zero_gradient", severity="withholds", value=0.3, n=n, message="61 of 200 samples."),)
        if withheld
        else (),
        classes=tuple(
            ClassRobustness(label=k, name=f"class {k}", clean_accuracy=share(0.9, 20), aura=share(0.3 + 0.05 * k, 20))
            for k in range(4)
        ),
        corruptions=corruptions(i),
        examples=tuple(example(rng, k) for k in range(4)) if images and attacked else (),
        layers=layers_at_fault(i, chain=i == 1) if attacked else None,
        distance=rng.uniform(0, 0.1, n) if attacked else None,
        indices=np.arange(n),
        notes=() if attacked else ("not attacked: Attacks move inputs of float values by small amounts.",),
    )


def robustness_pairs(names: tuple[str, ...]) -> tuple[RobustnessPair, ...]:
    """The first model beside each other one; the last was attacked differently."""
    found = [
        RobustnessPair(
            first=names[0],
            second=other,
            n=200,
            aura=share(0.1),
            aura_p_value=0.004,
            only_first=3,
            only_second=21,
            mcnemar_p_value=0.0003,
        )
        for other in names[1:-1]
    ]
    last = [RobustnessPair(first=names[0], second=names[-1], reason="They were attacked differently.")]
    return (*found, *(last if len(names) > 1 else []))


def corruptions(i: int) -> CorruptionResult:
    """Accuracy that falls with severity."""
    accuracy = 0.9 - np.outer(np.linspace(0.02, 0.16, len(NAMES)), np.arange(1, 6)) - 0.02 * i
    return CorruptionResult(
        kind="image",
        source="CIFAR-10-C",
        n=200,
        n_seeds=3,
        corruptions=NAMES,
        accuracy=np.clip(accuracy, 0, 1),
        relative_drop=1 - np.clip(accuracy, 0, 1) / 0.95,
        flip_rate=1 - np.clip(accuracy, 0, 1),
        mean_accuracy=share(0.6),
        mean_relative_drop=share(0.3),
        worst_corruption=NAMES[-1],
        worst_severity=5,
        worst_accuracy=float(np.clip(accuracy, 0, 1).min()),
    )


def example(rng: np.random.Generator, k: int) -> AdversarialExample:
    """A blob, and the blob with noise."""
    rows, columns = np.mgrid[:12, :12]
    values = np.exp(-((rows - 4 - k) ** 2 + (columns - 6) ** 2) / 8)[..., None]
    step = 0.05 * np.sign(rng.standard_normal(values.shape))
    return AdversarialExample(
        index=k,
        label=f"class {k}",
        decided="$a long name of a class$" if k == 1 else f"class {k + 1}",
        distance=0.05 + 0.01 * k,
        values=values.astype(np.float32),
        moved=np.clip(values + step, 0, 1).astype(np.float32),
    )


def groups(failures: float, controls: float | None, half: float = 0.1) -> ByGroup:
    """One number on failures and on controls."""

    def one(value: float | None, n: int) -> Estimate:
        if value is None:
            return Estimate(value=None, n=0)
        return Estimate(value=value, low=value - half, high=value + half, n=n, method="BC bootstrap")

    excess = None if controls is None else failures - controls
    return ByGroup(failures=one(failures, 32), controls=one(controls, 28), excess=one(excess, 60))


def layers_at_fault(i: int = 0, *, chain: bool = False, controls: bool = True, blocks: int = 3) -> LayersAtFault:
    """A residual net whose last branch is at fault, or a chain."""
    rng = np.random.default_rng(i)
    ids = ["stem", *(f"stage/block_{k}/{part}" for k in range(blocks) for part in ("conv", "sum")), "$head$"]
    rows = []
    for key in ids:
        part = key.endswith("conv") and not chain
        grown, calm = float(rng.normal(0.4, 0.5)), float(rng.normal(-0.3, 0.2))
        rows.append(
            LayerFault(
                id=key,
                kind="Conv2D" if key.endswith("conv") else "Dense",
                carries_all=not part,
                noise_gain=groups(float(np.exp(rng.normal(-0.5, 0.8))), 0.5, half=0.05),
                shift=groups(0.2, 0.1),
                log_amplification=None if part else groups(grown, calm if controls else None),
                noising=groups(0.6, 0.1) if part else None,
                denoising=groups(0.5, 0.1) if part else None,
            )
        )
    share = {key: 0.72 if k == blocks - 1 else 0.08 for k, key in enumerate(ids[1:-1:2])}
    branches = tuple(
        BranchFault(id=key, kind="Conv2D", share=groups(value, 0.02), order_error=0.0)
        for key, value in sorted(share.items(), key=lambda item: -item[1])
    )
    return LayersAtFault(
        n_samples=180,
        n_failures=140,
        n_controls=40 if controls else 0,
        n_used_failures=32,
        n_used_controls=28 if controls else 0,
        lost=groups(3.0, 0.2),
        layers=tuple(rows),
        branches=() if chain else branches,
        around=None if chain else groups(0.12, 0.05),
        log_amplification=groups(1.2, -0.8),
        culprit=None if chain else branches[0].id,
        ahead=None if chain else groups(0.6, 0.1).failures,
    )
