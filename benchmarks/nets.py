"""The four nets that prices of relevance are quoted on: an MLP, a CNN, a ResNet-18 and a transformer encoder, in Keras.

`peer_nets.py` builds the same four as `torch.nn` modules with these weights, for the libraries that read nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

CLASSES = 10
WIDTH, HEADS, TOKENS, BLOCKS = 256, 4, 128, 4
"""Of the encoder: channels, heads, sequence length and layers."""


@dataclass(frozen=True)
class Net:
    """One net to measure on: how it is built, and what goes in."""

    name: str
    build: Callable[[], keras.Model]
    shape: tuple[int, ...]
    batch: int

    def model(self) -> keras.Model:
        """The net with seeded weights; biases and running statistics are drawn too, so that no term is zero."""
        keras.utils.set_random_seed(0)
        model = self.build()
        rng = np.random.default_rng(1)
        for variable in model.weights:
            kind = variable.path.rsplit("/", 1)[-1]
            if kind in ("bias", "beta", "moving_mean"):
                variable.assign(rng.normal(0, 0.1, variable.shape).astype("float32"))
            elif kind in ("gamma", "moving_variance"):
                variable.assign(rng.uniform(0.5, 1.5, variable.shape).astype("float32"))
        return model

    def inputs(self, seed: int = 0) -> NDArray[np.float32]:
        """Standard normal inputs, of both signs: ``(batch, *shape)``."""
        return np.random.default_rng(seed).normal(size=(self.batch, *self.shape)).astype(np.float32)


def mlp() -> keras.Model:
    """784-512-256-10 with ReLU."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(512, activation="relu"),
            layers.Dense(256, activation="relu"),
            layers.Dense(CLASSES),
        ]
    )


def cnn() -> keras.Model:
    """Three blocks of convolution, batch normalisation, ReLU and max-pooling, and a dense layer; 32×32×3."""
    x = inputs = keras.Input((32, 32, 3))
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


def resnet() -> keras.Model:
    """ResNet-18 (He et al., 2016) on 64×64×3, with its sums written `x + f(x)`."""
    inputs = keras.Input((64, 64, 3))
    x = _normalised(inputs, 64, 7, 2)
    x = layers.ReLU()(x)
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for filters, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        branch = layers.ReLU()(_normalised(x, filters, 3, stride))
        branch = _normalised(branch, filters, 3, 1)
        if stride > 1:
            x = _normalised(x, filters, 1, stride)
        x = layers.ReLU()(x + branch)
    return keras.Model(inputs, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def encoder() -> keras.Model:
    """Four pre-norm transformer blocks (256 wide, 4 heads, GELU) on 128 embedded tokens, averaged and classified."""
    x = inputs = keras.Input((TOKENS, WIDTH))
    for _ in range(BLOCKS):
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        x = x + layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(y, y)
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = layers.Dense(4 * WIDTH)(y)
        y = layers.Activation(_gelu)(y)
        x = x + layers.Dense(WIDTH)(y)
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(x)))


def _gelu(x: keras.KerasTensor) -> keras.KerasTensor:
    return keras.activations.gelu(x, approximate=False)


def _normalised(x: keras.KerasTensor, filters: int, size: int, stride: int) -> keras.KerasTensor:
    # Padded by hand: "same" with a stride pads on other sides than PyTorch does.
    if size > 1:
        x = layers.ZeroPadding2D(size // 2)(x) if stride > 1 else x
    padding = "same" if stride == 1 else "valid"
    x = layers.Conv2D(filters, size, stride, padding=padding, use_bias=False)(x)
    return layers.BatchNormalization(epsilon=1e-5)(x)


NETS = (
    Net("mlp", mlp, (784,), 64),
    Net("cnn", cnn, (32, 32, 3), 16),
    Net("resnet18", resnet, (64, 64, 3), 4),
    Net("encoder", encoder, (TOKENS, WIDTH), 2),
)
