"""The gather pass: one compiled, streaming run of a model over the data for all that was asked."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from analyzer.backends import engine
from analyzer.data_types.values import Finding, Skipped
from analyzer.errors import DeviceMemoryError, Unsupported
from analyzer.inspection import compat, inputs
from analyzer.inspection.needs import Context, Need
from analyzer.inspection.reducers import Batch, Collect, HostBatch, KeepSamples, Tap, seeded_samples
from analyzer.inspection.trace import named_outputs
from analyzer.inspection.view import ModelView

logger = logging.getLogger("analyzer")

Step = Callable[[int, int], None]
"""Progress: samples done, samples in all."""

NEIGHBOUR_TOLERANCE = 1e-5
"""Relative change of a sample's output, when only the padding beside it changes, that proves dependence on it."""


@dataclass
class Gathered:
    """What a pass brought.

    Attributes:
        material: By need; `Skipped` where it does not exist for this model and these data.
        findings: What the pass noticed about the model itself.
        batch_size: Samples per batch, after any halving.
    """

    material: dict[Need, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    batch_size: int | None = None


def gather(context: Context, needs: Sequence[Need]) -> Gathered:
    """Run a model once over the data and serve every need from that.

    Args:
        context: The opened model, the data and what is known about its outputs. A batch size that the model fixes
            goes before that of the context.
        needs: What is asked for; equal needs are served once.

    Raises:
        DeviceMemoryError: If a single sample does not fit into memory.
    """
    result = Gathered()
    plans: dict[Need, tuple[Tap, ...]] = {}
    for need in dict.fromkeys(needs):
        try:
            if need.requires_data and context.arranged is None:
                raise Unsupported("No data were given: pass data=DataInput(x_data=..., y_data=...).")
            plans[need] = need.taps(context.view)
        except Unsupported as reason:
            result.material[need] = Skipped(str(reason))
    taps = tuple(dict.fromkeys(tap for plan in plans.values() for tap in plan))
    collected: Mapping[Tap, Any] = {}
    if taps:
        step = functools.partial(context.progress, "predictions")
        run = Pass(context.view, taps, context.arranged, batch_size=context.batch_size, seed=context.seed, step=step)
        try:
            collected = run.run()
        finally:
            run.release()
        result.findings, result.batch_size = run.findings, run.batch_size
    for need, plan in plans.items():
        try:
            missing = [tap for tap in plan if isinstance(collected[tap], Unsupported)]
            if missing and not getattr(need, "accepts_missing", False):
                raise collected[missing[0]]
            result.material[need] = need.finish([collected[tap] for tap in plan], context)
        except Unsupported as reason:
            result.material[need] = Skipped(str(reason))
    return result


class Pass:
    """A compiled pass over the data, which can be run again and again; see `run`.

    Args:
        view: The opened model.
        taps: What is noticed on the way.
        arranged: Inputs of all samples in the structure that the model is called with.
        batch_size: Samples per batch; a batch size that the model fixes goes before it.
        seed: Chooses the samples that are kept.
        step: Called after every batch.
    """

    def __init__(
        self,
        view: ModelView,
        taps: tuple[Tap, ...],
        arranged: Any,
        *,
        batch_size: int,
        seed: int,
        step: Step | None = None,
    ) -> None:
        self.view = view
        self.taps = taps
        self.arranged = arranged
        self.n = inputs.count(arranged)
        self.fixed = inputs.fixed_batch_size(view.model)
        self.batch_size = self.fixed or min(batch_size, self.n)
        self.step = step or (lambda _done, _total: None)
        self.findings: list[Finding] = []
        self.kept, self.ranks = _kept_samples(self.n, taps, seed)
        self.engine = engine()
        self.program = self.engine.jit(self._forward)
        self.values: list[Any] = []
        self.states: dict[Tap, Any] = {}
        self.folded = 0

    def run(self) -> dict[Tap, Any]:
        """Stream all samples through the model; what each tap brought, or the `Unsupported` that says why not."""
        self.values = [variable.value for variable in self.view.state]
        self.states = dict.fromkeys(self.taps)
        self.findings.clear()
        self.folded = 0
        with self.engine.inference():
            self._stream()
        return {
            tap: state if isinstance(state, Unsupported) else tap.reducer.finish(state)
            for tap, state in self.states.items()
        }

    def release(self) -> None:
        """Drop the compiled program."""
        self.engine.release([self.program])

    def _stream(self) -> None:
        # One batch is always in flight while the one before it is copied and folded: dispatch is asynchronous.
        start, waiting = 0, None
        while start < self.n or waiting is not None:
            try:
                launched = self._launch(start) if start < self.n else None
                if waiting is not None:
                    done, waiting = waiting, None
                    self._fold(*done)
            except Exception as error:
                if not self.engine.is_out_of_memory(error):
                    raise
                self._halve(error)
                start, waiting = self.folded, None
                continue
            if launched is not None:
                start += launched[1].n_valid
            waiting = launched

    def _launch(self, start: int) -> tuple[list[Any], HostBatch]:
        index = np.arange(start, min(start + self.batch_size, self.n))
        padded = np.concatenate([index, np.full(self.batch_size - len(index), index[0])])
        launched = self._call(padded, len(index))
        if start + len(index) == self.n and self._depends_on_neighbours(padded, launched) and self.fixed is None:
            # The padding would be among the neighbours.
            return self._call(index, len(index))
        return launched

    def _call(self, rows: NDArray[np.int64], n_valid: int) -> tuple[list[Any], HostBatch]:
        positions = np.flatnonzero(np.isin(rows[:n_valid], self.kept))
        ranks = self.ranks[np.searchsorted(self.kept, rows[positions])]
        keep = np.zeros(max(1, min(len(rows), len(self.kept))), dtype=np.int32)
        keep[: len(positions)] = positions
        # A slice is a view; only a padded batch is copied.
        chosen = slice(int(rows[0]), int(rows[0]) + n_valid) if n_valid == len(rows) else rows
        x = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs.take(self.arranged, chosen))
        valid = keras.ops.convert_to_tensor(np.arange(len(rows)) < n_valid)
        partials = self.program(self.values, x, valid, keras.ops.convert_to_tensor(keep))
        return partials, HostBatch(n_valid=n_valid, ranks=ranks)

    def _fold(self, partials: list[Any], batch: HostBatch) -> None:
        on_host = [[self.engine.to_numpy(p) for p in partial] for partial in partials]
        for tap, partial in zip(self.taps, on_host, strict=True):
            if not partial:
                self.states[tap] = Unsupported(self._why_missing(tap))
            elif not isinstance(self.states[tap], Unsupported):
                self.states[tap] = tap.reducer.merge(self.states[tap], partial, batch)
        self.folded += batch.n_valid
        self.step(self.folded, self.n)

    def _why_missing(self, tap: Tap) -> str:
        if tap.source == "model":
            name = self.view.heads[tap.position].name
            return f"Output {name!r} does not have one row per sample, so it cannot be matched with labels."
        place = getattr(self.view.places[tap.position], "name", "?")
        return f"Layer {place!r} did not run when the model was called, or its rows are not those of the samples."

    def _halve(self, error: Exception) -> None:
        """Go on with half the batch, or say what does not fit."""
        if self.fixed is not None or self.batch_size == 1:
            raise DeviceMemoryError(self._too_large()) from error
        self.batch_size = max(1, self.batch_size // 2)
        self.findings.clear()
        logger.warning("out of memory: going on with batch_size=%d", self.batch_size)
        self.release()

    def _too_large(self) -> str:
        largest = max(self.view.firings, key=lambda firing: firing.output_bytes, default=None)
        where = "It has no layers; all is computed by the model itself."
        if largest is not None:
            place = getattr(self.view.places[largest.place], "name", "?")
            size = largest.output_bytes // (self.fixed or 1)
            where = f"The largest output is that of layer {place!r}: {size:,} bytes per sample."
        return (
            f"The model {self.view.model.name!r} does not fit into memory at batch size {self.batch_size}. {where} "
            "Free memory, run on a larger device, or lower the input size; batch_size cannot go lower."
        )

    def _depends_on_neighbours(self, rows: NDArray[np.int64], launched: tuple[list[Any], HostBatch]) -> bool:
        """Whether outputs for the samples of a batch change when only the rows beside them do."""
        partials, batch = launched
        seen = any(tap.source == "model" and isinstance(tap.reducer, Collect) for tap in self.taps)
        if self.n == 1 or len(rows) == 1 or not seen:
            return False
        same = min(batch.n_valid, len(rows) // 2)
        beside = rows[same:]
        other = rows[0] if (beside != rows[0]).any() else (0 if rows[0] > 0 else self.n - 1)
        changed, _ = self._call(np.concatenate([rows[:same], np.full_like(beside, other)]), same)
        pairs = [
            (self._rows(first[0], same), self._rows(second[0], same))
            for tap, first, second in zip(self.taps, partials, changed, strict=True)
            if tap.source == "model" and isinstance(tap.reducer, Collect) and first
        ]
        scale = max((_largest(a) for a, _ in pairs), default=0.0)
        change = max((_largest(a - b) for a, b in pairs), default=0.0)
        depends = change > NEIGHBOUR_TOLERANCE * max(scale, 1e-30)
        if depends:
            self.findings.append(_neighbour_finding(change, scale))
        return depends

    def _rows(self, tensor: Any, n: int) -> NDArray[np.float64]:
        """The first rows; what is not finite counts as 0, for it is reported elsewhere."""
        return np.nan_to_num(self.engine.to_numpy(tensor)[:n].astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)

    def _forward(self, values: list[Any], x: Any, valid: Any, keep: Any) -> list[list[Any]]:
        """The program: the model's forward pass, and each tap reduced beside it."""
        recorder = _Recorder(self.taps)
        mapping = list(zip(self.view.state, values, strict=True))
        with (
            keras.StatelessScope(state_mapping=mapping),
            compat.plain_calls(self.view.model, self.view.places.values()),
            recorder.listening(self.view.places),
        ):
            outputs = self.view.model(x, training=False)
        for position, (_, tensor) in enumerate(named_outputs(self.view.model, outputs)):
            recorder.notice("model", position, 0, tensor)
        batch = Batch(valid=valid, keep=keep)
        partials: list[list[Any]] = []
        for tap in self.taps:
            tensor = _one_row_per_sample(recorder.found(tap), tap.fold, int(valid.shape[0]))
            partials.append([] if tensor is None else tap.reducer.partial(tensor, batch))
        return partials


class _Recorder:
    """Holds the tensors that pass the tapped places during one call of the model."""

    def __init__(self, taps: Sequence[Tap]) -> None:
        self.places = {tap.position for tap in taps if tap.source in ("output", "input")}
        self.activations = {tap.position for tap in taps if tap.source == "activation"}
        self.tensors: dict[tuple[str, int], list[Any]] = {}
        self.calls: Counter[int] = Counter()

    def notice(self, source: str, position: int, call: int, tensor: Any) -> None:
        """Remember the tensor of one call."""
        del call
        self.tensors.setdefault((source, position), []).append(tensor)

    def found(self, tap: Tap) -> Any | None:
        """The tensor that a tap asks for, or None where the place did not run."""
        seen = self.tensors.get((tap.source, tap.position), [])
        return seen[tap.call] if -len(seen) <= tap.call < len(seen) else None

    @contextlib.contextmanager
    def listening(self, places: Mapping[int, compat.Place]) -> Iterator[None]:
        """Listen at the tapped places for the length of one traced call."""

        def wrap(index: int, call: Callable[..., Any]) -> Callable[..., Any]:
            def heard(*args: Any, **kwargs: Any) -> Any:
                result = call(*args, **kwargs)
                number = self.calls[index]
                self.calls[index] += 1
                tensors = [t for t in keras.tree.flatten((args, kwargs)) if keras.ops.is_tensor(t)]
                self.notice("input", index, number, tensors[0] if tensors else None)
                self.notice("output", index, number, keras.tree.flatten(result)[0])
                return result

            return heard

        with contextlib.ExitStack() as stack:
            tapped = {index: places[index] for index in sorted(self.places)}
            stack.enter_context(compat.wrapped_calls(tapped, wrap))
            for index in sorted(self.activations):
                stack.enter_context(self._listening_at_activation(index, places[index]))
            yield

    @contextlib.contextmanager
    def _listening_at_activation(self, index: int, place: compat.Place) -> Iterator[None]:
        activation = place.activation

        def heard(logits: Any, *args: Any, **kwargs: Any) -> Any:
            self.notice("activation", index, 0, logits)
            return activation(logits, *args, **kwargs)

        with compat.replaced(place, "activation", heard):
            yield


def _one_row_per_sample(tensor: Any | None, fold: int, n: int) -> Any | None:
    """The tensor with the samples along its first axis; None where they are not there."""
    if tensor is None or len(tensor.shape) == 0 or tensor.shape[0] != n * fold:
        return None
    return tensor if fold == 1 else keras.ops.reshape(tensor, (n, fold, *tensor.shape[1:]))


def _largest(values: NDArray[np.float64]) -> float:
    return float(np.abs(values).max(initial=0.0))


def _kept_samples(n: int, taps: Sequence[Tap], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Samples that any tap keeps, ascending, and the rank of each in the seeded order."""
    sizes = [tap.reducer.n_samples for tap in taps if isinstance(tap.reducer, KeepSamples)]
    chosen = seeded_samples(n, max(sizes, default=0), seed)
    ranks = np.argsort(chosen)
    return chosen[ranks], ranks


def _neighbour_finding(change: float, scale: float) -> Finding:
    return Finding(
        kind="depends_on_batch",
        layer=None,
        severity="warning",
        evidence={"largest_change": change, "largest_output": scale, "threshold": NEIGHBOUR_TOLERANCE},
        message=(
            "The output for a sample depends on the other samples of its batch, so every number of this model depends "
            "on the batch size. Look for layers that normalise over the batch at inference."
        ),
    )
