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


def shortest(x, w, missing, norm):
    """The length of the shortest step within the box for which ``w @ step`` is what is missing."""
    slope, room = np.abs(w), np.where(w > 0, 1 - x, x)
    if missing <= 0:
        return 0.0
    if slope @ room < missing:
        return np.inf
    if norm == "l1":
        # Whatever gains most per length goes as far as the box allows, then the next.
        order = np.argsort(-slope)
        slope, room = slope[order], room[order]
        gained = np.concatenate([[0], np.cumsum(slope * room)])
        last = np.searchsorted(gained, missing) - 1
        return room[:last].sum() + (missing - gained[last]) / slope[last]
    # Best is a step along w (L2) or the signs of w (Linf), scaled until it gains enough and clipped.
    pace = slope if norm == "l2" else (slope > 0).astype(float)
    farthest = max(room[slope > 0] / pace[slope > 0])
    factor = brentq(lambda k: slope @ np.minimum(k * pace, room) - missing, 0, farthest, xtol=1e-14)
    return np.linalg.norm(np.minimum(factor * pace, room), np.inf if norm == "linf" else 2)


def exact_distances(x, y, kernel, bias, norm="linf"):
    """The shortest step to a wrong decision of each sample, within the box; float64."""
    x = x.astype("float64")
    z = x @ kernel + bias
    missing = z[np.arange(len(x)), y][:, None] - z
    return np.array(
        [
            min(
                shortest(x[i], kernel[:, c] - kernel[:, y[i]], missing[i, c], norm)
                for c in range(kernel.shape[1])
                if c != y[i]
            )
            for i in range(len(x))
        ]
    )


def small_net(rng):
    """Eight inputs, a tanh layer, five classes: float64 weights, and the model of them."""
    shapes = [(8, 16), (16,), (16, 5), (5,)]
    weights = [rng.normal(0, 2 if len(shape) == 2 else 0.3, shape) / np.sqrt(shape[0]) for shape in shapes]
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(5)])
    model.set_weights(weights)
    return weights, model


def looked(weights, point, y):
    """Of one input of `small_net` the loss `cross_entropy`, its gradient by hand, and whether y is not decided for."""
    first, shift, second, offset = weights
    hidden = np.tanh(point @ first + shift)
    z = hidden @ second + offset
    others = np.delete(np.exp(z - z.max()), y)
    slope = np.insert(others / others.sum(), y, -1)
    gradient = first @ ((second @ slope) * (1 - hidden**2))
    return np.log(others.sum()) + z.max() - z[y], gradient, np.delete(z, y).max() >= z[y]


def nearest_in_l1(step, x, radius):
    """The step nearest to another in the L1 ball and the box, by its multiplier; float64."""
    room = np.where(step > 0, 1 - x, x)

    def shrunk(multiplier):
        return np.clip(np.abs(step) - multiplier, 0, room)

    if shrunk(0).sum() <= radius:
        return np.sign(step) * shrunk(0)
    return np.sign(step) * shrunk(brentq(lambda m: shrunk(m).sum() - radius, 0, np.abs(step).max(), xtol=1e-14))
