"""Attention of every kind computes the same in its parts, conserves, and equals the closed form, masks included."""

import dataclasses
import inspect

import keras
import numpy as np
import pytest

from analyzer.backends import reference_attention
from analyzer.inspection import compat
from analyzer.relevance.explain import explain
from analyzer.relevance.presets import attn_lrp, cp_lrp
from analyzer.relevance.rules import Epsilon

L = keras.layers
ops = keras.ops
N, T, S, D = 3, 5, 4, 6
ABSORBED = ["absorbed_by_bias", "absorbed_by_softmax", "absorbed_by_stabiliser"]
STEPS, OTHER = keras.Input((T, D), name="steps"), keras.Input((S, D), name="other")


def numpy(t):
    return np.asarray(keras.ops.convert_to_numpy(t))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def filled(model, seed=1, mean=0.0):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.dtype == "float32":
            variable.assign(rng.normal(mean, 0.5, variable.shape).astype("float32"))
    return model


class OwnCall(L.MultiHeadAttention):
    """A call of its own, as KerasHub's cached attention has; attention itself is Keras'."""

    def call(self, query, value, key=None, attention_mask=None):
        key = value if key is None else key
        q, k, v = self.query_dense(query), self.key_dense(key), self.value_dense(value)
        return self.output_dense(self._compute_attention(query=q, key=k, value=v, attention_mask=attention_mask)[0])


class OwnAttention(L.MultiHeadAttention):
    """Attention of its own, in public operations."""

    def _compute_attention(self, query, key, value, attention_mask=None, training=None, *args, **kwargs):
        scores = ops.softmax(ops.einsum("bthd,bshd->bhts", query, key) * 0.3)
        return ops.einsum("bhts,bshd->bthd", scores, value), None


class Fused(L.Layer):
    """`keras.ops.dot_product_attention`, two heads, with a bias, a mask, or looking back only."""

    def __init__(self, causal=False, biased=False, **options):
        super().__init__(**options)
        self.causal, self.biased = causal, biased

    def call(self, x):
        n = x.shape[0] or 1
        q, k = ops.reshape(x, (-1, T, 2, D // 2)), ops.reshape(ops.flip(x, axis=-1), (-1, T, 2, D // 2))
        bias = ops.broadcast_to(ops.convert_to_tensor(normal(1, 1, T, T)), (n, 2, T, T)) if self.biased else None
        mask = None if self.biased else ops.ones((1, 1, T, T), "bool")
        y = ops.dot_product_attention(q, k, k, bias=bias, mask=mask, is_causal=self.causal)
        return ops.reshape(y, (-1, T, D))


def image_attention():
    x = L.Reshape((T, 2, 3))(STEPS)
    return L.MultiHeadAttention(2, 3, attention_axes=(1, 2))(x, x)


CASES = {
    "self": lambda: L.MultiHeadAttention(2, 3)(STEPS, STEPS),
    "causal": lambda: L.MultiHeadAttention(2, 3)(STEPS, STEPS, use_causal_mask=True),
    # With value_dim, Keras itself cannot run on JAX (3.15).
    "cross": lambda: L.MultiHeadAttention(2, 3)(STEPS, OTHER),
    "key": lambda: L.MultiHeadAttention(2, 3, output_shape=4)(STEPS, OTHER, L.Dense(7)(OTHER)),
    "scores": lambda: L.MultiHeadAttention(2, 3)(STEPS, OTHER, return_attention_scores=True),
    "causal scores": lambda: L.MultiHeadAttention(2, 3)(
        STEPS, STEPS, return_attention_scores=True, use_causal_mask=True
    ),
    "dropout": lambda: L.MultiHeadAttention(2, 3, dropout=0.5)(STEPS, STEPS, use_causal_mask=True),
    "two axes": image_attention,
    "group": lambda: L.GroupQueryAttention(3, 4, 2)(STEPS, OTHER),
    "group causal": lambda: L.GroupQueryAttention(3, 4, 1)(STEPS, STEPS, use_causal_mask=True),
    "own call": lambda: OwnCall(2, 3)(STEPS, OTHER),
    "own attention": lambda: OwnAttention(2, 3)(STEPS, OTHER),
    "fused": lambda: Fused()(STEPS),
    "fused causal": lambda: Fused(causal=True)(STEPS),
    "fused bias": lambda: Fused(biased=True)(STEPS),
    "dot": lambda: L.Attention()([STEPS, OTHER]),
    "dot scaled": lambda: L.Attention(use_scale=True)([STEPS, STEPS, L.Dense(D)(STEPS)], use_causal_mask=True),
    "concat": lambda: L.Attention(score_mode="concat", use_scale=True)([STEPS, OTHER]),
    "additive": lambda: L.AdditiveAttention()([STEPS, OTHER], return_attention_scores=True),
    "Dot": lambda: L.Dot(axes=2)([STEPS, OTHER]),
    "Dot of two axes": lambda: L.Dot(axes=(1, 2))([STEPS, L.Dense(T)(OTHER)]),
    "Dot normalised": lambda: L.Dot(axes=-1, normalize=True)([L.Flatten()(STEPS), L.Dense(T * D)(L.Flatten()(OTHER))]),
}
if "use_gate" in inspect.signature(L.MultiHeadAttention.__init__).parameters:
    CASES["gate"] = lambda: L.MultiHeadAttention(2, 3, use_gate=True)(STEPS, OTHER)
    CASES["group gate"] = lambda: L.GroupQueryAttention(3, 4, 2, use_gate=True)(STEPS, OTHER)
DATA = {"steps": normal(N, T, D), "other": normal(N, S, D, seed=2)}


def explained(model, data, **options):
    """What is explained is a sum of all outputs with fixed weights."""

    def target(outputs):
        flat = [ops.reshape(t, (N, -1)) for t in keras.tree.flatten(outputs)]
        return sum(ops.sum(t * ops.convert_to_tensor(normal(1, t.shape[1], seed=7)), axis=1) for t in flat)

    return explain(model, data, target, **options), numpy(target(model(data)))


def balanced(explanation, tolerance=1e-4):
    """Everything that started arrived or is booked, in all and place by place."""
    arrived = sum(r.reshape(len(r), -1).sum(1).mean() for r in explanation.inputs.values())
    booked = explanation.ledger[ABSORBED].to_numpy().sum()
    scale = max(abs(explanation.output).mean(), np.mean([abs(r).sum() / len(r) for r in explanation.inputs.values()]))
    assert abs(explanation.output.mean() - arrived - booked) <= tolerance * scale
    assert explanation.ledger["unexplained_fraction"].max() <= tolerance


@pytest.mark.parametrize("name", CASES)
def test_it_computes_the_same_and_conserves(name):
    keras.utils.set_random_seed(0)
    given = {"steps": STEPS, "other": OTHER}
    outputs = CASES[name]()
    model = filled(keras.Model(given, outputs))
    found, own = explained(model, DATA, method="attn_lrp")
    np.testing.assert_allclose(found.output, own, rtol=1e-5, atol=1e-5)
    balanced(found)


@pytest.mark.parametrize("name", ["cross", "key", "group", "dot", "concat", "additive", "own call"])
def test_with_constant_weights_queries_get_nothing(name):
    model = filled(keras.Model({"steps": STEPS, "other": OTHER}, CASES[name]()))
    # Scores are made of constants alone: what is explained must be the values.
    first = keras.Model(model.input, keras.tree.flatten(model.output)[0])
    found, own = explained(first, DATA, method="cp_lrp")
    np.testing.assert_allclose(found.output, own, rtol=1e-5, atol=1e-5)
    assert (found.inputs["steps"] == 0).all()
    assert (found.inputs["other"] != 0).any()
    balanced(found)


def weights_of(layer):
    by_name = {part.name: part for part in compat.sublayers(layer)}
    parts = [by_name[name] for name in ("query", "key", "value", "attention_output")]
    return reference_attention.AttentionWeights(
        *(numpy(part.kernel) for part in parts), *(numpy(part.bias) for part in parts)
    )


@pytest.mark.parametrize("kind", ["heads", "groups"])
@pytest.mark.parametrize("preset", [attn_lrp(), cp_lrp()], ids=lambda preset: preset.name)
@pytest.mark.parametrize("masks", ["none", "causal", "given", "both"])
def test_it_equals_the_closed_form(preset, masks, kind):
    """Beside NumPy float64, with a stabiliser too small to matter and denominators in which little cancels."""
    layer = L.MultiHeadAttention(2, 3) if kind == "heads" else L.GroupQueryAttention(3, 4, 2)
    causal, given = masks in ("causal", "both"), masks in ("given", "both")
    mask = keras.Input((T, T), dtype="bool", name="mask")
    y = layer(STEPS, STEPS, use_causal_mask=causal, attention_mask=mask if given else None)
    model = filled(keras.Model({"steps": STEPS, "mask": mask}, y), seed=3, mean=0.4)
    drawn = (np.random.default_rng(4).random((N, T, T)) > 0.4) | np.eye(T, dtype=bool)
    data = {"steps": normal(N, T, D) + 0.5, "mask": drawn}
    seen = np.ones((N, T, T), bool)
    seen = seen & drawn if given else seen
    seen = seen & np.tril(np.ones((T, T), bool)) if causal else seen
    small = dataclasses.replace(preset, dense=Epsilon(epsilon=1e-10))
    found = explain(model, data, target=(3, 2), method=small)
    start = np.zeros((N, T, D))
    start[:, 3, 2] = numpy(model(data))[:, 3, 2]
    expected = reference_attention.self_attention(
        data["steps"], weights_of(layer), start, rule=preset.name, mask=seen, epsilon=1e-10
    )
    error = np.linalg.norm(found.inputs["steps"] - expected.lower, axis=(1, 2))
    assert (error <= 1e-5 * np.linalg.norm(expected.lower, axis=(1, 2))).all()
    booked = found.ledger[ABSORBED].sum()
    assert booked["absorbed_by_softmax"] == pytest.approx(expected.softmax.mean(), abs=1e-5 * abs(start).sum())
    assert booked["absorbed_by_bias"] == pytest.approx(expected.bias.mean(), abs=1e-5 * abs(start).sum())
    if causal:
        assert (found.inputs["steps"][:, 4:] == 0).all()
        assert (found.inputs["steps"][:, :4] != 0).any(axis=(0, 2)).all()


@pytest.mark.parametrize("layer", ["heads", "dot", "additive", "scores"])
def test_keys_that_are_hidden_get_exactly_nothing(layer):
    ids = keras.Input((T,), dtype="int32", name="ids")
    x = L.Embedding(9, D, mask_zero=True)(ids)
    query = L.Dense(D)(STEPS)
    y = {
        "heads": lambda: L.MultiHeadAttention(2, 3)(query, x),
        "scores": lambda: L.MultiHeadAttention(2, 3)(query, x, return_attention_scores=True)[0],
        "dot": lambda: L.Attention()([query, x]),
        "additive": lambda: L.AdditiveAttention()([query, x]),
    }[layer]()
    model = filled(keras.Model({"ids": ids, "steps": STEPS}, y))
    tokens = np.array([[3, 4, 5, 0, 0], [1, 0, 0, 0, 0], [8, 7, 2, 3, 1]], "int32")
    found, own = explained(model, {"ids": tokens, "steps": DATA["steps"]}, method="attn_lrp")
    np.testing.assert_allclose(found.output, own, rtol=1e-5, atol=1e-5)
    assert (found.inputs["ids"][tokens == 0] == 0).all()
    assert (found.inputs["ids"][tokens != 0] != 0).all()
    balanced(found)


def test_masks_that_attention_takes_off_are_off_for_those_who_come_next():
    """A mask that stays on would change the mean that follows."""
    ids = keras.Input((T,), dtype="int32", name="ids")
    x = L.Embedding(9, D, mask_zero=True)(ids)
    y = L.GlobalAveragePooling1D()(L.Add()([x, L.MultiHeadAttention(2, 3)(x, x)]))
    model = filled(keras.Model({"ids": ids}, y))
    tokens = np.array([[3, 4, 5, 0, 0], [1, 2, 0, 0, 0], [8, 7, 2, 3, 1]], "int32")
    found, own = explained(model, {"ids": tokens}, method="attn_lrp")
    np.testing.assert_allclose(found.output, own, rtol=1e-5, atol=1e-5)
    balanced(found)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_gives_nearly_the_same(policy):
    def build(dtype):
        x = keras.Input((T, D), name="steps")
        y = L.MultiHeadAttention(2, 3, dtype=dtype)(x, x, use_causal_mask=True)
        y = L.LayerNormalization(dtype=dtype)(L.Add(dtype=dtype)([x, y]))
        y = L.Dense(4, activation="gelu", dtype=dtype)(y)
        return filled(keras.Model({"steps": x}, y), seed=5)

    data = {"steps": DATA["steps"]}
    full, half = (explain(build(dtype), data, target=(3, 2), method="attn_lrp") for dtype in ("float32", policy))
    assert np.isfinite(half.inputs["steps"]).all()
    assert (half.inputs["steps"][:, 4:] == 0).all()
    a, b = full.inputs["steps"].ravel().astype(float), half.inputs["steps"].ravel().astype(float)
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > (0.999 if policy == "mixed_float16" else 0.98)
