"""Explaining from several threads: the operations of `keras.ops` go through rules one pass at a time, and come back."""

import contextlib
import threading

import keras
import numpy as np
import pytest

from analyzer.relevance import tracing
from analyzer.relevance.explain import explain

L = keras.layers
PATIENCE = 120
"""Seconds after which a thread that should go on counts as stuck."""

X = np.random.default_rng(0).standard_normal((6, 4)).astype("float32")


class Watched:
    """`patched_namespace` with its comings and goings written down.

    Attributes:
        log: ``(thread, "asks" | "enters" | "leaves")`` in order.
        asked: By thread, set once it asks.
        holding: Name of the thread that stops inside until `may_go`; None for nobody.
    """

    def __init__(self, original):
        self.original, self.log, self.holding = original, [], None
        self.asked = {"first": threading.Event(), "second": threading.Event()}
        self.inside, self.may_go = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def __call__(self, flow):
        name = threading.current_thread().name
        self.log.append((name, "asks"))
        if name in self.asked:
            self.asked[name].set()
        with self.original(flow):
            self.log.append((name, "enters"))
            if name == self.holding:
                self.inside.set()
                assert self.may_go.wait(PATIENCE)
            yield
            self.log.append((name, "leaves"))


@pytest.fixture
def watched(monkeypatch):
    found = Watched(tracing.patched_namespace)
    monkeypatch.setattr(tracing, "patched_namespace", found)
    yield found
    found.may_go.set()


class Written(keras.Model):
    """A subclassed model that calls `keras.ops`."""

    def __init__(self):
        super().__init__()
        self.dense, self.out = L.Dense(5), L.Dense(3)

    def call(self, x):
        h = keras.ops.relu(self.dense(x))
        return self.out(keras.ops.concatenate([h, keras.ops.negative(h)], axis=-1))


def built(seed):
    keras.utils.set_random_seed(seed)
    model = Written()
    model(np.zeros((1, 4), "float32"))
    return model


def functions():
    """What `keras.ops` and `keras.activations` hold."""
    return {
        (space.__name__, name): getattr(space, name)
        for space in (keras.ops, keras.activations)
        for name in dir(space)
        if callable(getattr(space, name))
    }


def started(name, model, found):
    thread = threading.Thread(
        target=lambda: found.update({name: explain(model, X, 0, "epsilon").inputs["input"]}), name=name, daemon=True
    )
    thread.start()
    return thread


def test_two_threads_explain_one_after_the_other_and_leave_the_operations_as_they_were(watched):
    models = {"first": built(1), "second": built(2)}
    before = functions()
    alone = {name: explain(model, X, 0, "epsilon").inputs["input"] for name, model in models.items()}
    watched.log.clear()
    watched.holding, found = "first", {}
    first = started("first", models["first"], found)
    assert watched.inside.wait(PATIENCE)
    second = started("second", models["second"], found)
    assert watched.asked["second"].wait(PATIENCE)
    second.join(0.5)
    assert ("second", "enters") not in watched.log, "the second pass must wait for the first"
    watched.may_go.set()
    for thread in (first, second):
        thread.join(PATIENCE)
        assert not thread.is_alive()
    for name, expected in alone.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)
    assert functions() == before


def test_operations_of_other_threads_are_their_own_meanwhile(watched):
    """A thread that trains or predicts while another explains gets what `keras.ops` always computes."""
    watched.holding, found = "first", {}
    thread = started("first", built(1), found)
    assert watched.inside.wait(PATIENCE)
    of_others = keras.ops.convert_to_numpy(keras.ops.relu(keras.ops.convert_to_tensor(X)))
    watched.may_go.set()
    thread.join(PATIENCE)
    np.testing.assert_array_equal(of_others, np.maximum(X, 0))
    assert found["first"].shape == X.shape
