"""What tells that a model is not robust but hard to attack: one flag for each sign, judged on arrays.

The signs are those of AutoAttack (Croce & Hein, 2020, arXiv 2003.01690), of Athalye et al. (2018, arXiv 1802.00420),
of Carlini et al. (2019, arXiv 1902.06705), and the scale of logits, which none of them looks at. All arrays hold
samples that are decided rightly. Every judgement returns None where there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Bools = NDArray[np.bool_]

LEAST_SHARE = 0.002
"""Samples count as a sign from here on, as in AutoAttack, and only if there is more than one."""
SAME = 1e-4
"""Outputs differ if their difference is longer than this share of them."""
ROUNDING = 1e-6
"""What a difference of logits must exceed, in the largest of them, to be more than rounding."""
SATURATED = 16.0
"""Difference of logits, in nats, above which 1 - p is less than float32 tells from 0 near 1."""

Severity = Literal["note", "withholds"]


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A sign that the attack may have failed where the model would not have held.

    Attributes:
        name: A stable identifier.
        severity: ``"withholds"`` if what was found says nothing about robustness; ``"note"`` if the attack got round
            it.
        value: What was measured: a share of the samples, except for ``"few_classes"``, whose classes it counts.
        n: Samples that were looked at.
        text: One sentence for people.
    """

    name: str
    severity: Severity
    value: float
    n: int
    text: str


def counts(signs: Bools) -> bool:
    """Whether samples are more than chance or one odd sample explains.

    Args:
        signs: ``(n,)``.
    """
    found = int(np.count_nonzero(signs))
    return found > 1 and found > LEAST_SHARE * len(signs)


def _flag(name: str, signs: Bools, severity: Severity, said: str) -> Flag:
    """A flag of some samples; what is said of them follows how many they are."""
    found, n = int(np.count_nonzero(signs)), len(signs)
    verdict = ", so the score is withheld." if severity == "withholds" else "."
    return Flag(name=name, severity=severity, value=found / n, n=n, text=f"{found} of {n} samples {said}{verdict}")


def _unless_fallen(name: str, signs: Bools, fallen: Bools, said: str) -> Flag | None:
    """A flag that withholds only where enough of its samples still stand after the attack."""
    if not counts(signs):
        return None
    if counts(signs & ~fallen):
        left = np.count_nonzero(signs & ~fallen)
        return _flag(name, signs, "withholds", f"{said}, and the attack could not fool {left} of them")
    return _flag(name, signs, "note", f"{said}, yet the attack fooled them")


def randomised(passes: Array) -> Flag | None:
    """Outputs that change when they are asked for again.

    Args:
        passes: ``(k, n, classes)`` logits of k passes over the same samples.
    """
    moved = np.any(_change(passes[0], passes[1:]) > SAME, axis=0)
    if not moved.any():
        return None
    return _flag("randomised", moved, "withholds", f"have other outputs in one of {len(passes)} passes")


def batch_dependent(z: Array, among_others: Array) -> Flag | None:
    """Outputs that depend on which other samples are in the batch.

    Args:
        z: ``(n, classes)`` logits.
        among_others: The same, from batches in which other samples changed.
    """
    moved = _change(z, among_others) > SAME
    if not moved.any():
        return None
    return _flag("batch_dependent", moved, "withholds", "have other outputs when their batch holds other samples")


def _change(z: Array, again: Array) -> NDArray[np.float64]:
    """How far logits moved, as a share of their length; what all classes have in common is no decision."""
    centred, moved = (each - each.mean(axis=-1, keepdims=True) for each in (np.asarray(z, float), np.asarray(again)))
    change = np.linalg.norm(moved - centred, axis=-1) / np.maximum(np.linalg.norm(centred, axis=-1), 1e-300)
    return np.where(np.isnan(change), np.inf, change)


def probability_outputs(outputs: Array) -> Flag | None:
    """Probabilities instead of logits: their softmax or sigmoid could not be left out.

    Args:
        outputs: ``(n, classes)`` what the attack was given as logits; ``(n, 1)`` for a single one.
    """
    within = outputs.min() >= 0 and outputs.max() <= 1
    if outputs.shape[1] == 1:
        if not within:
            return None
        said = "have outputs between 0 and 1 and none below, as a sigmoid has that could not be left out"
        return _flag("probability_outputs", np.ones(len(outputs), bool), "withholds", said)
    if not within or np.abs(outputs.sum(axis=1, dtype=np.float64) - 1).max() > 1e-5:
        return None
    saturated = outputs.max(axis=1) >= 1 - np.exp(-SATURATED)
    if counts(saturated):
        said = "have a probability that rounds to 1, and the softmax that makes it could not be left out"
        return _flag("probability_outputs", saturated, "withholds", said)
    said = "have probabilities for outputs, since their softmax could not be left out, but none that rounds to 1"
    return _flag("probability_outputs", np.ones(len(outputs), bool), "note", said)


def zero_gradients(vanishing: Mapping[str, Bools], fallen: Bools) -> Flag | None:
    """Losses without a direction that raises them.

    Args:
        vanishing: By name of the loss, ``(n,)`` where its gradient to the input is zero or not finite.
        fallen: ``(n,)`` samples that the attack fooled within its largest ε.
    """
    everywhere = np.all(list(vanishing.values()), axis=0)
    found = _unless_fallen("zero_gradients", everywhere, fallen, "have a gradient of zero, whatever the loss")
    if found is not None:
        return found
    name, worst = max(vanishing.items(), key=lambda item: int(item[1].sum()))
    if not counts(worst):
        return None
    return _flag("zero_gradients", worst, "note", f"have a gradient of zero with loss {name!r}, but not with all")


def few_classes(n_classes: int, n: int) -> Flag | None:
    """Classes too few for the losses of AutoAttack; margins need no more than two.

    Args:
        n_classes: How many classes the model tells apart.
        n: Samples that were looked at.
    """
    if n_classes >= 4:
        return None
    missing = "DLR, which compares 3, and its targeted form" if n_classes < 3 else "targeted DLR"
    text = f"The model tells {n_classes} classes apart, too few for {missing}: margins stand in for what needs 4."
    return Flag(name="few_classes", severity="note", value=float(n_classes), n=n, text=text)


def logit_scale(margins: Array) -> Flag | None:
    """Logits so large that cross-entropy through a float32 softmax would have no gradient left.

    Args:
        margins: ``(n,)`` largest other logit minus that of the true class; below 0.
    """
    large = margins < -SATURATED
    if not counts(large):
        return None
    said = f"have logits more than {SATURATED:g} apart, where a softmax saturates; losses here do not need it"
    return _flag("logit_scale", large, "note", said)


def saturated_loss(margins: Array, around: Array, sizes: Array, fallen: Bools) -> Flag | None:
    """Margins that stay as they are wherever in the ball they are taken, so that no attack can climb.

    Args:
        margins: ``(n,)`` of the samples.
        around: ``(k, n)`` at random points of their balls.
        sizes: ``(n,)`` largest absolute logits.
        fallen: ``(n,)`` samples that the attack fooled within that ε.
    """
    flat = (np.abs(around - margins) <= ROUNDING * sizes).all(axis=0)
    return _unless_fallen("saturated_loss", flat, fallen, f"have the same margin at {len(around)} random points nearby")


def one_step_beats_iterative(one: Bools, many: Bools, fallen: Bools) -> Flag | None:
    """A single step of the gradient that fools more samples than many small ones.

    Args:
        one: ``(n,)`` samples that one step fooled.
        many: Those that steps of the same loss fooled within the same ε.
        fallen: Those that the attack fooled within that ε.
    """
    lead = int(one.sum()) - int(many.sum())
    if lead <= 1 or lead <= LEAST_SHARE * len(one):
        return None
    said = f"were fooled by one step, but only {int(many.sum())} by many"
    return _unless_fallen("one_step_beats_iterative", one, fallen, said)


def square_beats_gradients(square: Bools, gradients: Bools) -> Flag | None:
    """Random search finds what gradients do not: they lead astray.

    Args:
        square: ``(n,)`` samples that the Square attack fooled.
        gradients: Those that attacks by gradients fooled within the same ε.
    """
    return _missed("square_beats_gradients", square, gradients, "random search by squares")


def noise_beats_gradients(noise: Bools, gradients: Bools) -> Flag | None:
    """Random noise finds what gradients do not.

    Args:
        noise: ``(n,)`` samples that random points fooled.
        gradients: Those that attacks by gradients fooled within the same ε.
    """
    return _missed("noise_beats_gradients", noise, gradients, "random noise")


def _missed(name: str, found: Bools, gradients: Bools, by: str) -> Flag | None:
    missed = found & ~gradients
    return (
        _flag(name, missed, "withholds", f"held against gradients and were fooled by {by}") if counts(missed) else None
    )


def unbounded_fails(survived: Bools, n_classes: int) -> Flag | None:
    """Samples that hold though every input is allowed: accuracy must fall below that of guessing.

    Args:
        survived: ``(n,)`` samples that no attack fooled with all of the inputs' range for ε.
        n_classes: How many classes the model tells apart.
    """
    if survived.sum() <= 1 or survived.mean() < 1 / n_classes:
        return None
    return _flag("unbounded_fails", survived, "withholds", "were not fooled though ε allowed every input")


def curve_not_monotone(radii: Array, fooled: Bools, distances: Array) -> Flag | None:
    """Attacks that find less within a larger ε.

    Args:
        radii: ``(k,)`` ascending.
        fooled: ``(k, n)`` samples that the same attack fooled within each, begun anew every time.
        distances: ``(n,)`` where the attack that is judged found them.
    """
    found = fooled.sum(axis=1)
    lost = np.maximum.accumulate(found) - found
    worst = int(lost.argmax())
    if lost[worst] <= 1 or lost[worst] <= LEAST_SHARE * fooled.shape[1]:
        return None
    best = int(found[: worst + 1].argmax())
    said = f"were fooled within ε={radii[best]:.3g}, but only {found[worst]} within ε={radii[worst]:.3g}"
    return _unless_fallen("curve_not_monotone", fooled[best], distances <= radii[best], said)
