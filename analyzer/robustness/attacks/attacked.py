"""`Attacked`: a model as attacks see it, logits of inputs that lie between 0 and 1.

A model whose layers draw from a `keras.random.SeedGenerator` at inference is random: every call of a program gives
those generators another state, the same on every backend for the same calls. Randomness from elsewhere (Keras' global
generator, the framework's, NumPy's) cannot be told from a fixed function once a program is compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine, relevance_ops
from analyzer.data_types.outputs import OutputTask
from analyzer.errors import ConfigError
from analyzer.inspection import compat
from analyzer.inspection.batching import in_batches
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.logits import logits_out
from analyzer.inspection.view import ModelView
from analyzer.measures.random_streams import stream
from analyzer.robustness.attacks.attackable import check_attackable, check_samples
from analyzer.robustness.attacks.losses import margin
from analyzer.robustness.attacks.threat import Box, box_of

Tensor = Any
Array = NDArray[Any]

_GENERATOR = "seed_generator_state"
"""What Keras calls the state of a `SeedGenerator`: two whole numbers, of which every draw raises the second by one."""
_STATES = 2**30
"""States are below, which all backends' types of them hold together with what draws add."""
_STRIDE = 100_003
"""How far apart the states of two draws are: more than a forward pass draws."""


@dataclass(kw_only=True, eq=False)
class Attacked:
    """The logits of a classifier, as a pure function that programs are made of.

    Attributes:
        view: The opened model, of one float input and one output with a row of classes (or one logit) per sample.
        box: Bounds of the inputs; attacks see them as 0 and 1.
        batch_size: Most samples per batch.
        task: What the output predicts; None for what loss and last activation tell.
        draws: How many evaluations of a random model are averaged: logits and gradients, the expectation over
            transformations of Athalye et al. (2018, arXiv 1707.07397). Others are evaluated once.
        seed: Of what random models draw.

    Raises:
        Unsupported: If the model cannot be attacked, see `check_attackable`.
        ConfigError: If there are no draws.
    """

    view: ModelView
    box: Box
    batch_size: int = 128
    task: OutputTask | None = None
    draws: int = 1
    seed: int = 0
    _programs: dict[Any, Callable[..., Any]] = field(default_factory=dict, repr=False)
    _random: set[int] = field(default_factory=set, repr=False)
    _calls: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        check_attackable(self.view, self.task)
        if self.draws < 1:
            raise ConfigError(f"draws={self.draws}: expected 1 or more.")
        state = self.view.state
        self._values = [engine().stop_gradient(keras.ops.convert_to_tensor(v.value)) for v in state]
        self._generators = [i for i, v in enumerate(state) if v.name == _GENERATOR]

    @property
    def n_classes(self) -> int:
        """How many classes the model tells apart."""
        width = self.view.heads[0].shape[-1]
        return 2 if width == 1 else int(width or 0)

    def logits(self, values: list[Tensor], u: Tensor) -> Tensor:
        """Logits ``(n, classes)``, of a random model their mean; a single logit becomes two, the first of them 0.

        Args:
            values: Those of the model's variables.
            u: Inputs from 0 to 1.
        """
        return self._averaged(values, lambda values: [self._once(values, u)])[0]

    def slope(self, values: list[Tensor], u: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, a loss of them and its gradient with respect to the inputs: one pass forward and one back.

        Of a random model, means of each over its draws: the gradient is that of the mean loss.

        Args:
            values: Those of the model's variables.
            u: Inputs from 0 to 1, ``(n, ...)``.
            loss: From logits to one number per sample.

        Returns:
            ``(n, classes)``, ``(n,)`` and ``(n, ...)``; nothing is differentiated through them.
        """

        def once(values: list[Tensor]) -> list[Tensor]:
            z, pullback = engine().vjp(lambda u: self._once(values, u), u)
            z = engine().stop_gradient(z)
            reached, back = engine().vjp(loss, z)
            return [z, reached, pullback(back(keras.ops.ones_like(reached)))]

        z, reached, gradient = self._averaged(values, once)
        return z, reached, gradient

    def _averaged(self, values: list[Tensor], once: Callable[[list[Tensor]], list[Tensor]]) -> list[Tensor]:
        """The means of what the draws bring, each with other states of the generators."""
        first = once(values)
        if self.draws == 1 or not self._random:
            return first

        def another(k: Any, sums: list[Tensor]) -> list[Tensor]:
            return [total + each for total, each in zip(sums, once(self._advanced(values, k)), strict=True)]

        return [total / self.draws for total in keras.ops.fori_loop(1, self.draws, another, first)]

    def _advanced(self, values: list[Tensor], k: Any) -> list[Tensor]:
        """The values with the generators far enough on for the k-th draw."""
        ops, values = keras.ops, list(values)
        for i in self._random:
            dtype = self.view.state[i].dtype
            step = ops.convert_to_tensor(np.array([0, _STRIDE]), dtype=dtype)
            values[i] = values[i] + step * ops.cast(k, dtype)
        return values

    def _once(self, values: list[Tensor], u: Tensor) -> Tensor:
        ops, model = keras.ops, self.view.model
        mapping = list(zip(self.view.state, values, strict=True))
        x = self.to_data(u)
        with (
            keras.StatelessScope(state_mapping=mapping) as scope,
            compat.plain_calls(model, self.view.places.values()),
            logits_out(self.view),
        ):
            before = [scope.get_current_value(self.view.state[i]) for i in self._generators]
            outputs = keras.tree.flatten(model(x, training=False))
            after = [scope.get_current_value(self.view.state[i]) for i in self._generators]
        self._random.update(i for i, a, b in zip(self._generators, before, after, strict=True) if a is not b)
        z = ops.cast(outputs[0], "float32")
        return ops.concatenate([ops.zeros_like(z), z], axis=-1) if z.shape[-1] == 1 else z

    def program(self, key: Any, fn: Callable[..., Any]) -> Callable[..., Any]:
        """``fn(values, *tensors)`` compiled once for all attacks that give the same key; the values are filled in.

        Args:
            key: Says what the function computes.
            fn: A pure function.
        """
        if key not in self._programs:
            self._programs[key] = engine().jit(fn)
        program = self._programs[key]
        return lambda *tensors: program(self._drawn(), *tensors)

    def stepper(self, key: Any, fn: Callable[..., Any]) -> Callable[..., Any]:
        """As `program`, for a function of tensors alone that is called many times with the same shapes.

        On PyTorch its operations are recorded and run without Keras, whose calls take longer than those of a small
        model; those of a model that draws random numbers are not, for a recording would repeat them. On TensorFlow
        they are compiled by XLA unless the model has convolutions, which XLA computes more slowly.

        Args:
            key: Says what the function computes.
            fn: A pure function.
        """
        if self._generators:
            return self.program(key, fn)

        def call(*tensors: Tensor) -> Any:
            own = (key, tuple(tuple(tensor.shape) for tensor in keras.tree.flatten(tensors)))
            if own not in self._programs:
                convolves = any("Conv" in type(place).__name__ for place in self.view.places.values())
                self._programs[own] = relevance_ops().compile(fn, convolutions=convolves, jit_compile=False)
            return self._programs[own](self._values, *tensors)

        return call

    def _drawn(self) -> list[Tensor]:
        """The values of the model's variables, the generators that it draws from in states of this call's own."""
        if not self._random:
            return self._values
        self._calls += 1
        rng = stream(self.seed, self._calls)
        values = list(self._values)
        for i in sorted(self._random):
            state = rng.integers(0, _STATES, 2)
            values[i] = keras.ops.convert_to_tensor(state, dtype=self.view.state[i].dtype)
        return values

    def is_random(self, u: Array) -> bool:
        """Whether the model draws random numbers at inference.

        Args:
            u: A few inputs from 0 to 1.
        """
        self.all_logits(u[:1])
        return bool(self._random)

    def averaging(self, draws: int) -> Attacked:
        """The same model, of which so many evaluations are averaged.

        Args:
            draws: See `Attacked`.
        """
        view, box = self.view, self.box
        return Attacked(
            view=view,
            box=box,
            batch_size=self.batch_size,
            task=self.task,
            draws=draws,
            seed=self.seed,
            _random=set(self._random),
        )

    def release(self) -> None:
        """Drop the compiled programs."""
        engine().release(list(self._programs.values()))
        self._programs.clear()

    def to_unit(self, x: Array) -> NDArray[np.float32]:
        """Inputs as attacks see them.

        Args:
            x: Inputs as the model sees them.

        Raises:
            DataError: If some are no finite float values, or outside the box.
        """
        box_of(x, (self.box.low, self.box.high))
        # In the precision of the data: a large lower bound would take all digits of a small range.
        return np.clip((x - self.box.low) / self.box.range, 0.0, 1.0).astype(np.float32)

    def to_data(self, u: Any) -> Any:
        """Inputs as the model sees them.

        Args:
            u: Inputs from 0 to 1, an array or a tensor.
        """
        return u * self.box.range + self.box.low

    @untouched_process()
    def by_batch(self, arrays: list[Array], work: Callable[[list[Tensor], Array], list[Tensor]]) -> list[Array]:
        """Results of all samples, from batches of one size.

        Args:
            arrays: One row per sample each.
            work: From tensors of a batch and the positions of its rows to results, one row per sample each.
        """
        n = len(arrays[0])
        positions = _filled_up(n, self.batch_size)

        def run(batch: list[Array], rows: Array, n_real: int) -> list[Array]:
            tensors = [keras.ops.convert_to_tensor(array) for array in batch]
            with engine().inference():
                found = work(tensors, positions[rows])
            return [engine().to_numpy(tensor)[:n_real] for tensor in found]

        filled, model = [array[positions] for array in arrays], self.view.model
        parts = list(in_batches(model, filled, self.batch_size, run, forget=self.release, too_large="to be attacked."))
        return [np.concatenate(each)[:n] for each in zip(*parts, strict=True)]

    def all_logits(self, u: Array) -> NDArray[np.float32]:
        """Logits of all samples.

        Args:
            u: Inputs from 0 to 1.
        """
        program = self.program("logits", self.logits)
        return self.by_batch([u], lambda batch, _: [program(*batch)])[0]

    def check(self, u: Array, y: Array) -> None:
        """Refuse samples and classes that no attack can start from.

        Args:
            u: Inputs from 0 to 1, ``(n, ...)``.
            y: True classes, ``(n,)``.

        Raises:
            DataError: If inputs are not finite or outside the box, or classes are not among those of the model.
        """
        check_samples(u, y, self.n_classes)

    def correct(self, u: Array, y: Array) -> NDArray[np.bool_]:
        """Whether the true class has strictly the largest logit.

        Args:
            u: Inputs from 0 to 1, ``(n, ...)``.
            y: True classes, ``(n,)``.

        Raises:
            DataError: See `check`.
        """
        self.check(u, y)

        def verdict(values: list[Tensor], u: Tensor, y: Tensor) -> Tensor:
            return margin(self.logits(values, u), y, y) < 0

        program = self.program("correct", verdict)
        return self.by_batch([u, y], lambda batch, _: [program(*batch)])[0]


def _filled_up(n: int, batch_size: int) -> NDArray[np.int64]:
    """Rows of n samples, the first repeated until few shapes of batches, and so few compiled programs, serve all."""
    size = batch_size * -(-n // batch_size) if n > batch_size else max(8, 1 << (n - 1).bit_length())
    return np.concatenate([np.arange(n), np.zeros(size - n, np.int64)])
