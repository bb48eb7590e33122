"""What the cells of Keras compute, step by step, and how relevance goes back through one step.

Matrix products have one linear map over ``[x_t, h_{t-1}]`` per gate, so that input, state and bias share as in the
closed form (Arras et al., 2017, doi:10.18653/v1/W17-5221). Sums share by value. Of the product of a gate and a signal
the signal takes all, or by the uniform rule each takes half. Activations hand on what they receive.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import keras

from analyzer.relevance.activating import NONNEGATIVE, name_of
from analyzer.relevance.flow import Tensor
from analyzer.relevance.layers.recurrent_block import Block
from analyzer.relevance.linear import Linear
from analyzer.relevance.public_ops import ops
from analyzer.relevance.rules import STABILISER, Back, stabilised
from analyzer.relevance.visit import Visit


@dataclass(kw_only=True)
class Step:
    """What is known on the way back of a step, or of all of them.

    Attributes:
        cell: The cell.
        backs: Of each block, from relevance to the cotangents of its parts.
        kernels: By block and part.
        maps: Of each block what it kept.
        shares: What the cell set aside.
        uppers: The relevance of each block, filled in by `CellRule.back`.
        lost: What the stabiliser of a sum absorbed, likewise.
    """

    cell: CellRule
    backs: list[Back]
    kernels: list[list[Tensor]]
    maps: list[dict[str, Any]]
    shares: list[Tensor]
    uppers: list[Tensor] = field(default_factory=list)
    lost: Tensor = None

    def through(self, r: Tensor) -> tuple[Tensor, Tensor | None]:
        """The relevance that the next block's output hands on: of its state, and of its gate.

        Args:
            r: Of the output.
        """
        block = len(self.uppers)
        self.uppers.append(r)
        kept, of_state, of_gate = self.maps[block], 0.0, None
        if "values" in kept:
            of_gate = r * kept["own"][0] if kept["own"] else 0.0
        for i, g in enumerate(self.backs[block](r, kept["rule"])):
            gated = g * kept["factors"][i] if "factors" in kept else g
            of_state = of_state + kept["weights"][i] * self.cell.transposed(gated, self.kernels[block][i])
            if "values" in kept:
                of_gate = of_gate + gated * kept["values"][i]
        return of_state, of_gate


class CellRule(ABC):
    """A built-in cell."""

    states = 1
    """How many states it has; the first is its output."""

    def __init__(self, visit: Visit, cell: Any, *, from_zero: bool) -> None:
        """Take over a cell's weights, as float32.

        Args:
            visit: The call of the recurrent layer.
            cell: The cell.
            from_zero: Whether its first states are zeros.
        """
        self.flow, self.cell = visit.flow, cell
        self.to_gate = 0.5 if visit.flow.preset.gates == "uniform" else 0.0
        self.kernel, self.recurrent = _weight(cell.kernel), _weight(cell.recurrent_kernel)
        self.bias = _weight(cell.bias) if cell.use_bias else None
        self.activation = _elementwise(visit, cell.activation)
        self.gate = _elementwise(visit, getattr(cell, "recurrent_activation", None))
        self.nonnegative = from_zero and name_of(self.activation) in NONNEGATIVE
        if getattr(cell, "recurrent_activation", None) is not None:
            self.nonnegative &= name_of(self.gate) in ("sigmoid", "hard_sigmoid")
        self.shares: list[Tensor] = []

    # ---- linear maps
    def product(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Of inputs and kernels."""
        return ops.matmul(x, kernel)

    def recurrent_product(self, h: Tensor, kernel: Tensor) -> Tensor:
        """Of states and kernels."""
        return ops.matmul(h, kernel)

    def transposed(self, r: Tensor, kernel: Tensor) -> Tensor:
        """The pullback of `recurrent_product`."""
        return ops.matmul(r, ops.transpose(kernel))

    def project(self, steps: Tensor) -> Tensor:
        """Of all steps at once: ``x W + b``."""
        z = self.product(steps, self.kernel)
        return z if self.bias is None else z + self.bias

    # ---- what a cell is
    @abstractmethod
    def step(self, projected: Tensor, states: list[Tensor]) -> list[Tensor]:
        """The states after a step."""

    @abstractmethod
    def blocks(self, steps: Tensor, before: list[Tensor]) -> list[Block]:
        """The linear maps that get relevance, for all steps; sets aside in `shares` what `back` needs of each step.

        Args:
            steps: The inputs, live.
            before: The states before each, constants.
        """

    @abstractmethod
    def back(self, arrived: list[Tensor], step: Step) -> list[Tensor]:
        """The relevance of the states before a step.

        Args:
            arrived: Of those after it.
            step: What is known of it; linear maps come in the order of `blocks`.
        """

    # ---- for subclasses
    def _block(self, steps: Tensor, state: Tensor, columns: slice, bias: Tensor | None, **options: Any) -> Block:
        kernel = self.kernel[..., columns]
        linear = Linear(flow=self.flow, x=steps, kernel=kernel, own_bias=None, product=self.product)
        return Block(
            of_input=linear,
            state=state,
            kernel=self.recurrent[..., columns],
            product=self.recurrent_product,
            bias=bias,
            state_nonnegative=self.nonnegative,
            to_gate=self.to_gate,
            **options,
        )

    def _bias_of(self, columns: slice) -> Tensor | None:
        return None if self.bias is None else self.bias[columns]

    def _sum_shares(self, a: Tensor, b: Tensor) -> list[Tensor]:
        """Shares of the two terms of a sum, by the preset's rule."""
        if self.flow.preset.sum == "magnitude":
            a, b = ops.abs(a), ops.abs(b)
        whole = stabilised(a + b, STABILISER)
        return [a / whole, b / whole]


class SimpleRule(CellRule):
    """SimpleRNN: ``h' = act(x W + h U + b)``."""

    def step(self, projected: Tensor, states: list[Tensor]) -> list[Tensor]:
        """All of it."""
        return [self.activation(projected + self.recurrent_product(states[0], self.recurrent))]

    def blocks(self, steps: Tensor, before: list[Tensor]) -> list[Block]:
        """One map."""
        return [self._block(steps, before[0], slice(None), self.bias, activation=name_of(self.activation))]

    def back(self, arrived: list[Tensor], step: Step) -> list[Tensor]:
        """Through the map."""
        step.lost = ops.zeros_like(arrived[0])
        return [step.through(arrived[0])[0]]


class LstmRule(CellRule):
    """LSTM: ``c' = f c + i g``, ``h' = o act(c')``."""

    states = 2

    def _gates(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        i, f, g, o = ops.split(z, 4, axis=-1)
        return self.gate(i), self.gate(f), self.activation(g), self.gate(o)

    def step(self, projected: Tensor, states: list[Tensor]) -> list[Tensor]:
        """Output and carry."""
        h, c = states
        i, f, g, o = self._gates(projected + self.recurrent_product(h, self.recurrent))
        c = f * c + i * g
        return [o * self.activation(c), c]

    def blocks(self, steps: Tensor, before: list[Tensor]) -> list[Block]:
        """One map for all gates, or for the candidate alone where gates get nothing."""
        h, c = before
        z = self.project(ops.stop_gradient(steps)) + self.recurrent_product(h, self.recurrent)
        i, f, g, _ = self._gates(z)
        self.shares = self._sum_shares(f * c, i * g)
        units = z.shape[-1] // 4
        if self.to_gate:
            return [self._block(steps, h, slice(None), self.bias)]
        columns = slice(2 * units, 3 * units)
        return [self._block(steps, h, columns, self._bias_of(columns), activation=name_of(self.activation))]

    def back(self, arrived: list[Tensor], step: Step) -> list[Tensor]:
        """From the output to the carry, from its two terms on to the gates and the carry before."""
        to_gate, to_signal = self.to_gate, 1 - self.to_gate
        output, cell = arrived
        cell = cell + to_signal * output
        kept, new = step.shares[0] * cell, step.shares[1] * cell
        step.lost = cell - kept - new
        upper = new
        if to_gate:
            upper = ops.concatenate([to_gate * new, to_gate * kept, to_signal * new, to_gate * output], axis=-1)
        return [step.through(upper)[0], to_signal * kept]


class GruRule(CellRule):
    """GRU: ``h' = z h + (1 - z) g``, with the reset gate after or before the recurrent product of ``g``."""

    def __init__(self, visit: Visit, cell: Any, *, from_zero: bool) -> None:
        super().__init__(visit, cell, from_zero=from_zero)
        self.recurrent_bias: Tensor | None = None
        if self.bias is not None and cell.reset_after:
            self.bias, self.recurrent_bias = self.bias[0], self.bias[1]

    def _values(self, projected: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Update gate, reset gate and candidate."""
        units = projected.shape[-1] // 3
        after = self.cell.reset_after
        inner = self.recurrent_product(h, self.recurrent if after else self.recurrent[..., : 2 * units])
        if self.recurrent_bias is not None:
            inner = inner + self.recurrent_bias
        gates = self.gate(projected[..., : 2 * units] + inner[..., : 2 * units])
        update, reset = gates[..., :units], gates[..., units:]
        if after:
            inner = reset * inner[..., 2 * units :]
        else:
            inner = self.recurrent_product(reset * h, self.recurrent[..., 2 * units :])
        return update, reset, self.activation(projected[..., 2 * units :] + inner)

    def step(self, projected: Tensor, states: list[Tensor]) -> list[Tensor]:
        """The output."""
        update, _, g = self._values(projected, states[0])
        return [update * states[0] + (1 - update) * g]

    def blocks(self, steps: Tensor, before: list[Tensor]) -> list[Block]:
        """The candidate's map, and that of both gates where they get something."""
        h, projected = before[0], self.project(ops.stop_gradient(steps))
        units = projected.shape[-1] // 3
        update, reset, g = self._values(projected, h)
        self.shares = self._sum_shares(update * h, (1 - update) * g)
        first, last = slice(0, 2 * units), slice(2 * units, None)
        bias, inner = self._bias_of(last), None if self.recurrent_bias is None else self.recurrent_bias[last]
        options: dict[str, Any] = {"activation": name_of(self.activation)}
        if self.cell.reset_after:
            bias = bias if inner is None else bias + reset * inner
            candidate = self._block(steps, h, last, bias, factor=reset, inner_bias=inner, **options)
        else:
            candidate = self._block(steps, reset * h, last, bias, **options)
        if not self.to_gate:
            return [candidate]
        bias = self._bias_of(first)
        bias = bias if self.recurrent_bias is None else bias + self.recurrent_bias[first]
        return [candidate, self._block(steps, h, first, bias, activation=name_of(self.gate))]

    def back(self, arrived: list[Tensor], step: Step) -> list[Tensor]:
        """From the output's two terms to the state before, the candidate, and on to both gates."""
        to_gate, to_signal = self.to_gate, 1 - self.to_gate
        kept, new = step.shares[0] * arrived[0], step.shares[1] * arrived[0]
        step.lost = arrived[0] - kept - new
        # Of a product with the reset gate: by state where the gate comes before the kernel, by output where after.
        inner, of_outputs = step.through(to_signal * new)
        before = to_signal * (kept + inner)
        if not to_gate:
            return [before]
        reset = to_gate * (inner if of_outputs is None else of_outputs)
        gates = ops.concatenate([to_gate * (kept + new), reset], axis=-1)
        return [before + step.through(gates)[0]]


def _weight(variable: Any) -> Tensor:
    return ops.stop_gradient(ops.cast(ops.convert_to_tensor(variable), "float32"))


def _elementwise(visit: Visit, activation: Any) -> Any:
    if name_of(activation) in ("softmax", "log_softmax", "sparsemax", "glu"):
        raise visit.refuse(
            f"its activation {name_of(activation)!r} mixes units, and relevance goes back in time unit by unit; give "
            "the layer a rule of its own with @register_rule."
        )
    return activation if activation is not None else keras.activations.linear
