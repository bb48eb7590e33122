"""TimeDistributed: what it wraps goes by its own rules, as if steps were samples; masks go in with them."""

import keras
import numpy as np
import pytest

from analyzer.relevance import presets
from analyzer.relevance.explain import explain

L = keras.layers
ops = keras.ops
N, T = 2, 3
ABSORBED = ["absorbed_by_bias", "absorbed_by_softmax", "absorbed_by_stabiliser"]


def numpy(t):
    return np.asarray(keras.ops.convert_to_numpy(t))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def filled(model, seed=1):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.dtype == "float32":
            drawn = rng.normal(0, 0.6, variable.shape).astype("float32")
            variable.assign(np.abs(drawn) + 0.5 if "variance" in variable.path else drawn)
    return model


def nested():
    inner = keras.Input((4,))
    hidden = L.Dense(5, activation="relu")(inner)
    return keras.Model(inner, L.LayerNormalization()(hidden + L.Dense(5)(inner)), name="nested")


class Written(L.Layer):
    """A layer of the user's own with an operation between its parts."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.second = L.Dense(5, activation="tanh"), L.Dense(3)

    def build(self, shape):
        self.first.build(shape)
        self.second.build((*shape[:-1], 5))

    def call(self, x):
        return self.second(ops.relu(self.first(x)))

    def compute_output_shape(self, shape):
        return (*shape[:-1], 3)


class Masked(L.Layer):
    """One more, but zero for samples that a mask leaves out."""

    def call(self, x, mask=None):
        return x + 1.0 if mask is None else (x + 1.0) * ops.cast(mask, x.dtype)[:, None]

    def compute_output_shape(self, shape):
        return shape


INNER = {
    "dense": (lambda: L.Dense(5, activation="gelu"), (4,)),
    "convolution": (lambda: L.Conv2D(2, 3, activation="relu"), (6, 6, 2)),
    "pooling": (lambda: L.MaxPooling2D(), (4, 4, 2)),
    "normalization": (lambda: L.BatchNormalization(), (4,)),
    "lstm": (lambda: L.LSTM(3), (5, 4)),
    "model": (nested, (4,)),
    "sequential": (lambda: keras.Sequential([L.Input((4,)), L.Dense(5, activation="relu"), L.Dense(2)]), (4,)),
    "written": (Written, (4,)),
    "twice": (lambda: L.TimeDistributed(L.Dense(3)), (2, 4)),
}


def unexplained(explanation, allowed=1e-4):
    ledger = explanation.ledger
    relevance = next(iter(explanation.inputs.values()))
    scale = max(abs(float(explanation.output.mean())), float(np.abs(relevance).sum()) / len(relevance))
    arrived = float(relevance.sum()) / len(relevance) + ledger[ABSORBED].to_numpy().sum()
    assert abs(arrived - float(explanation.output.mean())) <= allowed * scale
    assert (ledger["unexplained_fraction"] <= allowed).all(), ledger


@pytest.mark.parametrize("method", ["epsilon", "z_plus"])
@pytest.mark.parametrize("name", INNER)
class TestInner:
    def test_is_the_inner_layer_over_steps_as_samples(self, name, method):
        make, shape = INNER[name]
        x = normal(N, T, *shape)
        steps, step = keras.Input((T, *shape)), keras.Input(shape)
        inner = make()
        model = filled(keras.Model(steps, L.TimeDistributed(inner)(steps)))

        def weighted(outputs):
            # By step, so that no two of them count alike.
            flat = ops.reshape(outputs, (N, T, -1))
            return ops.sum(ops.sum(flat, axis=2) * ops.convert_to_tensor([[1.0, -2.0, 0.5]] * N), axis=1)

        found = explain(model, x, target=weighted, method=method)
        assert np.allclose(found.output, numpy(weighted(model(x))), rtol=1e-5, atol=1e-5)
        unexplained(found)
        assert np.isin(["TimeDistributed", type(inner).__name__], found.ledger["kind"]).all()

        alone = keras.Model(step, inner(step))
        scales = np.tile([1.0, -2.0, 0.5], N)

        def one(outputs):
            return ops.sum(ops.reshape(outputs, (N * T, -1)), axis=1)

        expected = next(iter(explain(alone, x.reshape(N * T, *shape), target=one, method=method).inputs.values()))
        expected = (expected.reshape(N * T, -1) * scales[:, None]).reshape(x.shape)
        got = next(iter(found.inputs.values()))
        assert np.linalg.norm(got - expected) <= 1e-5 * np.linalg.norm(expected)


class TestMasks:
    def test_steps_that_are_left_out_get_nothing(self):
        steps = keras.Input((T, 4))
        model = filled(keras.Model(steps, L.Dense(2)(ops.sum(L.TimeDistributed(Masked())(L.Masking()(steps)), axis=1))))
        x = normal(N, T, 4)
        x[0, 1:] = 0
        found = explain(model, x, target=1, method="epsilon")
        assert np.allclose(found.output, numpy(model(x))[:, 1], atol=1e-5)
        unexplained(found)

    def test_a_loop_after_it_sees_the_mask(self):
        tokens = keras.Input((T,), dtype="int32")
        y = L.TimeDistributed(L.Dense(4))(L.Embedding(6, 4, mask_zero=True)(tokens))
        model = filled(keras.Model(tokens, L.Dense(3)(L.GRU(3)(y))))
        x = np.array([[1, 2, 3], [4, 0, 0]])
        found = explain(model, x, target=1, method=presets.epsilon())
        assert np.allclose(found.output, numpy(model(x))[:, 1], atol=1e-5)
        assert np.array_equal(next(iter(found.inputs.values()))[1, 1:], np.zeros(2))
        unexplained(found)


def test_frames_of_a_film():
    frames = keras.Input((T, 6, 6, 2))
    y = L.TimeDistributed(L.Conv2D(3, 3, activation="relu"))(frames)
    y = L.LSTM(4)(L.TimeDistributed(L.GlobalAveragePooling2D())(y))
    model = filled(keras.Model(frames, L.Dense(3, activation="softmax")(y)))
    found = explain(model, normal(N, T, 6, 6, 2), target=2, method="epsilon_plus")
    unexplained(found)
    assert {"Conv2D", "LSTM", "TimeDistributed"} <= set(found.ledger["kind"])
