"""Tokens get what their vectors brought; what does not come from an input absorbs like a bias."""

import keras
import numpy as np
import pytest

from analyzer.relevance.explain import explain

L = keras.layers
ops = keras.ops
N, T, WORDS, D = 4, 6, 12, 8
ABSORBED = ["absorbed_by_bias", "absorbed_by_softmax", "absorbed_by_stabiliser"]
TOKENS = np.random.default_rng(0).integers(1, WORDS, (N, T)).astype("int32")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def filled(model, seed=1):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.dtype == "float32":
            variable.assign(rng.normal(0, 0.5, variable.shape).astype("float32"))
    return model


class Table(L.Layer):
    """A table of vectors that subclasses look up in ways of their own."""

    def build(self, shape):
        self.table = self.add_weight(shape=(WORDS, D), name="table")


class Taken(Table):
    def call(self, ids):
        return ops.take(self.table, ids, axis=0)


class TakenAcross(Table):
    def call(self, ids):
        return ops.transpose(ops.take(ops.transpose(self.table), ids, axis=1), (1, 2, 0))


class OneHot(Table):
    def call(self, ids):
        return ops.matmul(ops.one_hot(ids, WORDS), self.table)


class Carried(Table):
    """Whole numbers go a long way; at its end they are back in their places."""

    def call(self, ids):
        ids = ops.cast(ops.transpose(ops.reshape(ids, (-1, 2, T // 2)), (1, 2, 0)), "int32")
        first, second = ops.split(ids, 2, axis=0)
        ids = ops.concatenate([ops.squeeze(first, 0), ops.squeeze(second, 0)], axis=0)
        ids = ops.maximum(ops.flip(ops.flip(ids, axis=0), axis=0), 0)
        return ops.take(self.table, ops.transpose(ids), axis=0)


class Positions(L.Layer):
    """Learned positions, added as one writes it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.table = L.Embedding(T, D)

    def build(self, shape):
        self.table.build((T,))

    def call(self, x):
        return x + self.table(ops.arange(T))


KINDS = {
    "embedding": lambda: L.Embedding(WORDS, D),
    "taken": Taken,
    "taken across": TakenAcross,
    "one hot": OneHot,
    "carried": Carried,
} | ({"reversible": lambda: L.ReversibleEmbedding(WORDS, D)} if hasattr(L, "ReversibleEmbedding") else {})


@pytest.mark.parametrize(("kind", "dtype"), [("embedding", "float32"), *((kind, "int32") for kind in KINDS)])
def test_a_token_gets_the_sum_over_its_vector(kind, dtype):
    """A linear read-out of all vectors: the relevance of a token is its vector times the weights there."""
    ids = keras.Input((T,), dtype=dtype, name="ids")
    readout = L.Dense(1, use_bias=False)
    model = filled(keras.Model(ids, readout(L.Flatten()(KINDS[kind]()(ids)))))
    found = explain(model, TOKENS.astype(dtype), target=0, method="epsilon")
    table = next(np.asarray(ops.convert_to_numpy(w)) for w in model.weights if w.shape == (WORDS, D))
    kernel = np.asarray(ops.convert_to_numpy(readout.kernel)).reshape(T, D)
    expected = (table[TOKENS] * kernel).sum(-1)
    assert found.inputs["ids"].shape == (N, T)
    np.testing.assert_allclose(found.inputs["ids"], expected, rtol=1e-4, atol=1e-5)
    assert found.ledger["unexplained_fraction"].max() < 1e-4


@pytest.mark.parametrize(
    "step", [lambda x: x[:, 1:4], L.Reshape((3, 2)), L.Flatten(), lambda x: ops.expand_dims(x, -1), L.Permute((1,))]
)
def test_tokens_are_followed_through_functional_steps(step):
    ids = keras.Input((T,), dtype="int32", name="ids")
    moved = step(ids)
    model = filled(keras.Model(ids, L.Dense(1)(L.Flatten()(L.Embedding(WORDS, D)(moved)))))
    found = explain(model, TOKENS, target=0, method="epsilon")
    used = np.arange(1, 4) if tuple(moved.shape[1:]) == (3,) else np.arange(T)
    assert (found.inputs["ids"][:, used] != 0).all()
    assert (np.delete(found.inputs["ids"], used, axis=1) == 0).all()
    arrived, booked = found.inputs["ids"].sum(1).mean(), found.ledger[ABSORBED].to_numpy().sum()
    assert arrived + booked == pytest.approx(found.output.mean(), abs=1e-4 * float(abs(found.inputs["ids"]).sum()))
    assert found.ledger["unexplained_fraction"].max() < 1e-4


@pytest.mark.parametrize("n", [1, N, T])
def test_positions_absorb_and_the_books_are_balanced(n):
    """For as many samples as there are positions, too: a table is no batch."""
    ids = keras.Input((T,), dtype="int32", name="ids")
    x = Positions(name="positions")(L.Embedding(WORDS, D, name="words")(ids))
    model = filled(keras.Model(ids, L.Dense(1, use_bias=False)(L.Flatten()(x))))
    tokens = np.random.default_rng(1).integers(0, WORDS, (n, T)).astype("int32")
    found = explain(model, tokens, target=0, method="epsilon")
    (place,) = [place for place in found.ledger.index if place.startswith("positions/")]
    absorbed = found.ledger.loc[place, "absorbed_by_bias"]
    assert absorbed != 0
    assert found.inputs["ids"].sum(1).mean() + absorbed == pytest.approx(found.output.mean(), abs=1e-4)
    assert found.ledger["unexplained_fraction"].max() < 1e-4


BACKWARDS = ({}, {"tie_weights": False}, {"logit_soft_cap": 3.0}) if hasattr(L, "ReversibleEmbedding") else ()


@pytest.mark.parametrize("options", BACKWARDS, ids=str)
def test_backwards_an_embedding_is_a_linear_layer_with_its_rule(options):
    shared = L.ReversibleEmbedding(WORDS, D, **options)
    ids = keras.Input((T,), dtype="int32", name="ids")
    model = filled(keras.Model(ids, shared(L.LayerNormalization()(shared(ids)), reverse=True)))
    found = explain(model, TOKENS, target=(2, 5), method="epsilon")
    np.testing.assert_allclose(found.output, np.asarray(ops.convert_to_numpy(model(TOKENS)))[:, 2, 5], rtol=1e-5)
    assert (found.inputs["ids"][:, 2] != 0).all()
    assert (np.delete(found.inputs["ids"], 2, axis=1) == 0).all()
    assert found.ledger["unexplained_fraction"].max() < 1e-4


def test_steps_that_are_masked_get_nothing_and_the_mask_goes_on():
    steps = keras.Input((T, 3), name="steps")
    x = L.Dense(D)(L.Masking(mask_value=-1.0)(steps))
    model = filled(keras.Model(steps, L.Dense(2)(L.GlobalAveragePooling1D()(x))))
    data = normal(N, T, 3)
    data[:, 4:] = -1.0
    found = explain(model, data, target=1, method="epsilon")
    np.testing.assert_allclose(found.output, np.asarray(ops.convert_to_numpy(model(data)))[:, 1], rtol=1e-5)
    assert (found.inputs["steps"][:, 4:] == 0).all()
    assert (found.inputs["steps"][:, :4] != 0).any()
    assert found.ledger["unexplained_fraction"].max() < 1e-4
