"""Explanations and results of relevance made up for figures, with no model behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analyzer.data_types.explanation import Explanation, Statistics, Step
from analyzer.data_types.relevance import (
    Conservation,
    Faithfulness,
    FaithfulnessScore,
    FeatureRelevance,
    InputRelevance,
    LayerRelevance,
    RelevanceExample,
    RelevanceResult,
)
from analyzer.data_types.values import Estimate

LAYERS = ("conv2d", "relu", "dense", "relu_1", "logits")
SHAPES: dict[str, tuple[int, ...]] = {
    "image": (12, 10, 3),
    "series": (40, 2),
    "tokens": (9,),
    "features": (20,),
    "volume": (6, 8, 8, 1),
}
WORDS = ("the", "film", "is", "not", "very", "good", "but", "$watch$", "it")


def explanation(kind: str = "image", *, n: int = 3, targets: int = 1, against: bool = False) -> Explanation:
    """An explanation of one input; of several targets where asked for."""
    rng = np.random.default_rng(0)
    lead = (targets, n) if targets > 1 else (n,)

    def relevance(shape: tuple[int, ...]) -> np.ndarray:
        return (planted(rng, (*lead, *shape), len(lead)) * 2).astype(np.float32)

    layers = {key: relevance((6, 5, 8) if i < 2 else (16,)) for i, key in enumerate(LAYERS)}
    return Explanation(
        method="contrastive" if against else "epsilon_plus",
        inputs={kind: relevance(SHAPES[kind])},
        against={kind: np.abs(relevance(SHAPES[kind]))} if against else None,
        layers=layers,
        layers_against={key: np.abs(array) for key, array in layers.items()} if against else None,
        target="predicted class",
        targets=None if targets > 1 else np.arange(n),
        output=np.full(lead, 4.0, np.float32) + np.arange(n, dtype=np.float32),
        ledger=ledger(),
        trace=tuple(step(key, kind) for key in LAYERS),
        notes=("auto chose epsilon_plus: it is made up",),
        measured={"seconds": 0.5},
    )


def step(key: str, kind: str) -> Step:
    """One entry of a trace; the first layer of tokens embeds them."""
    return Step(
        id=key,
        kind="Embedding" if kind == "tokens" and key == LAYERS[0] else "Dense",
        rule="epsilon",
        input_shapes=((4, None),),
        activation=Statistics(mean=0.1, std=1.0, minimum=-2.0, maximum=2.0),
    )


def planted(rng: np.random.Generator, shape: tuple[int, ...], lead: int = 1) -> np.ndarray:
    """Noise, with a bump in the middle of each sample."""
    bump = np.ones(shape)
    for axis, size in enumerate(shape[lead:], start=lead):
        at = np.exp(-0.5 * ((np.arange(size) - size / 2) / max(size / 6, 1)) ** 2)
        bump = bump * at.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return bump + rng.normal(0, 0.15, shape) - 0.03


def ledger(ids: tuple[str, ...] = LAYERS) -> pd.DataFrame:
    """Books in which the second last layer does not add up."""
    rows, coming = {}, 1.0
    for i, key in enumerate(reversed(ids)):
        bias, softmax, stabiliser = 0.02 + 0.015 * (i % 4), -0.03 if i == 2 else 0.0, 0.002
        gap = 0.012 if i == 1 else 0.0
        going = coming - bias - softmax - stabiliser - gap
        rows[key] = [4 * x for x in (coming, going, bias, softmax, stabiliser, gap)] + [0.02 if i == 1 else 1e-6]
        coming = going
    names = ["relevance_in", "relevance_out", "absorbed_by_bias", "absorbed_by_softmax", "absorbed_by_stabiliser"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*names, "unexplained", "unexplained_fraction"])


def relevance(
    seed: int = 0,
    ids: tuple[str, ...] = LAYERS,
    *,
    kind: Any = "image",
    full: bool = True,
    units: int = 24,
    n: int = 64,
) -> RelevanceResult:
    """Relevance of one model.

    Args:
        seed: Seed.
        ids: Layers.
        kind: What the input is.
        full: With books, units, faithfulness and examples; else what a plain gradient gives.
        units: Units of each layer.
        n: Samples.
    """
    rng = np.random.default_rng(seed)
    books = ledger(ids) / 4
    layers = tuple(_layer(rng, key, i, len(ids), books.loc[key], units, n) for i, key in enumerate(ids))
    if not full:
        bare = tuple(LayerRelevance(id=one.id, kind=one.kind, order=one.order, share=one.share) for one in layers)
        return RelevanceResult(n=n, seed=0, method="gradient", layers=bare, faithfulness_reason="no data were kept")
    return RelevanceResult(
        n=n,
        seed=0,
        method="epsilon_plus",
        method_reason="auto: convolutions and ReLUs only",
        target="predicted class",
        layers=layers,
        inputs=(_input(rng, kind, n),),
        conservation=_conservation(books, ids),
        faithfulness=_faithfulness(rng, n),
        examples=tuple(_example(rng, kind, i) for i in range(4)),
        notes=("layer lambda has no rule: its gradient was used",),
        seconds=0.2,
    )


def _estimate(value: float, half: float, n: int) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=n, method="made up")


def _layer(
    rng: np.random.Generator, key: str, i: int, count: int, books: pd.Series, units: int, n: int
) -> LayerRelevance:
    share = np.sort(rng.pareto(1.5, units))[::-1] + 0.01
    silent = units // 6 if i % 2 else 0
    if silent:
        share[-silent:] = 0
    share = rng.permutation(share / share.sum())
    ranked = np.sort(share)[::-1].cumsum()
    scale = (1.0 + 0.6 * (count - i) / count) * float(rng.uniform(0.95, 1.1))
    amounts = {name: float(books[name]) for name in books.index}
    return LayerRelevance(
        id=key,
        kind="ReLU" if "relu" in key else "Dense",
        order=i,
        rule="epsilon",
        share=_estimate(scale, 0.05, n),
        **amounts,
        n_units=units,
        gini=_estimate(0.6, 0.04, n),
        units_for_90=int(np.searchsorted(ranked, 0.9) + 1),
        silent_units=silent,
        silent_bound=0.046,
        unit_share=share,
        unit_largest=np.minimum(3 * share, 1.0),
    )


def _input(rng: np.random.Generator, kind: Any, n: int) -> InputRelevance:
    shape = SHAPES[kind]
    places = shape if kind in ("tokens", "features") else shape[:-1]
    mean = planted(rng, (1, *places))[0] * 0.3
    magnitude = np.abs(mean) / np.abs(mean).sum()
    order = np.argsort(-magnitude, axis=None)[:15]
    features = tuple(
        FeatureRelevance(
            index=tuple(int(j) for j in np.unravel_index(place, places)),
            name=f"column_{place}_$x$" if kind == "features" else None,
            mean=_estimate(float(mean.flat[place]), 0.01, n),
            magnitude=_estimate(float(magnitude.flat[place]), 0.01, n),
        )
        for place in order
    )
    return InputRelevance(
        name=kind,
        kind=kind,
        shape=shape,
        n_features=int(np.prod(places)),
        share=_estimate(1.0, 0.0, n),
        positive=_estimate(0.7, 0.03, n),
        gini=_estimate(0.55, 0.02, n),
        features=features,
        mean=mean,
        magnitude=magnitude,
    )


def _conservation(books: pd.DataFrame, ids: tuple[str, ...]) -> Conservation:
    names = ("absorbed_by_bias", "absorbed_by_softmax", "absorbed_by_stabiliser", "unexplained")
    return Conservation(
        start=4.0,
        reaches_inputs=float(books["relevance_out"].iloc[-1]),
        **{name: float(books[name].sum()) for name in names},
        unexplained_fraction=float(books["unexplained_fraction"].max()),
        first_break=ids[-2] if len(ids) > 1 else None,
    )


def _faithfulness(rng: np.random.Generator, n: int) -> Faithfulness:
    fraction = np.linspace(0, 1, 21)
    most, least = np.exp(-6 * fraction), 1 - fraction**4
    chance = 1 - fraction
    gap = float(np.mean(least - most)) + float(rng.normal(0, 0.03))
    return Faithfulness(
        baseline="the mean of the data",
        n=n,
        abpc=_score(gap, 0.0, n),
        comprehensiveness=_score(1 - float(most.mean()), 0.5, n),
        sufficiency=_score(1 - float(least.mean()), 0.5, n),
        fraction=fraction,
        most_first=most,
        least_first=least,
        random_first=chance,
    )


def _score(value: float, chance: float, n: int) -> FaithfulnessScore:
    return FaithfulnessScore(
        value=_estimate(value, 0.05, n),
        random=_estimate(chance, 0.04, n),
        difference=_estimate(value - chance, 0.06, n),
    )


def _example(rng: np.random.Generator, kind: Any, i: int) -> RelevanceExample:
    shape = SHAPES[kind]
    found = (planted(rng, (1, *shape))[0]).astype(np.float32)
    values = (rng.random(shape) * 0.4 + np.abs(found)).astype(np.float32)
    return RelevanceExample(
        index=17 * i,
        input=kind,
        kind=kind,
        target="ankle boot" if i else "$t$-shirt",
        label="sandal" if i == 2 else "ankle boot",
        output=4.0 + i,
        values=None if kind == "tokens" else values,
        relevance=found,
        tokens=WORDS if kind == "tokens" else (),
    )
