"""Results of shift made up for figures, with no model behind them."""

from __future__ import annotations

import numpy as np

from analyzer.data_types.shift import FeatureShift, OutOfDistribution, OutputShift, PlaceShift, ShiftResult
from analyzer.data_types.values import Estimate, Finding
from tests.visualizers.synthetic_robustness import share

LEVEL = 0.05
HARM = ("harmful", "not harmful", "undecided")
SCORES = ("MSP", "energy", "Mahalanobis", "kNN")
METHODS = ("AC", "DoC", "ATC max confidence", "ATC negative entropy")


def shift(
    i: int = 0,
    ids: tuple[str, ...] = ("stem/conv", "block/relu", "dense"),
    *,
    labelled: bool = True,
    moved: bool = True,
    outputs: tuple[str, ...] = ("dense",),
    bare: bool = False,
    far: float = 1.0,
) -> ShiftResult:
    """Shift as the i-th model sees it.

    Args:
        i: Which model.
        ids: Its layers; the last gives the first output, which is called like it.
        labelled: Whether the data have labels.
        moved: Whether there is a shift.
        outputs: Names of its classifications.
        bare: Leave out all that may be missing.
        far: Multiplies the drift of the last layer.
    """
    rng = np.random.default_rng(i)
    kinds = ["input", *["layer"] * len(ids), *["output"] * len(outputs)]
    names = ["image", *ids, *outputs]
    places = []
    for k, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        size = (0.15 + 0.6 * moved * (0.4 + np.sin(k / 3 + i) ** 2)) * (far if k == len(ids) else 1.0)
        places.append(_place(name, kind, size, bare=bare, tested=kind != "layer" or k % 2 == 0, alarms=moved))
    word = "have shifted" if moved else "have not shifted"
    return ShiftResult(
        findings=(
            Finding(kind="shifted_layer", layer=ids[-1], severity="warning", message=f"{ids[-1]} moved most of all."),
        ),
        shifted=moved,
        level=LEVEL,
        p_value=0.003 if moved else 0.61,
        verdict=f"The data {word} against the reference (p = 0.003), and the shift is {HARM[i % 3]}.",
        n=300,
        n_reference=500,
        seed=0,
        places=tuple(places),
        features=() if bare else tuple(_feature(rng, ids[k % len(ids)], 17 * k, 2.0 / (k + 1)) for k in range(10)),
        outputs={} if bare else {name: _output(i, rng, labelled=labelled, moved=moved) for name in outputs},
        skipped={"embedding": "it gives a dict"} if i == 0 else {},
        notes=("Layers are compared by means over positions.",) if i == 0 else (),
    )


def _place(name: str, kind: str, size: float, *, bare: bool, tested: bool, alarms: bool) -> PlaceShift:
    half = None if bare else 0.15 * size
    drift = Estimate(
        value=size,
        low=None if half is None else size - half,
        high=None if half is None else size + half,
        n=300,
        method=None if bare else "basic bootstrap",
    )
    p = {"ks": 0.01, "mmd": 0.02, "classifier": 0.02, "adjusted": 0.004 if alarms and kind != "output" else 0.3}
    known = p if tested and not bare else {}
    chance = None if bare else 0.17 + 0.02 * (kind == "output")
    return PlaceShift(place=name, kind=kind, n_features=64, of_features=64, drift=drift, chance=chance, **known)


def _feature(rng: np.random.Generator, place: str, number: int, distance: float) -> FeatureShift:
    shares = np.linspace(0, 100, 41)
    reference, new = rng.gamma(2.0, 3.0, 500), rng.gamma(2.0, 3.0, 300)
    return FeatureShift(
        place=place,
        feature=number,
        wasserstein=distance,
        reference=np.percentile(reference, shares),
        new=np.percentile(new, shares) + distance * reference.std(),
    )


def _output(i: int, rng: np.random.Generator, *, labelled: bool, moved: bool) -> OutputShift:
    before, after = 0.93 - 0.01 * i, 0.93 - 0.01 * i - 0.13 * moved * (i % 3 == 0)
    harm = HARM[i % 3] if labelled else "suspected"
    auroc = rng.uniform(0.45, 0.95, len(SCORES))
    return OutputShift(
        harm=harm,
        basis="labels" if labelled else "label-free estimates",
        change=Estimate(value=after - before if labelled else -0.14, n=300),
        tolerance=0.05 if labelled else 0.101,
        reference_accuracy=share(before, 500),
        accuracy=share(after, 300) if labelled else None,
        estimates={name: share(after - 0.02 + 0.01 * k - 0.15 * (not labelled), 300) for k, name in enumerate(METHODS)},
        estimates_error=0.101,
        ood={
            name: OutOfDistribution(auroc=share(value, 550), fpr95=share(1 - value * 0.8, 300))
            for name, value in zip(SCORES, auroc, strict=True)
        },
        notes=() if labelled else ("the data have no labels",),
    )
