"""The one classifier whose robustness is known exactly: a softmax of linear logits."""

import keras
import numpy as np
from scipy.optimize import brentq
from sklearn.datasets import load_digits

from analyzer.inspection import open_model
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.threat import Box


def digits():
    """Digits from 0 to 1 as vectors, and their classes."""
    data = load_digits()
    return (data.data / 16).astype("float32"), data.target


def trained(kernel, bias, activation="softmax", scale=1.0):
    """A Keras model of given weights."""
    dense = keras.layers.Dense(kernel.shape[1], activation=activation)
    model = keras.Sequential([keras.Input((kernel.shape[0],)), dense])
    dense.set_weights([(kernel * scale).astype("float32"), (bias * scale).astype("float32")])
    return model


def linear_weights(x, y, weight_decay=1e-2, seed=0):
    """Multinomial regression, by scikit-learn."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1 / (weight_decay * len(x)), max_iter=400, random_state=seed).fit(x, y)
    return fitted.coef_.T, fitted.intercept_


def attacked(model, x, batch_size=128):
    """The model as attacks see it, inputs between 0 and 1."""
    return Attacked(view=open_model(model, x[:1]), box=Box(low=0.0, high=1.0, source="given"), batch_size=batch_size)


def reachable(x, w, epsilon, norm):
    """The most that ``w @ step`` can be for a step no longer than epsilon that stays in the box."""
    room = np.where(w > 0, 1 - x, x)
    if norm == "linf":
        return np.abs(w) @ np.minimum(epsilon, room)
    # On the sphere the best step is w scaled by some factor and clipped; its length rises with the factor.
    if np.linalg.norm(room[w != 0]) <= epsilon:
        return np.abs(w) @ room

    def excess(factor):
        return np.linalg.norm(np.minimum(factor * np.abs(w), room)) - epsilon

    high = 1.0
    while excess(high) < 0:
        high *= 2
    return np.abs(w) @ np.minimum(brentq(excess, 0, high) * np.abs(w), room)


def gaps(x, y, kernel, bias):
    """For each sample and class, what a step must add to its logit to reach that of the true class."""
    z = x.astype("float64") @ kernel + bias
    return z[np.arange(len(x)), y][:, None] - z


def exactly_robust(x, y, kernel, bias, epsilon, norm="linf"):
    """Whether no step within epsilon and the box changes the decision; float64."""
    wide = x.astype("float64")
    missing = gaps(x, y, kernel, bias)
    robust = np.ones(len(x), bool)
    for i, (row, own) in enumerate(zip(wide, y, strict=True)):
        for c in set(range(kernel.shape[1])) - {own}:
            robust[i] &= reachable(row, kernel[:, c] - kernel[:, own], epsilon, norm) < missing[i, c]
    return robust


def exact_distances(x, y, kernel, bias, norm="linf", most=4.0):
    """The shortest step to a wrong decision of each sample, within the box; float64."""

    def fall(i, c):
        w, missing = kernel[:, c] - kernel[:, y[i]], found[i, c]
        row = x[i].astype("float64")
        if missing <= 0:
            return 0.0
        if reachable(row, w, most, norm) < missing:
            return np.inf
        return brentq(lambda e: reachable(row, w, e, norm) - missing, 0, most)

    found = gaps(x, y, kernel, bias)
    return np.array([min(fall(i, c) for c in range(kernel.shape[1]) if c != y[i]) for i in range(len(x))])
