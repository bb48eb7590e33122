"""Small transformers as users write them; run as a program, it explains them on this backend and saves the maps."""

from __future__ import annotations

import sys

import keras
import numpy as np

L = keras.layers
ops = keras.ops
N, T, WORDS, D, HEADS = 3, 6, 17, 8, 2


def filled(model, seed=1):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.dtype == "float32":
            mean = 1.0 if variable.name in ("gamma", "scale") else 0.0
            variable.assign(rng.normal(mean, 0.3, variable.shape).astype("float32"))
    return model


class Token(L.Layer):
    """A class token before the patches."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")

    def call(self, x):
        return ops.concatenate([ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1])), x], axis=1)


class Positions(L.Layer):
    """Learned positions, added with a written ``+``."""

    def __init__(self, length, width, **options):
        super().__init__(**options)
        self.length, self.table = length, L.Embedding(length, width)

    def build(self, shape):
        self.table.build((self.length,))

    def call(self, x):
        return x + self.table(ops.arange(self.length))


class Rms(L.Layer):
    """Its own normaliser, in public operations."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-5) * self.scale


class LlamaBlock(L.Layer):
    """Rotary positions, grouped queries, a gated feed-forward, all in `keras.ops`; written sums, no written product."""

    def __init__(self, raw=False, **options):
        super().__init__(**options)
        self.raw = raw
        self.first, self.second = Rms(name="first"), Rms(name="second")
        self.activation = keras.activations.get("silu")

    def build(self, shape):
        sizes = {"q": (D, D), "k": (D, D // 2), "v": (D, D // 2), "o": (D, D)}
        sizes |= {"gate": (D, 12), "up": (D, 12), "down": (12, D)}
        self.w = {name: self.add_weight(shape=size, name=name) for name, size in sizes.items()}
        self.first.build(shape)
        self.second.build(shape)

    def rotated(self, x):
        angles = ops.arange(T, dtype="float32")[:, None] / ops.convert_to_tensor([1.0, 10.0])
        cos, sin = (ops.concatenate([f(angles)] * 2, axis=-1)[None, :, None] for f in (ops.cos, ops.sin))
        a, b = ops.split(x, 2, axis=-1)
        return ops.multiply(x, cos) + ops.multiply(ops.concatenate([-b, a], axis=-1), sin)

    def call(self, x):
        h = self.first(x)
        q, k, v = (
            ops.reshape(ops.matmul(h, self.w[n]), (-1, T, heads, 4)) for n, heads in {"q": 2, "k": 1, "v": 1}.items()
        )
        q, k, v = self.rotated(q), ops.repeat(self.rotated(k), 2, axis=2), ops.repeat(v, 2, axis=2)
        scores = ops.divide(ops.einsum("bthd,bshd->bhts", q, k), 2.0)
        upto = ops.tril(ops.ones((T, T), "bool"))
        weights = ops.softmax(ops.where(upto, scores, -1e9))
        y = ops.reshape(ops.einsum("bhts,bshd->bthd", weights, v), (-1, T, D))
        x = x + ops.matmul(y, self.w["o"])
        h = self.second(x)
        gate, up = self.activation(ops.matmul(h, self.w["gate"])), ops.matmul(h, self.w["up"])
        return x + ops.matmul(gate * up if self.raw else ops.multiply(gate, up), self.w["down"])


class Llama(keras.Model):
    """A subclassed language model."""

    def __init__(self, raw=False):
        super().__init__(name="llama")
        self.words, self.blocks = L.Embedding(WORDS, D), [LlamaBlock(raw, name=f"block_{i}") for i in range(2)]
        self.norm, self.head = Rms(name="norm"), L.Dense(WORDS, use_bias=False)

    def call(self, ids):
        x = self.words(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def llama(raw=False):
    model = Llama(raw)
    model(np.zeros((1, T), "int32"))
    return filled(model)


def gpt():
    """Functional: written sums, Keras' own attention looking back only."""
    ids = keras.Input((T,), dtype="int32", name="ids")
    x = Positions(T, D)(L.Embedding(WORDS, D)(ids))
    for _ in range(2):
        h = L.LayerNormalization()(x)
        x = x + L.MultiHeadAttention(HEADS, 4)(h, h, use_causal_mask=True)
        x = x + L.Dense(D)(L.Dense(16, activation="gelu")(L.LayerNormalization()(x)))
    return filled(keras.Model(ids, L.Dense(WORDS)(L.LayerNormalization()(x))))


def vit():
    image = keras.Input((8, 8, 3), name="image")
    x = L.Reshape((4, D))(L.Conv2D(D, 4, strides=4)(image))
    x = Positions(5, D)(Token()(x))
    for _ in range(2):
        h = L.LayerNormalization()(x)
        x = L.Add()([x, L.MultiHeadAttention(HEADS, 4, dropout=0.1)(h, h)])
        h = L.Dense(16, activation="gelu")(L.LayerNormalization()(x))
        x = L.Add()([x, L.Dense(D)(L.Dropout(0.1)(h))])
    return filled(keras.Model(image, L.Dense(5, activation="softmax")(L.LayerNormalization()(x)[:, 0])))


TOKENS = np.random.default_rng(0).integers(0, WORDS, (N, T)).astype("int32")
IMAGES = np.random.default_rng(0).normal(size=(N, 8, 8, 3)).astype("float32")
MODELS = {"llama": (llama, TOKENS, (3, 5)), "gpt": (gpt, TOKENS, (3, 5)), "vit": (vit, IMAGES, "predicted")}
"""By name: the builder, its data, and what is explained."""


def explained(name, method="attn_lrp", **options):
    from analyzer.relevance.explain import explain

    build, x, target = MODELS[name]
    return explain(build(**options), x, target, method)


if __name__ == "__main__":
    maps = {}
    for given in MODELS:
        found = explained(given)
        maps[given], maps[f"{given}_output"] = next(iter(found.inputs.values())), found.output
    np.savez(sys.argv[1], **maps)
