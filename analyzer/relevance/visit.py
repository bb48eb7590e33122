"""`Visit`: what a rule for a layer can do with one call of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from analyzer.errors import Unsupported
from analyzer.relevance.flow import Flow, Record, Tensor
from analyzer.relevance.linear import Linear, Scaling
from analyzer.relevance.public_ops import ops
from analyzer.relevance.rules import STABILISER, Rule, stabilised

Activation = Callable[..., Any]

_PIECEWISE = ("linear", "relu", "leaky_relu")
"""Activations whose plain gradient already is the identity rule: straight lines through the origin."""

_NONNEGATIVE = ("relu", "relu6", "sigmoid", "softmax", "softplus", "hard_sigmoid", "exponential", "sparsemax", "exp")

_GATES = ("sigmoid", "softmax", "hard_sigmoid", "sparsemax")


@dataclass(kw_only=True)
class Visit:
    """One call of one place in a traced pass.

    Attributes:
        flow: The pass.
        layer: The layer or operation.
        record: What is noted of the call.
        call: What the place computes by itself.
        cut: Whether its activation is left out, so that logits come out of the model.
    """

    flow: Flow
    layer: Any
    record: Record
    call: Callable[..., Any]
    cut: bool = False

    # ---- the edges: where relevance is counted
    def enter(self, t: Tensor) -> Tensor:
        """A tensor on its way into this call; what flows back along this edge is the call's ``relevance_out``."""
        if not keras.ops.is_tensor(t):
            return t
        self.record.input_shapes.append(tuple(t.shape))
        if not self.flow.depends(t):
            return t
        if not self.flow.options.ledger:
            return t
        return self.flow.like(self._book(t, {"relevance_out": t}), t)

    def leave(self, t: Tensor) -> Tensor:
        """A tensor that this call hands on; what arrives at it is the call's ``relevance_in``."""
        if not keras.ops.is_tensor(t):
            return t
        self.record.output_shapes.append(tuple(t.shape))
        if not self.flow.depends(t):
            return t
        noted = t
        if self.flow.options.ledger:
            t = self._book(t, {"relevance_in": t})
        if self.record.id in self.flow.options.maps:
            name = str(len(self.record.output_shapes) - 1)
            slot = self.flow.slot("map", self.record.number, tuple(t.shape), name=name)
            self.flow.values[_last(self.flow)] = t
            t = self.flow.backend.observe(t, slot)
        return self.flow.like(t, noted)

    def absorb(self, t: Tensor, column: str, amount: Tensor) -> Tensor:
        """Book ``amount * cotangent``, summed per sample, in a column of the ledger.

        Args:
            t: The tensor whose cotangent is meant.
            column: ``"absorbed_by_bias"``, ``"absorbed_by_softmax"`` or ``"absorbed_by_stabiliser"``.
            amount: Broadcasts to ``t``.
        """
        if not self.flow.options.ledger or not self.flow.depends(t):
            return t
        return self.flow.like(self._book(t, {column: amount}), t)

    def constant(self, t: Tensor) -> Tensor:
        """A term that does not depend on the input, as one that books what it absorbs like a bias."""
        if not self.flow.options.ledger or not keras.ops.is_tensor(t) or self.flow.depends(t):
            return t
        return self._book(t, {"absorbed_by_bias": t})

    def _book(self, t: Tensor, amounts: dict[str, Tensor]) -> Tensor:
        # Terms that every sample shares (weights, positions) come without an axis of samples: theirs is one sum.
        flow, number = self.flow, self.record.number
        rows = int(t.shape[0]) if len(t.shape) else 1
        slots = [flow.slot(column, number, (rows,), name=str(len(flow.wanted))) for column in amounts]
        whole = t if len(t.shape) else ops.reshape(t, (1,))
        booked = flow.backend.book(whole, [ops.cast(a, t.dtype) for a in amounts.values()], slots)
        return booked if len(t.shape) else ops.reshape(booked, ())

    # ---- rules
    def natural(self, *args: Any, nonnegative: bool | None = None, **kwargs: Any) -> Any:
        """Run the call; its own gradient is the rule: sums, reshapes, maxima.

        Args:
            *args: What the place was called with.
            nonnegative: Whether no result is negative; None if that is so when no input is.
            **kwargs: Likewise.
        """
        found: list[Tensor] = []

        def enter(t: Any) -> Any:
            if not keras.ops.is_tensor(t) or not _floats(t):
                return t
            found.append(t)
            return self.enter(t) if self.flow.depends(t) else self.constant(t)

        args, kwargs = keras.tree.map_structure(enter, (list(args), kwargs))
        result = self.call(*args, **kwargs)
        known = nonnegative if nonnegative is not None else all(self.flow.is_nonnegative(t) for t in found)
        return keras.tree.map_structure(lambda t: self.leave(self._marked(t, known)), result)

    def _marked(self, t: Any, nonnegative: bool) -> Any:
        return self.flow.mark(t, nonnegative=nonnegative) if nonnegative and keras.ops.is_tensor(t) else t

    def identity(self, x: Tensor, y: Tensor) -> Tensor:
        """``y``, whose relevance goes to ``x`` at the same position: for element-wise functions.

        Args:
            x: What went in.
            y: What came out, in the same shape.
        """
        below = stabilised(ops.stop_gradient(x), STABILISER)
        share = 1 / below
        y = self.flow.backend.bind(y, [x], [share])
        return self.absorb(y, "absorbed_by_stabiliser", ops.stop_gradient(y) * (below - x) * share)

    def activate(self, z: Tensor, activation: Activation | None) -> Tensor:
        """The result of an activation function, by the identity rule; a softmax has a rule of its own."""
        name = (
            "linear" if self.cut or activation is None else getattr(activation, "__name__", type(activation).__name__)
        )
        if name == "linear":
            return z
        if name in ("softmax", "log_softmax"):
            y = self.softmax(z, activation)
        elif name in _PIECEWISE:
            y = activation(z)  # type: ignore[misc]
        else:
            y = self.identity(z, activation(ops.stop_gradient(z)))  # type: ignore[misc]
        return self.flow.mark(y, nonnegative=name in _NONNEGATIVE, gate=name in _GATES)

    def softmax(self, z: Tensor, softmax: Activation | None = None, axis: int = -1) -> Tensor:
        """The softmax rule of AttnLRP: the plain gradient, ``R_i = x_i (R_i - s_i sum R)`` (Achtibat et al., 2024)."""
        self.record.rule.append("softmax")
        y = ops.softmax(z, axis=axis) if softmax is None else softmax(z)
        # Of the cotangent g, g_i y_i arrives at i and z_i y_i (g_i - sum_k g_k y_k) goes on. Summed over i, what is left is
        # the sum of g_i times the following; masked positions, whose z is no number worth multiplying, have y = 0.
        still, weights = ops.stop_gradient(z), ops.stop_gradient(y)
        seen = ops.where(weights > 0, still * weights, 0)
        mean = ops.sum(seen, axis=axis, keepdims=True)
        return self.absorb(y, "absorbed_by_softmax", weights - (seen - weights * mean))

    def product(self, a: Tensor, b: Tensor, y: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The product of two tensors by the preset's rule.

        Args:
            a: A factor.
            b: The other.
            y: Computes their (bilinear) product.
        """
        stop = ops.stop_gradient
        first, second = self.flow.depends(a), self.flow.depends(b)
        if first and second:
            if self.flow.preset.product == "signal" and self.flow.is_gate(a) != self.flow.is_gate(b):
                self.record.rule.append("signal")
                made = y(stop(a), b) if self.flow.is_gate(a) else y(a, stop(b))
            else:
                self.record.rule.append("uniform")
                made = self.halved(a, b, y)
        else:
            made = y(a, b)
        both = self.flow.is_nonnegative(a) and self.flow.is_nonnegative(b)
        return self.flow.mark(made, nonnegative=both)

    def halved(self, a: Tensor, b: Tensor, y: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """A bilinear product that gives half of its relevance to each factor."""
        made = y(a, b)
        return (made + ops.stop_gradient(made)) / 2

    def normalised(self, x: Tensor, inverse: Tensor) -> Tensor:
        """``x * inverse`` with the inverse of a norm taken as a constant, so that relevance is not swallowed."""
        return x * ops.stop_gradient(inverse)

    def affine(self, x: Tensor, scale: Tensor | None, offset: Tensor | None) -> Tensor:
        """``x * scale + offset``; the offset absorbs like a bias."""
        y = x if scale is None else x * scale
        if offset is None:
            return y
        y = y + offset
        return self.absorb(y, "absorbed_by_bias", offset)

    def linear(
        self,
        x: Tensor,
        kernel: Tensor,
        bias: Tensor | None,
        product: Callable[[Tensor, Tensor], Tensor],
        *,
        rule: Rule,
        scaling: Scaling | None = None,
        value: Tensor | None = None,
    ) -> Tensor:
        """``product(x, kernel) + bias`` by a rule.

        Args:
            x: What goes in, already entered.
            kernel: The weights.
            bias: In a shape that broadcasts to the output, or None.
            product: A function linear in both.
            rule: How relevance is spread.
            scaling: How a factor per output channel is put into the kernel, if a normalisation that follows can be
                folded in.
            value: What the layer itself computes, where that differs (quantised layers); None for the product.
        """
        if not self.flow.depends(x):
            y = product(x, kernel) if value is None else value
            return y if bias is None or value is not None else y + bias
        terms = Linear(flow=self.flow, x=x, kernel=kernel, own_bias=bias, product=product, scaling=scaling, value=value)
        if scaling is not None and self.record.id in self.flow.options.foldable:
            y = terms.total()
            self.flow.folded[id(self.flow.keep(y))] = (self, terms, rule)
            return y
        return self.spread(terms, rule)

    def is_pending(self, z: Tensor) -> bool:
        """Whether the relevance of a linear layer's output is spread by the normalisation that follows it."""
        return id(z) in self.flow.folded

    def spread(self, terms: Linear, rule: Rule) -> Tensor:
        """The output of a linear layer, its relevance spread by a rule."""
        self.record.rule.append(describe(rule))
        spread = rule.spread(terms)
        y = terms.total()
        parts, shares = zip(*spread.parts, strict=True)
        bound = self.flow.backend.bind(y, list(parts), list(shares))
        if self.flow.options.ledger:
            for column, share in (("absorbed_by_bias", spread.bias), ("absorbed_by_stabiliser", spread.stabiliser)):
                if share is not None:
                    bound = self.absorb(bound, column, ops.stop_gradient(y) * share)
        return bound

    def refuse(self, why: str) -> Unsupported:
        """The error that says that there is no rule for this call."""
        return Unsupported(f"{self.record.id!r} ({self.record.kind}): {why}")


def describe(rule: Rule) -> str:
    """A rule with the options that are not as always."""
    return repr(rule)


def _floats(t: Tensor) -> bool:
    return bool(keras.backend.is_float_dtype(keras.backend.standardize_dtype(t.dtype)))


def _last(flow: Flow) -> Any:
    return next(reversed(flow.wanted))


def entered(visit: Visit, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Several tensors on their way in."""
    return [visit.enter(t) for t in tensors]
