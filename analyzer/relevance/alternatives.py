"""Where the second of two maps that travel together begins: at what speaks for the alternatives."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from analyzer.errors import ConfigError
from analyzer.inspection.trace import named_outputs
from analyzer.relevance.flow import Tensor
from analyzer.relevance.public_ops import ops
from analyzer.relevance.targets import Target


def check_contrast(target: Target) -> None:
    """Refuse what has no alternatives.

    Args:
        target: What is explained.

    Raises:
        ConfigError: If that is no class.
    """
    if target.function is not None or target.task in ("regression", "box"):
        what = "a function of the outputs" if target.function is not None else f"a {target.task} output"
        raise ConfigError(
            "method='contrastive' needs classes, of which one is explained and the others speak against it; the target "
            f"is {what}. Choose another method, or say with task= what kind of output it is."
        )


def contrasted(target: Target, model: keras.Model, outputs: Any, index: Tensor) -> tuple[Tensor, Tensor]:
    """Where two maps start: at what is explained, and at all that it is an alternative to.

    The alternatives start with their own values: of a class all other classes (at the same position), of a binary
    output or a mask of one channel the negative logit. Where relevance is to begin with a given amount, they are scaled
    as much as what is explained, their signs kept.

    Args:
        target: What is explained.
        model: The model.
        outputs: What it returned for two copies of each sample, one after the other; last activations cut.
        index: As for `Target.score`.

    Returns:
        As `Target.score`: of what is explained for the first copies, of its alternatives for the second.
    """
    own, chosen = target.score(model, outputs, index)
    logits = ops.cast(named_outputs(model, outputs)[target.head][1], "float32")
    flat = ops.reshape(logits, (logits.shape[0], -1))
    weights = target.weights(model, outputs)
    if weights is None:
        others = _other_classes(target, flat, chosen)
    else:
        others = ops.sum(flat * _other_weights(target, weights), axis=-1)[None]
    half = int(flat.shape[0]) // 2
    return ops.concatenate([own[:, :half], others[:, half:]], axis=1), chosen


def _other_classes(target: Target, flat: Tensor, chosen: Tensor) -> Tensor:
    """The start of the alternatives to single classes, ``(k, n)``."""
    if target.task == "binary":
        value = flat[:, 0][None, :] * ops.cast(2 * chosen - 1, "float32")
        return -value * _scale(target, value)
    places, classes = ops.arange(flat.shape[-1]), _classes(target)
    own = ops.cast(ops.equal(places, chosen[..., None]), "float32")
    value = ops.sum(flat * own, axis=-1)
    if classes == 1:
        return -value * _scale(target, value)
    there = ops.cast(ops.equal(places // classes, (chosen // classes)[..., None]), "float32")
    return ops.sum(flat * (there - own), axis=-1) * _scale(target, value)


def _other_weights(target: Target, weights: Tensor) -> Tensor:
    """From the weights of a mask to those of the other classes of its pixels."""
    classes, sign = _classes(target), float(np.sign(target.multiplier))
    if classes == 1:
        return -ops.abs(weights) * sign
    by_class = ops.reshape(weights, (weights.shape[0], -1, classes))
    size = ops.max(ops.abs(by_class), axis=-1, keepdims=True) * sign
    return ops.reshape(ops.where(by_class == 0, size, 0.0), weights.shape)


def _classes(target: Target) -> int:
    return target.shape[-1] if target.shape else 1


def _scale(target: Target, value: Tensor) -> Tensor | float:
    """The size of what the explained value is multiplied with, and the multiplier's sign."""
    if target.start == "output":
        return target.multiplier
    return ops.abs(target.factor(value)) * float(np.sign(target.multiplier))
