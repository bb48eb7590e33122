"""`Visit`: what a rule for a layer can do with one call of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from analyzer.errors import Unsupported
from analyzer.relevance.activating import Activation, activated, softmax
from analyzer.relevance.flow import Flow, Record, Tensor, is_float
from analyzer.relevance.linear import Linear, Scaling
from analyzer.relevance.public_ops import ops
from analyzer.relevance.registry import operation_name
from analyzer.relevance.rules import STABILISER, Rule, stabilised


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

    @property
    def operation(self) -> str:
        """The name of an operation in `keras.ops`, as a place of a Functional model or called by user code."""
        return self.record.kind if self.layer is None else operation_name(self.layer)

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
        return self._followed(self.flow.like(self._book(t, {"relevance_out": t}), t), "relevance_out")

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
        return self._followed(self.flow.like(t, noted), "relevance_in")

    def follow(self, t: Tensor, shadow: Tensor, kept: Tensor | None = None) -> Tensor:
        """Give what this call hands on a shadow; see `Flow.shadow`.

        Args:
            t: What is handed on, already left.
            shadow: Zeros of its shape that the input's own shadow was made into.
            kept: Share of the relevance at each position that goes on to the input (padding keeps none); None for all.
        """
        if kept is not None and self.flow.options.ledger:
            shadow = self._book(shadow, {"absorbed_by_stabiliser": 1 - kept})
        return self._followed(self.flow.mark(t, shadow=shadow), "relevance_in")

    def _followed(self, t: Tensor, column: str) -> Tensor:
        """Books what flows through the shadow of a tensor; there it is relevance itself."""
        shadow = self.flow.shadow(t)
        return t if shadow is None else self.flow.mark(t, shadow=self.booked_shadow(shadow, column))

    def booked_shadow(self, shadow: Tensor, column: str) -> Tensor:
        """A shadow, what flows through it booked in a column."""
        return self._book(shadow, {column: ops.ones_like(shadow)}) if self.flow.options.ledger else shadow

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
        self.record.shared = True
        return self.flow.like(self._book(t, {"absorbed_by_bias": t}), t)

    def _book(self, t: Tensor, amounts: dict[str, Tensor]) -> Tensor:
        # Terms that every sample shares (weights, positions) come without an axis of samples: theirs is one sum.
        flow, number = self.flow, self.record.number
        rows = int(t.shape[0]) if len(t.shape) else 1
        self.record.shared |= rows != flow.sources[0].shape[0]
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
            if not keras.ops.is_tensor(t) or not is_float(t):
                return t
            found.append(t)
            return self.enter(t) if self.flow.depends(t) else self.constant(t)

        args, kwargs = keras.tree.map_structure(enter, (list(args), kwargs))
        result = self.call(*args, **kwargs)
        # A number among the arguments may be a value (of where, of padding) as well as an axis: only the sign is known.
        signs = all(self.flow.is_nonnegative(t) for t in found) and not _has_negative((args, kwargs))
        known = signs if nonnegative is None else nonnegative
        return keras.tree.map_structure(lambda t: self.leave(self._marked(t, known)), result)

    def _marked(self, t: Any, nonnegative: bool) -> Any:
        return self.flow.mark(t, nonnegative=nonnegative) if nonnegative and keras.ops.is_tensor(t) else t

    def identity(self, x: Tensor, y: Tensor) -> Tensor:
        """``y``, whose relevance goes to ``x`` at the same position: for element-wise functions.

        Args:
            x: What went in.
            y: What came out, in the same shape.
        """
        y = self.flow.backend.bind(y, [x], [ops.stop_gradient(x)], _by_position)
        if not self.flow.options.ledger:
            return y
        below = stabilised(ops.stop_gradient(x), STABILISER)
        return self.absorb(y, "absorbed_by_stabiliser", ops.stop_gradient(y) * (below - ops.stop_gradient(x)) / below)

    def activate(self, z: Tensor, activation: Activation | None, axis: Any = -1) -> Tensor:
        """The result of an activation by its rule; see `analyzer.relevance.activating.activated`."""
        return z if self.cut else activated(self, z, activation, axis)

    def softmax(self, z: Tensor, function: Activation | None = None, axis: Any = -1) -> Tensor:
        """The softmax rule of AttnLRP; see `analyzer.relevance.activating.softmax`."""
        return softmax(self, z, function, axis)

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
        activation: str = "linear",
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
            activation: Name of the layer's own activation, which some rules look at.
        """
        if not self.flow.depends(x):
            y = product(x, kernel) if value is None else value
            return y if bias is None or value is not None else y + bias
        terms = Linear(
            flow=self.flow,
            x=x,
            kernel=kernel,
            own_bias=bias,
            product=product,
            scaling=scaling,
            value=value,
            activation=activation,
        )
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
        if spread.epsilon is None or terms.value is not None:
            bound = self.flow.backend.bind(y, spread.parts, spread.kept, spread.back)
        else:
            bound = self.flow.backend.bind_value(y, spread.parts[0], spread.epsilon)
        if self.flow.options.ledger:
            absorbed = spread.absorbed(spread.kept)
            for column, share in zip(("absorbed_by_bias", "absorbed_by_stabiliser"), absorbed, strict=True):
                if share is not None:
                    bound = self.absorb(bound, column, ops.stop_gradient(y) * share)
        return bound

    def refuse(self, why: str) -> Unsupported:
        """The error that says that there is no rule for this call."""
        return Unsupported(f"{self.record.id!r} ({self.record.kind}): {why}")


def describe(rule: Rule) -> str:
    """A rule with those of its options that are not as always."""
    changed = [f for f in dataclasses.fields(rule) if getattr(rule, f.name) != f.default]
    options = ", ".join(f"{f.name}={getattr(rule, f.name)!r}" for f in changed)
    return f"{type(rule).__name__}({options})"


def _has_negative(arguments: Any) -> bool:
    numbers = [one for one in keras.tree.flatten(arguments) if isinstance(one, int | float)]
    return any(one < 0 for one in numbers)


def _by_position(relevance: Tensor, kept: list[Tensor]) -> list[Tensor]:
    return [relevance / stabilised(kept[0], STABILISER)]


def _last(flow: Flow) -> Any:
    return next(reversed(flow.wanted))
