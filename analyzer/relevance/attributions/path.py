"""Attributions along a straight path from a baseline to the sample, and how far they are from complete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from analyzer.errors import ConfigError
from analyzer.inspection import inputs
from analyzer.relevance.attributions.baselines import baselines
from analyzer.relevance.attributions.bottlenecks import bottlenecks
from analyzer.relevance.attributions.method import (
    Batch,
    Book,
    Floats,
    Method,
    Part,
    Question,
    by_input,
    check_count,
    summed,
)
from analyzer.relevance.attributions.passing import Array, Arrays, Frozen, Pass

_TOKENS = "Per token: the sum over its embedding, along a path of embeddings; masks are those of the sample."


@dataclass(frozen=True, kw_only=True)
class Path:
    """The straight path of each sample from its baseline.

    Attributes:
        passing: The programs.
        flat: The inputs at its end.
        start: Values at the sites where it begins.
        difference: What leads from there to the sample.
    """

    passing: Pass
    flat: Arrays
    start: Arrays
    difference: Arrays

    @classmethod
    def between(cls, passing: Pass, batch: Batch, frozen: Frozen, begins: list[Array | None]) -> Path:
        """The path from baselines.

        Args:
            passing: The programs.
            batch: The samples.
            frozen: The target.
            begins: Baseline of each input; None for an embedding of zeros.
        """
        start: Arrays = []
        embedded = None
        for number, (site, value) in enumerate(zip(passing.sites, frozen.values, strict=True)):
            begin = begins[site.input]
            if not site.embedded:
                start.append(np.asarray(begin))
            elif begin is None:
                start.append(np.zeros_like(value))
            else:
                ids = [x if b is None else b for x, b in zip(batch.flat, begins, strict=True)]
                embedded = passing.freeze(ids, batch.rows).values if embedded is None else embedded
                start.append(embedded[number])
        difference = [value - one for value, one in zip(frozen.values, start, strict=True)]
        return cls(passing=passing, flat=batch.flat, start=start, difference=difference)

    def at(self, share: float | Array) -> tuple[Arrays, Arrays]:
        """Inputs, and offsets of embeddings, at a share of the way.

        Args:
            share: One for all samples, or one for each.
        """
        flat, offsets = list(self.flat), []
        for site, start, difference in zip(self.passing.sites, self.start, self.difference, strict=True):
            part = np.asarray(share, np.float32).reshape(-1, *(1,) * (difference.ndim - 1))
            if site.embedded:
                offsets.append((part - 1) * difference)
            else:
                flat[site.input] = (start + part * difference).astype(start.dtype)
        return flat, offsets


class _AlongPath(Method):
    def _begun(self, passing: Pass) -> None:
        if any(site.embedded for site in passing.sites):
            self.notes.append(_TOKENS)

    def _made(self, passing: Pass, frozen: Frozen, maps: Arrays, due: Floats, **more: Any) -> Part:
        merged = by_input(passing.sites, maps)
        books = {self.question.plan.view.model.name: summed(merged, due), **more.pop("books", {})}
        return Part(score=frozen.score, chosen=frozen.chosen, inputs=merged, books=books, **more)


class _FromBaseline(_AlongPath):
    def __init__(self, question: Question, *, steps: int = 64, baseline: Any = "zeros") -> None:
        """Set the path.

        Args:
            question: What is explained.
            steps: Points on the path, or pieces that it is cut into.
            baseline: See `analyzer.relevance.attributions.baselines.baselines`.
        """
        super().__init__(question)
        self.steps = check_count("steps", steps)
        self.baselines = baselines(question, baseline)


class IntegratedGradients(_FromBaseline):
    """Integrated gradients (Sundararajan et al., 2017, arXiv 1703.01365), by Gauss-Legendre quadrature."""

    def _part(self, passing: Pass, batch: Batch) -> Part:
        frozen = passing.freeze(batch.flat, batch.rows)
        path = Path.between(passing, batch, frozen, of_rows(self.baselines, batch))
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        mean: list[Any] = [0.0] * len(passing.sites)
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            flat, offsets = path.at(node)
            found = passing.gradients(flat, frozen, offsets).gradients
            mean = [m + weight * g.astype(np.float64) for m, g in zip(mean, found, strict=True)]
        maps = [m * d for m, d in zip(mean, path.difference, strict=True)]
        flat, offsets = path.at(0.0)
        return self._made(passing, frozen, maps, frozen.score - passing.scores(flat, frozen, offsets))


class ExpectedGradients(_AlongPath):
    """Integrated gradients averaged over baselines drawn from data (Erion et al., 2021, arXiv 1906.10670).

    Shares of the way are drawn within strata, one for each draw, which keeps their mean exact and lowers its variance.
    """

    def __init__(self, question: Question, *, references: Any = None, samples: int = 100) -> None:
        """Set the references.

        Args:
            question: What is explained.
            references: Samples that baselines are drawn from, as x.
            samples: Draws for each sample.
        """
        super().__init__(question)
        if references is None:
            raise ConfigError(
                "method='expected_gradients' needs options={'references': array}: samples, such as of the training "
                "set, that stand for what could have been there instead."
            )
        self.samples = check_count("samples", samples)
        self.references = question.arrange(references)

    def _part(self, passing: Pass, batch: Batch) -> Part:
        frozen = passing.freeze(batch.flat, batch.rows)
        total: list[Any] = [0.0] * len(passing.sites)
        before = np.zeros_like(frozen.score)
        for step in range(self.samples):
            chosen, share = self._draw(step, batch)
            begins: list[Array | None] = list(inputs_of(self.references, chosen))
            path = Path.between(passing, batch, frozen, begins)
            flat, offsets = path.at(share)
            found = passing.gradients(flat, frozen, offsets).gradients
            total = [t + g.astype(np.float64) * d for t, g, d in zip(total, found, path.difference, strict=True)]
            before += passing.scores(*_swapped(path.at(0.0), frozen))
        maps = [t / self.samples for t in total]
        return self._made(passing, frozen, maps, frozen.score - before / self.samples)

    def _draw(self, step: int, batch: Batch) -> tuple[Array, Array]:
        n = inputs.count(self.references)
        drawn = [np.random.default_rng([self.question.seed, step, int(row)]) for row in batch.rows]
        chosen = np.array([rng.integers(n) for rng in drawn])
        return chosen, (step + np.array([rng.random() for rng in drawn])) / self.samples


class LayerConductance(_FromBaseline):
    """How much of the difference from the baseline flows through each unit (Dhamdhere et al., 2019, arXiv 1805.12233).

    The line integral of the gradient along what the layer does on the path: gradients in the middle of every piece,
    times what the layer changes from its beginning to its end.
    """

    of_layers = True

    def _part(self, passing: Pass, batch: Batch) -> Part:
        frozen = passing.freeze(batch.flat, batch.rows)
        path = Path.between(passing, batch, frozen, of_rows(self.baselines, batch))
        begin, before = self._values(passing, path, frozen, 0.0)
        maps: list[Any] = [0.0] * len(passing.sites)
        layers: dict[str, Any] = {}
        for step in range(self.steps):
            flat, offsets = path.at((step + 0.5) / self.steps)
            found = passing.gradients(flat, frozen, offsets)
            _, after = self._values(passing, path, frozen, (step + 1) / self.steps)
            maps = [
                m + g.astype(np.float64) * (d / self.steps)
                for m, g, d in zip(maps, found.gradients, path.difference, strict=True)
            ]
            for name, (_, gradient) in found.taps.items():
                layers[name] = layers.get(name, 0.0) + gradient * (after[name] - before[name])[None]
            before = after
        due = frozen.score - begin
        return self._made(passing, frozen, maps, due, layers=layers, books=self._books(layers, due))

    def _values(self, passing: Pass, path: Path, frozen: Frozen, share: float) -> tuple[Floats, dict[str, Floats]]:
        flat, offsets = path.at(share)
        score, tapped = passing.values(flat, frozen, offsets)
        return score, {name: array.astype(np.float64) for name, array in tapped.items()}

    def _books(self, layers: dict[str, Any], due: Floats) -> dict[str, Book]:
        through = bottlenecks(self.question.plan)
        return {name: summed({0: array}, due) for name, array in layers.items() if name in through}

    def _begun(self, passing: Pass) -> None:
        super()._begun(passing)
        if self.taps - bottlenecks(self.question.plan):
            self.notes.append(
                "The ledger lists layers that everything goes through; what flows through others is a part of the "
                "difference, or it was not seen what goes around them."
            )


def of_rows(begins: list[Array | None], batch: Batch) -> list[Array | None]:
    """Baselines of a batch."""
    return [None if begin is None else begin[batch.rows] for begin in begins]


def inputs_of(arranged: Any, rows: Array) -> Arrays:
    """Some samples, an array for each input."""
    import keras

    return [np.asarray(array) for array in keras.tree.flatten(inputs.take(arranged, rows))]


def _swapped(point: tuple[Arrays, Arrays], frozen: Frozen) -> tuple[Arrays, Frozen, Arrays]:
    return point[0], frozen, point[1]
