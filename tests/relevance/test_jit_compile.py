"""A model compiled with ``jit_compile=True`` has its relevance pass compiled by the backend's own compiler."""

import contextlib

import keras
import numpy as np
import pytest

from analyzer.relevance.explain import explain
from tests import zoo

TORCH = keras.backend.backend() == "torch"
X = zoo.normal(12, 8, 8, 2)
"""Four batches of three: the compilers that take long begin with the third."""


def maps(jit_compile):
    """Relevance of a small net with convolutions, the same whenever it is made."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8, 8, 2)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3)]
    )
    model.compile("adam", "mse", jit_compile=jit_compile)
    return explain(model, X, target=[0, 2], batch_size=3).inputs["input"]


def asked_of_torch(monkeypatch, compiled):
    """Put a function in the place of ``torch.compile``, where there is PyTorch, and list what it is asked for."""
    asked = []

    def compile(fn):
        asked.append(fn)
        return compiled(fn)

    if TORCH:
        monkeypatch.setattr("torch.compile", compile)
    return asked


def test_only_who_asks_for_it_gets_it(monkeypatch):
    asked = asked_of_torch(monkeypatch, lambda fn: fn)
    plain = maps(jit_compile=False)
    assert asked == []
    np.testing.assert_allclose(maps(jit_compile=True), plain, rtol=1e-4, atol=1e-6)
    assert len(asked) == (1 if TORCH else 0)


def test_a_compiler_that_fails_is_named_and_costs_no_result(monkeypatch):
    def failing(_):
        def run(*_):
            raise RuntimeError("no C++ compiler\nand a long story")

        return run

    plain = maps(jit_compile=False)
    asked_of_torch(monkeypatch, failing)
    said = pytest.warns(UserWarning, match=r"torch\.compile failed.*no C\+\+ compiler$")
    with said if TORCH else contextlib.nullcontext():
        found = maps(jit_compile=True)
    np.testing.assert_allclose(found, plain, rtol=1e-4, atol=1e-6)


if TORCH:

    class Branching(keras.layers.Layer):
        """A user's layer that looks at values."""

        def call(self, x):
            return 2 * x if keras.ops.convert_to_numpy(x).sum() > 0 else 3 * x

    def test_what_looks_at_values_runs_as_it_is():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((5,)), Branching(), keras.layers.Dense(3, use_bias=False)])
        x = np.concatenate([sign * np.ones((2, 5), "float32") for sign in (1, 1, -1, 1, -1)])
        kernel = model.layers[-1].get_weights()[0]
        found = explain(model, x, 0, "epsilon", batch_size=2, unknown="gradient").inputs["input"]
        expected = x * np.where(x > 0, 2, 3) * kernel[:, 0]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_compiler_changes_no_number():
    np.testing.assert_allclose(maps(jit_compile=True), maps(jit_compile=False), rtol=1e-4, atol=1e-6)
