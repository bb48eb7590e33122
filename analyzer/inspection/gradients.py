"""`Gradients`: how strongly a loss depends on the output of every layer and on every variable."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine
from analyzer.data_types.information_flow import VariableGradient
from analyzer.errors import Unsupported
from analyzer.inspection import compat, inputs
from analyzer.inspection.losses import Loss, loss_of
from analyzer.inspection.needs import Context, Predictions
from analyzer.inspection.reducers import Tap, seeded_samples
from analyzer.inspection.trace import named_outputs
from analyzer.inspection.view import ModelView, VariableInfo

BATCH = 16
"""Samples per gradient step: all activations of a batch are alive at once."""

NO_GRADIENT = 1e-6
"""Norm of a gradient, relative to the median of all variables', below which there is none but rounding."""

STRUCTURAL = "The loss does not depend on it, with random weights either: a key bias, which softmax cancels, or unused."
NORMALISED = "BatchNormalization subtracts it together with the mean of the batch."


@dataclass(frozen=True, kw_only=True, eq=False)
class GatheredGradients:
    """Gradients of one loss.

    Attributes:
        loss: The loss, and where its targets came from.
        n: Samples.
        outputs: By ``(place, call)``: norm of the gradient of each sample's loss at the output of that call, ``(n,)``.
        sizes: By the same key: elements per sample of that output.
        variables: Gradient of the mean loss for each trainable variable, in order of execution.
    """

    loss: str
    n: int
    outputs: dict[tuple[int, int], NDArray[np.float64]]
    sizes: dict[tuple[int, int], int]
    variables: tuple[VariableGradient, ...]


@dataclass(frozen=True)
class Gradients:
    """Gradients of the loss of a seeded subset of the samples, the model in inference mode.

    The loss is that of the task (cross-entropy, squared error, …) against the labels; without labels, against the
    model's own decisions, or the mean square of its outputs where it decides nothing.

    Gathered as `GatheredGradients`.

    Attributes:
        n_samples: Most samples.
    """

    n_samples: int = 64

    requires_data = True

    def taps(self, view: ModelView) -> tuple[Tap, ...]:
        """Those of the predictions, which the targets are made of."""
        if not view.firings:
            raise Unsupported("The model could not be traced, so its layers' outputs are not known.")
        return Predictions().taps(view)

    def finish(self, collected: Sequence[Any], context: Context) -> GatheredGradients:
        """Run the model forward and backward on the chosen samples."""
        outputs = Predictions().finish(collected, context)
        losses = [loss_of(output) for output in outputs.values()]
        chosen = np.sort(seeded_samples(inputs.count(context.arranged), self.n_samples, context.seed))
        n = len(chosen)
        with _Backward(context, losses, chosen) as backward:
            of_outputs, sums = backward.run(backward.values, chosen)
            gradients = [total / n for total in sums]
            absent = _absent(gradients)
            never = backward.structural(chosen[: backward.batch]) if absent else set()
        return GatheredGradients(
            loss="; ".join(dict.fromkeys(loss.text for loss in losses)),
            n=n,
            outputs=of_outputs,
            sizes=backward.sizes,
            variables=_described(context.view, backward.trained, gradients, absent & never),
        )


def _absent(gradients: Sequence[NDArray[np.float64]]) -> set[int]:
    """Positions of gradients that vanish beside the others."""
    norms = np.array([np.linalg.norm(gradient) for gradient in gradients])
    return set(np.flatnonzero(norms <= NO_GRADIENT * np.median(norms[norms > 0])).tolist()) if norms.any() else set()


def _described(
    view: ModelView, trained: Sequence[VariableInfo], gradients: Sequence[NDArray[np.float64]], structural: set[int]
) -> tuple[VariableGradient, ...]:
    normalised = biases_before_batch_normalization(view)
    described = []
    for position, (info, gradient) in enumerate(zip(trained, gradients, strict=True)):
        norm = float(np.linalg.norm(gradient))
        size = float(np.linalg.norm(engine().to_numpy(info.variable.value).astype(np.float64)))
        finite = bool(np.isfinite(norm))
        described.append(
            VariableGradient(
                id=info.id,
                norm=norm if finite else None,
                largest=float(np.abs(gradient).max(initial=0.0)) if finite else None,
                # Rounding over rounding says nothing.
                relative=norm / size if finite and size > 0 and position not in structural else None,
                structural_zero=STRUCTURAL if position in structural else None,
                zero_in_training=NORMALISED if id(info.variable) in normalised else None,
            )
        )
    return tuple(described)


def biases_before_batch_normalization(view: ModelView) -> set[int]:
    """Ids of bias variables whose layer's output goes nowhere but into BatchNormalization, without an activation.

    Args:
        view: The opened model.
    """
    taken_by: dict[int, list[Any]] = {}
    for firing in view.firings:
        for source in firing.sources:
            taken_by.setdefault(source, []).append(view.places[firing.place])
    feeding = {
        id(view.places[firing.place])
        for position, firing in enumerate(view.firings)
        if taken_by.get(position)
        and all(isinstance(place, keras.layers.BatchNormalization) for place in taken_by[position])
        and getattr(vars(view.places[firing.place]).get("activation"), "__name__", "linear") == "linear"
    }
    return {id(v.variable) for v in view.variables if v.name == "bias" and id(v.owner.layer) in feeding}


class _Backward:
    """The compiled forward and backward pass, batch by batch; a padded batch repeats a sample whose loss is dropped."""

    def __init__(self, context: Context, losses: Sequence[Loss], chosen: NDArray[np.int64]) -> None:
        self.context = context
        self.view = context.view
        self.losses = losses
        self.chosen = chosen
        self.batch = inputs.fixed_batch_size(self.view.model) or min(BATCH, len(chosen))
        self.places = _places(self.view)
        self.trained = [v for v in self.view.variables if v.trainable and _is_float(v.variable.dtype)]
        position = {id(variable): i for i, variable in enumerate(self.view.state)}
        self.trained_positions = [position[id(info.variable)] for info in self.trained]
        self.values = [variable.value for variable in self.view.state]
        self.shapes: dict[tuple[int, int], tuple[tuple[int, ...], str]] = {}
        self._note_shapes()
        self.program = engine().jit(self._step)

    def __enter__(self) -> _Backward:
        return self

    def __exit__(self, *_: object) -> None:
        engine().release([self.program])

    @property
    def sizes(self) -> dict[tuple[int, int], int]:
        """Elements per sample of each output."""
        return {key: int(np.prod(shape)) // self.batch for key, (shape, _) in self.shapes.items()}

    def run(
        self, values: list[Any], chosen: NDArray[np.int64]
    ) -> tuple[dict[tuple[int, int], NDArray[np.float64]], list[NDArray[np.float64]]]:
        """Norms per sample at every output, and the gradients of the summed loss for the trained variables."""
        norms: list[list[NDArray[Any]]] = []
        sums: list[NDArray[np.float64]] = []
        for start in range(0, len(chosen), self.batch):
            rows = chosen[start : start + self.batch]
            per_place, of_variables = self.program(values, *self._arguments(rows))
            norms.append([engine().to_numpy(each)[: len(rows)] for each in per_place])
            gradients = [engine().to_numpy(each).astype(np.float64) for each in of_variables]
            sums = gradients if not sums else [a + b for a, b in zip(sums, gradients, strict=True)]
            self.context.progress("gradients", min(start + self.batch, len(chosen)), len(chosen))
        of_outputs = {
            key: np.concatenate([batch[i] for batch in norms]).astype(np.float64) for i, key in enumerate(self.shapes)
        }
        return of_outputs, sums

    def structural(self, chosen: NDArray[np.int64]) -> set[int]:
        """Trained variables without a gradient at random weights too: nothing that was learnt makes it vanish."""
        rng = np.random.default_rng(self.context.seed)
        values = list(self.values)
        for position, info in zip(self.trained_positions, self.trained, strict=True):
            shape = tuple(info.variable.shape)
            if len(shape) > 1:
                drawn = rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))
            else:
                drawn = rng.uniform(0.5, 1.5, shape)
            values[position] = keras.ops.convert_to_tensor(drawn, dtype=info.variable.dtype)
        return _absent(self.run(values, chosen)[1])

    def _arguments(self, rows: NDArray[np.int64]) -> tuple[Any, list[Any], Any]:
        padded = np.concatenate([rows, np.full(self.batch - len(rows), rows[0])])
        x = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs.take(self.context.arranged, padded))
        targets = [keras.ops.convert_to_tensor(loss.targets[padded]) for loss in self.losses]
        counts = (np.arange(self.batch) < len(rows)).astype(np.float32)
        return x, targets, keras.ops.convert_to_tensor(counts)

    def _note_shapes(self) -> None:
        """One symbolic call, for the shapes and dtypes of the outputs that a zero is added to."""
        shapes = self.shapes

        def notice(key: tuple[int, int], tensor: Any) -> Any:
            dtype = keras.backend.standardize_dtype(tensor.dtype)
            if _is_float(dtype) and len(tensor.shape) > 0 and tensor.shape[0] % self.batch == 0:
                shapes[key] = (tuple(int(size) for size in tensor.shape), dtype)
            return tensor

        def forward(values: list[Any], x: Any) -> None:
            shapes.clear()
            self._call(values, x, notice)

        engine().trace(forward, self.values, self._arguments(self.chosen[: self.batch])[0])

    def _call(self, values: list[Any], x: Any, notice: Callable[[tuple[int, int], Any], Any]) -> Any:
        mapping = list(zip(self.view.state, values, strict=True))
        with (
            keras.StatelessScope(state_mapping=mapping),
            compat.plain_calls(self.view.model, self.view.places.values()),
            _outputs_through(self.places, notice),
        ):
            return self.view.model(x, training=False)

    def _step(self, values: list[Any], x: Any, targets: list[Any], counts: Any) -> tuple[list[Any], list[Any]]:
        """Norm per sample of the gradient at each output, and the gradients of the summed loss for the variables."""
        ops = keras.ops
        trained = self.trained_positions

        def loss(leaves: list[Any]) -> Any:
            zeros = dict(zip(self.shapes, leaves, strict=False))
            weights = list(values)
            for i, leaf in zip(trained, leaves[len(self.shapes) :], strict=True):
                weights[i] = leaf

            def add_zero(key: tuple[int, int], tensor: Any) -> Any:
                return tensor + ops.cast(zeros[key], tensor.dtype) if key in zeros else tensor

            outputs = named_outputs(self.view.model, self._call(weights, x, add_zero))
            each = [
                each.values(target, ops.cast(tensor, "float32"))
                for each, target, (_, tensor) in zip(self.losses, targets, outputs, strict=True)
            ]
            return ops.sum(counts * sum(each[1:], start=each[0]))

        zeros = [ops.zeros(shape, "float32") for shape, _ in self.shapes.values()]
        _, gradients = engine().value_and_grad(loss, [*zeros, *(values[i] for i in trained)])
        at_outputs = [ops.reshape(g, (self.batch, -1)) for g in gradients[: len(zeros)]]
        norms = [ops.sqrt(ops.sum(ops.square(g), axis=1)) for g in at_outputs]
        return norms, gradients[len(zeros) :]


def _places(view: ModelView) -> Mapping[int, compat.Place]:
    ran = {firing.place for firing in view.firings}
    return {index: place for index, place in view.places.items() if index in ran}


def _is_float(dtype: Any) -> bool:
    return bool(keras.backend.is_float_dtype(keras.backend.standardize_dtype(dtype)))


@contextlib.contextmanager
def _outputs_through(
    places: Mapping[int, compat.Place], change: Callable[[tuple[int, int], Any], Any]
) -> Iterator[None]:
    """Let the first output of every call of some places pass through a function."""
    calls: Counter[int] = Counter()

    def wrap(index: int, call: Callable[..., Any]) -> Callable[..., Any]:
        def passed(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            key = (index, calls[index])
            calls[index] += 1
            flat = keras.tree.flatten(result)
            if not flat or not keras.ops.is_tensor(flat[0]):
                return result
            return keras.tree.pack_sequence_as(result, [change(key, flat[0]), *flat[1:]])

        return passed

    with compat.wrapped_calls(places, wrap):
        yield
