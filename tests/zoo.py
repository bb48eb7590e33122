"""Small models of every kind that must open, with data for each: ``build("attention")`` gives a model and its inputs.

Every call builds a fresh model from the same seed; `Specimen.x` is in the structure that the model is called with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

L = keras.layers
ops = keras.ops


@dataclass(frozen=True)
class Specimen:
    """A model, inputs for it, and (where Keras' own predict cannot be the judge) nothing more."""

    model: keras.Model
    x: Any

    @property
    def n(self) -> int:
        return len(keras.tree.flatten(self.x)[0])


BUILDERS: dict[str, Callable[[int], Specimen]] = {}
"""By name: number of samples → specimen. Every one returns float outputs with one row per sample."""


def specimen(builder: Callable[[int], Specimen]) -> Callable[[int], Specimen]:
    BUILDERS[builder.__name__] = builder
    return builder


def build(name: str, n: int = 7, seed: int = 0) -> Specimen:
    """A fresh specimen with repeatable weights; biases and moving statistics are not left at zero and one."""
    keras.utils.set_random_seed(seed)
    made = BUILDERS[name](n)
    rng = np.random.default_rng(seed)
    for variable in made.model.weights:
        if keras.backend.is_float_dtype(variable.dtype) and len(variable.shape) == 1 and "scale" not in variable.name:
            drawn = rng.uniform(0.5, 1.5, variable.shape) * np.where(variable.name == "moving_variance", 1.0, 0.3)
            variable.assign(drawn.astype("float32"))
    return made


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


# ------------------------------------------------------------------------------------------------ own layers and models
@keras.saving.register_keras_serializable("zoo")
class ScaledShift(L.Layer):
    """A layer of the user's own with two variables and no sublayer."""

    def build(self, input_shape):
        self.factor = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="factor")
        self.shift = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="shift", trainable=False)

    def call(self, x):
        return x * self.factor + self.shift


@keras.saving.register_keras_serializable("zoo")
class Transposed(L.Layer):
    """Uses the kernel of another layer: weight tying. The variable has two owners."""

    def __init__(self, tied_to: L.Dense, **kwargs):
        super().__init__(**kwargs)
        self.kernel = tied_to.kernel

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.kernel))


@keras.saving.register_keras_serializable("zoo")
class BatchMean(L.Layer):
    """Subtracts the mean of the batch, also at inference: each sample depends on its neighbours."""

    def call(self, x):
        return x - ops.mean(x, axis=0, keepdims=True)


@keras.saving.register_keras_serializable("zoo")
class Breaks(L.Layer):
    """Raises above a number of rows, as a device does that runs out of memory."""

    def __init__(self, most: int, error: BaseException | None = None, **kwargs):
        super().__init__(**kwargs)
        self.most = most
        self.error = error or MemoryError("cannot allocate 9,999,999 bytes")

    def call(self, x):
        if x.shape[0] > self.most:
            raise self.error
        return x + 0.0

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


@keras.saving.register_keras_serializable("zoo")
class PrivateParts(keras.Model):
    """Sublayers in a private attribute, a list and a dict; a layer that runs before one declared earlier."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.head = L.Dense(3, activation="softmax", name="head")
        self._hidden = L.Dense(6, activation="relu", name="hidden")
        self.blocks = [L.Dense(5, activation="relu", name=f"block_{i}") for i in range(2)]
        self.by_name = {"scale": ScaledShift(name="scale")}

    def call(self, x, training=False):
        x = self._hidden(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.by_name["scale"](x))


@keras.saving.register_keras_serializable("zoo")
class TrainingOnlyBranch(keras.Model):
    """An auxiliary head that only training uses, so it never got weights."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = L.Dense(6, activation="relu", name="hidden")
        self.auxiliary = L.Dense(9, name="auxiliary")
        self.head = L.Dense(3, activation="softmax", name="head")

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.head.build((None, 6))

    def call(self, x, training=False):
        x = self.hidden(x)
        if training:
            self.add_loss(ops.mean(self.auxiliary(x)))
        return self.head(x)


@keras.saving.register_keras_serializable("zoo")
class TupleOutputs(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.trunk = L.Dense(6, activation="relu", name="trunk")
        self.mean = L.Dense(1, name="mean")
        self.spread = L.Dense(1, activation="softplus", name="spread")

    def call(self, x):
        x = self.trunk(x)
        return self.mean(x), self.spread(x)


@keras.saving.register_keras_serializable("zoo")
class OwnWeightsOnly(keras.Model):
    """No sublayer at all: the model itself owns the variables."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 2), initializer="glorot_uniform", name="kernel")

    def call(self, x):
        return ops.softmax(x @ self.kernel)


# -------------------------------------------------------------------------------------------------------- the specimens
@specimen
def functional_cnn(n: int) -> Specimen:
    x = inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 3, padding="same", name="conv")(x)
    x = L.BatchNormalization(name="bn")(x)
    x = L.ReLU(name="relu")(x)
    x = L.MaxPooling2D(name="pool")(x)
    x = L.Dropout(0.5, name="dropout")(x)
    x = L.GlobalAveragePooling2D(name="gap")(x)
    return Specimen(keras.Model(inputs, L.Dense(3, activation="softmax", name="head")(x)), normal(n, 8, 8, 3))


@specimen
def subclassed_private(n: int) -> Specimen:
    model, x = PrivateParts(), normal(n, 4)
    model(x[:1])
    return Specimen(model, x)


@specimen
def subclassed_training_branch(n: int) -> Specimen:
    model, x = TrainingOnlyBranch(), normal(n, 4)
    model(x[:1])
    return Specimen(model, x)


@specimen
def own_weights_only(n: int) -> Specimen:
    model, x = OwnWeightsOnly(name="own_weights_only"), normal(n, 4)
    model(x[:1])
    return Specimen(model, x)


@specimen
def nested_sequential(n: int) -> Specimen:
    encoder = keras.Sequential([keras.Input((6,)), L.Dense(5, activation="tanh", name="inner")], name="encoder")
    blocks = [encoder, keras.Sequential([L.Dense(4, name="inner")], name="neck")]
    model = keras.Sequential([keras.Input((6,)), *blocks, L.Dense(2, activation="softmax", name="head")])
    return Specimen(model, normal(n, 6))


@specimen
def shared_layer(n: int) -> Specimen:
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    shared = L.Dense(3, activation="relu", name="shared")
    joined = L.Concatenate(name="join")([shared(a), shared(b)])
    model = keras.Model([a, b], L.Dense(1, activation="sigmoid", name="head")(joined))
    return Specimen(model, [normal(n, 4), normal(n, 4, seed=2)])


@specimen
def attention(n: int) -> Specimen:
    x = inputs = keras.Input((5, 8))
    a = L.MultiHeadAttention(2, 3, name="mha")(x, x)
    x = L.LayerNormalization(name="norm")(x + a)
    x = L.GlobalAveragePooling1D(name="pool")(x)
    return Specimen(keras.Model(inputs, L.Dense(2, activation="softmax", name="head")(x)), normal(n, 5, 8))


@specimen
def embedding_lstm(n: int) -> Specimen:
    x = inputs = keras.Input((6,), dtype="int32")
    x = L.Embedding(11, 4, mask_zero=True, name="embedding")(x)
    x = L.Bidirectional(L.LSTM(3, name="lstm"), name="both")(x)
    tokens = np.random.default_rng(0).integers(0, 11, (n, 6)).astype("int32")
    return Specimen(keras.Model(inputs, L.Dense(2, activation="softmax", name="head")(x)), tokens)


@specimen
def recurrent_head(n: int) -> Specimen:
    x = inputs = keras.Input((4, 3))
    x = L.GRU(3, return_sequences=True, name="gru")(x)
    return Specimen(keras.Model(inputs, L.LSTM(2, activation="sigmoid", name="head")(x)), normal(n, 4, 3))


@specimen
def convolutions(n: int) -> Specimen:
    x = inputs = keras.Input((8, 8, 3))
    x = L.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = L.SeparableConv2D(4, 3, padding="same", activation="relu", name="separable")(x)
    x = L.Conv2DTranspose(2, 2, strides=2, name="transpose")(x)
    x = L.Flatten(name="flatten")(x)
    return Specimen(keras.Model(inputs, L.Dense(3, name="head")(x)), normal(n, 8, 8, 3))


def _two_in_two_out(a: Any, b: Any) -> tuple[Any, Any]:
    joined = L.Concatenate(name="join")([L.Dense(4, name="left")(a), L.Dense(3, name="right")(b)])
    kind = L.Dense(3, activation="softmax", name="kind")(joined)
    return kind, L.Dense(1, name="size")(joined)


@specimen
def two_in_two_out_list(n: int) -> Specimen:
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    return Specimen(keras.Model([a, b], list(_two_in_two_out(a, b))), [normal(n, 4), normal(n, 2)])


@specimen
def two_in_two_out_dict(n: int) -> Specimen:
    given = {"b": keras.Input((2,), name="b"), "a": keras.Input((4,), name="a")}
    kind, size = _two_in_two_out(given["a"], given["b"])
    model = keras.Model(given, {"the_size": size, "the_kind": kind})
    return Specimen(model, {"b": normal(n, 2), "a": normal(n, 4)})


@specimen
def tuple_outputs(n: int) -> Specimen:
    model, x = TupleOutputs(), normal(n, 4)
    model(x[:1])
    return Specimen(model, x)


@specimen
def mixed_float16(n: int) -> Specimen:
    def dense(units: int, **options: Any) -> Any:
        return L.Dense(units, dtype="mixed_float16", **options)

    layers = [
        keras.Input((4,)),
        dense(5, activation="relu", name="hidden"),
        dense(3, activation="softmax", name="head"),
    ]
    return Specimen(keras.Sequential(layers), normal(n, 4))


@specimen
def quantised_int8(n: int) -> Specimen:
    layers = [
        keras.Input((4,)),
        L.Dense(5, activation="relu", name="hidden"),
        L.Dense(3, activation="softmax", name="head"),
    ]
    model = keras.Sequential(layers)
    model.quantize("int8")
    return Specimen(model, normal(n, 4))


@specimen
def time_distributed(n: int) -> Specimen:
    x = inputs = keras.Input((3, 4))
    x = L.TimeDistributed(L.Dense(5, activation="relu", name="step"), name="steps")(x)
    x = L.Flatten(name="flatten")(x)
    return Specimen(keras.Model(inputs, L.Dense(2, activation="softmax", name="head")(x)), normal(n, 3, 4))


@specimen
def lora(n: int) -> Specimen:
    hidden = L.Dense(5, activation="relu", name="hidden")
    model = keras.Sequential([keras.Input((4,)), hidden, L.Dense(3, activation="softmax", name="head")])
    hidden.enable_lora(2)
    hidden.lora_kernel_b.assign(normal(2, 5))
    return Specimen(model, normal(n, 4))


@specimen
def ops_softmax_head(n: int) -> Specimen:
    inputs = keras.Input((4,))
    logits = L.Dense(3, name="logits")(L.Dense(5, activation="relu", name="hidden")(inputs))
    return Specimen(keras.Model(inputs, ops.softmax(logits)), normal(n, 4))


@specimen
def softmax_layer_head(n: int) -> Specimen:
    layers = [keras.Input((4,)), L.Dense(3, name="logits"), L.Softmax(name="head")]
    return Specimen(keras.Sequential(layers), normal(n, 4))


@specimen
def activation_layer_head(n: int) -> Specimen:
    layers = [
        keras.Input((4,)),
        L.Dense(2, name="logits"),
        L.Activation("sigmoid", name="head"),
        L.Dropout(0.3, name="drop"),
    ]
    return Specimen(keras.Sequential(layers), normal(n, 4))


@specimen
def custom_layer(n: int) -> Specimen:
    layers = [keras.Input((4,)), ScaledShift(name="own"), L.Dense(2, name="head")]
    return Specimen(keras.Sequential(layers), normal(n, 4))


@specimen
def tied_weights(n: int) -> Specimen:
    inputs = keras.Input((4,))
    encoder = L.Dense(3, activation="tanh", name="encoder")
    code = encoder(inputs)
    return Specimen(keras.Model(inputs, Transposed(encoder, name="decoder")(code)), normal(n, 4))


@specimen
def rematerialised(n: int) -> Specimen:
    with keras.RematScope(mode="full"):
        inner = keras.Sequential([keras.Input((5,)), L.Dense(4, name="inner")], name="nested")
        layers = [L.Dense(5, activation="relu", name="hidden"), inner, L.Dense(3, activation="softmax", name="head")]
        model = keras.Sequential([keras.Input((4,)), *layers])
    return Specimen(model, normal(n, 4))


@specimen
def noisy_while_training(n: int) -> Specimen:
    layers = [
        keras.Input((4,)),
        L.GaussianNoise(0.5, name="noise"),
        L.Dense(6, activation="relu", activity_regularizer="l2", kernel_regularizer="l1", name="hidden"),
        L.BatchNormalization(name="bn"),
        L.Dropout(0.4, name="dropout"),
        L.Dense(3, activation="softmax", name="head"),
    ]
    return Specimen(keras.Sequential(layers), normal(n, 4))


FIXED_BATCH = 4


@specimen
def stateful_fixed_batch(n: int) -> Specimen:
    x = inputs = keras.Input(batch_shape=(FIXED_BATCH, 5, 3))
    x = L.GRU(4, stateful=True, name="gru")(x)
    return Specimen(keras.Model(inputs, L.Dense(2, activation="softmax", name="head")(x)), normal(n, 5, 3))


@specimen
def fixed_batch(n: int) -> Specimen:
    x = inputs = keras.Input(batch_shape=(FIXED_BATCH, 5))
    x = ops.reshape(x, (FIXED_BATCH, 5))
    return Specimen(keras.Model(inputs, L.Dense(2, activation="softmax", name="head")(x)), normal(n, 5))
