"""The nets of `nets.py` as `torch.nn` modules with the same weights, written as each library needs them.

zennit and captum see modules only: sums are a `Sum` module of the library, never `+`, and every ReLU is a module.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.nets import BLOCKS, CLASSES, HEADS, WIDTH, Net

FOLDED = (keras.layers.Conv2D, keras.layers.BatchNormalization)
PAIRS = (
    (nn.Conv2d, keras.layers.Conv2D),
    (nn.BatchNorm2d, keras.layers.BatchNormalization),
    (nn.LayerNorm, keras.layers.LayerNormalization),
    (nn.Linear, (keras.layers.Dense, keras.layers.EinsumDense)),
)


class Plus(nn.Module):
    """A sum of two tensors, for who has no module of their own for it."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:  # noqa: D102
        return a + b


class StackedSum(nn.Module):
    """A sum as a library that takes one tensor sees it: the operands stacked on a last axis."""

    def __init__(self, summing: nn.Module) -> None:
        super().__init__()
        self.summing = summing

    def forward(self, a: Tensor, b: Tensor) -> Tensor:  # noqa: D102
        return self.summing(torch.stack([a, b], -1))


class Residual(nn.Module):
    """``relu(f(x) + shortcut(x))`` of a ResNet-18."""

    def __init__(self, before: int, filters: int, stride: int, summing: Callable[[], nn.Module]) -> None:
        super().__init__()
        branch = [
            *_normalised(before, filters, 3, stride), nn.ReLU(), *_normalised(filters, filters, 3, 1),
        ]  # fmt: skip
        self.branch = nn.Sequential(*branch)
        self.shortcut = nn.Sequential(*_normalised(before, filters, 1, stride)) if stride > 1 else None
        self.summing, self.relu = summing(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.relu(self.summing(x if self.shortcut is None else self.shortcut(x), self.branch(x)))


class Block(nn.Module):
    """One pre-norm transformer block; its four attributes below it can be exchanged for a library's rules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.act, self.plus, self.attend = nn.GELU(), Plus(), Attend()

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        y = self.first(x)
        q, k, v = (
            f(y).unflatten(-1, (HEADS, WIDTH // HEADS)).transpose(1, 2) for f in (self.q, self.k, self.v)
        )  # fmt: skip
        y = self.attend(q, k, v).transpose(1, 2).flatten(2)
        x = self.plus(x, self.o(y))
        return self.plus(x, self.down(self.act(self.up(self.second(x)))))


class Attend(nn.Module):
    """PyTorch's own attention."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # noqa: D102
        return functional.scaled_dot_product_attention(q, k, v)


class TokenMean(nn.Module):
    """The mean over tokens."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return x.mean(1)


def build(name: str, summing: Callable[[], nn.Module] = Plus) -> nn.Sequential:
    """The net of that name with random weights, in evaluation mode."""
    if name == "mlp":
        parts = [nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, CLASSES)]
    elif name == "cnn":
        parts, before = [], 3
        for filters in (32, 64, 128):
            conv = nn.Conv2d(before, filters, 3, padding=1)
            parts += [conv, nn.BatchNorm2d(filters, eps=1e-3), nn.ReLU(), nn.MaxPool2d(2)]
            before = filters
        parts += [nn.Flatten(), nn.Linear(128 * 4 * 4, CLASSES)]
    elif name == "resnet18":
        parts, before = [*_normalised(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 64
        for filters, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
            parts.append(Residual(before, filters, stride, summing))
            before = filters
        parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, CLASSES)]
    else:
        parts = [*(Block() for _ in range(BLOCKS)), nn.LayerNorm(WIDTH), TokenMean(), nn.Linear(WIDTH, CLASSES)]
    return nn.Sequential(*parts).eval().requires_grad_(False)


def copied(net: Net, model: keras.Model, summing: Callable[[], nn.Module] = Plus) -> nn.Sequential:
    """The net as `torch.nn` with the weights of the Keras model; equal logits are asserted to 1e-4 of their scale."""
    module = build(net.name, summing)
    layers = _leaves(model)
    with torch.no_grad():
        for theirs, ours in PAIRS:
            targets = [m for m in _in_order(module) if isinstance(m, theirs)]
            sources = [layer for layer in layers if isinstance(layer, ours)]
            for target, source in zip(targets, sources, strict=True):
                _copy(target, source, flattened=net.name == "cnn")
    x = net.inputs()
    expected = keras.ops.convert_to_numpy(model(x, training=False))
    got = module(torch.tensor(as_torch(x))).numpy()
    gap = float(np.abs(got - expected).max() / np.abs(expected).max())
    assert gap <= 1e-4, f"{net.name}: the torch copy's logits differ by {gap:.1e} of their scale"
    return module


def as_torch(x: np.ndarray) -> np.ndarray:
    """Images channels first; anything else as it is."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def _normalised(before: int, filters: int, size: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(before, filters, size, stride, size // 2, bias=False), nn.BatchNorm2d(filters)


def _in_order(module: nn.Module) -> list[nn.Module]:
    # In the order in which the layers were made on the Keras side.
    found: list[nn.Module] = []
    for child in module.children():
        if isinstance(child, Block):
            b = child
            found += [b.first, b.q, b.k, b.v, b.o, b.second, b.up, b.down]
        else:
            found += _in_order(child) if list(child.children()) else [child]
    return found


def _leaves(model: keras.Model) -> list[keras.Layer]:
    # A model lists its layers by depth, which mixes a shortcut into its branch; automatic names count as they are made.
    found: list[keras.Layer] = []
    for layer in sorted(model.layers, key=lambda layer: _count(layer) if isinstance(layer, FOLDED) else 0):
        if isinstance(layer, keras.layers.MultiHeadAttention):
            found += [layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense]
        else:
            found.append(layer)
    return found


def _count(layer: keras.Layer) -> int:
    digits = layer.name.rsplit("_", 1)[-1]
    return int(digits) if digits.isdigit() else 0


def _copy(target: nn.Module, layer: keras.Layer, *, flattened: bool) -> None:
    values = {w.path.rsplit("/", 1)[-1]: keras.ops.convert_to_numpy(w) for w in layer.weights}
    if isinstance(target, nn.BatchNorm2d):
        target.running_mean.copy_(torch.tensor(values["moving_mean"]))
        target.running_var.copy_(torch.tensor(values["moving_variance"]))
    if isinstance(target, nn.BatchNorm2d | nn.LayerNorm):
        target.weight.copy_(torch.tensor(values["gamma"]))
        target.bias.copy_(torch.tensor(values["beta"]))
        return
    kernel = values["kernel"]
    if isinstance(target, nn.Conv2d):
        kernel = kernel.transpose(3, 2, 0, 1)
    else:
        if flattened:
            kernel = kernel.reshape(4, 4, 128, -1).transpose(2, 0, 1, 3)
        kernel = kernel.reshape(target.in_features, target.out_features).T
    target.weight.copy_(torch.tensor(np.ascontiguousarray(kernel)))
    if target.bias is not None:
        target.bias.copy_(torch.tensor(values["bias"].reshape(-1)))
