"""Gradients of the value explained: plain, times the input, guided, and under noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from analyzer.errors import Unsupported
from analyzer.relevance.attributions.guided import RELUS
from analyzer.relevance.attributions.method import (
    Batch,
    Floats,
    Method,
    Part,
    Question,
    by_input,
    check_count,
    check_positive,
)
from analyzer.relevance.attributions.passing import Arrays, Frozen, Gradients, Pass

_NORM = "Per token: the norm of what stands at its embedding, which has no sign."
_SUM = "Per token: the sum over its embedding."


def norms(passing: Pass, maps: Arrays) -> dict[int, Any]:
    """Maps of inputs by norm: of a token, over all embeddings that it goes into."""
    squares = by_input(passing.sites, [a**2 if s.embedded else a for s, a in zip(passing.sites, maps, strict=True)])
    embedded = {site.input for site in passing.sites if site.embedded}
    return {number: np.sqrt(array) if number in embedded else array for number, array in squares.items()}


class Gradient(Method):
    """The gradient of the value explained (Simonyan et al., 2014, arXiv 1312.6034), with its sign."""

    of_layers = True

    def _part(self, passing: Pass, batch: Batch) -> Part:
        found = passing.gradients(batch.flat, batch.rows)
        return Part(
            score=found.score,
            chosen=found.chosen,
            inputs=self._inputs(passing, found),
            layers={name: self._at(value, gradient) for name, (value, gradient) in found.taps.items()},
        )

    def _begun(self, passing: Pass) -> None:
        if any(site.embedded for site in passing.sites):
            self.notes.append(_NORM)

    def _inputs(self, passing: Pass, found: Gradients) -> dict[int, Any]:
        return norms(passing, found.gradients)

    def _at(self, value: Any, gradient: Any) -> Any:
        del value
        return gradient


class InputTimesGradient(Gradient):
    """Input times gradient (Shrikumar et al., 2016, arXiv 1605.01713); of layers, activation times gradient."""

    def _begun(self, passing: Pass) -> None:
        if any(site.embedded for site in passing.sites):
            self.notes.append(_SUM)

    def _inputs(self, passing: Pass, found: Gradients) -> dict[int, Any]:
        both = zip(found.values, found.gradients, strict=True)
        return by_input(passing.sites, [value[None] * gradient for value, gradient in both])

    def _at(self, value: Any, gradient: Any) -> Any:
        return value[None] * gradient


class GuidedBackprop(Gradient):
    """The gradient where every ReLU lets only positive ones back (Springenberg et al., 2015, arXiv 1412.6806)."""

    guided = True

    def _begun(self, passing: Pass) -> None:
        super()._begun(passing)
        if not passing.seen.guided:
            raise Unsupported(
                f"guided_backprop changes how gradients pass a ReLU, and none was found in this model (looked for "
                f"{', '.join(RELUS)} as activations, layers and operations). Use method='gradient'."
            )
        others = sorted(passing.seen.unguided)
        if others:
            self.notes.append(f"Only ReLUs are guided; these keep their own gradient: {', '.join(others)}.")


class _Noisy(Method):
    """Gradients at noisy copies of a sample."""

    fewest = 1

    def __init__(self, question: Question, *, samples: int = 50, noise: float = 0.15) -> None:
        """Set the noise.

        Args:
            question: What is explained.
            samples: Copies of each sample.
            noise: Standard deviation of the noise, as a share of the range of the sample's values.
        """
        super().__init__(question)
        self.samples = check_count("samples", samples, self.fewest)
        self.noise = check_positive("noise", noise)

    def _moments(self, passing: Pass, batch: Batch, frozen: Frozen) -> list[tuple[Floats, Floats, Floats]]:
        """Of each site: the first gradient, and mean and mean square of the others' differences from it."""
        first: list[Floats] = []
        sums: list[list[Floats]] = []
        for flat, offsets in self._copies(passing, batch, frozen):
            found = [g.astype(np.float64) for g in passing.gradients(flat, frozen, offsets).gradients]
            if not first:
                first, sums = found, [[np.zeros_like(g), np.zeros_like(g)] for g in found]
                continue
            for (total, squares), g, origin in zip(sums, found, first, strict=True):
                total += g - origin
                squares += (g - origin) ** 2
        return [(g, a / self.samples, b / self.samples) for g, (a, b) in zip(first, sums, strict=True)]

    def _copies(self, passing: Pass, batch: Batch, frozen: Frozen) -> Iterator[tuple[Arrays, Arrays]]:
        """Noisy inputs, and noise for embeddings. A sample's noise depends on the seed and its number alone."""
        for step in range(self.samples):
            drawn = [np.random.default_rng([self.question.seed, step, int(row)]) for row in batch.rows]
            flat, offsets = list(batch.flat), []
            for site, value in zip(passing.sites, frozen.values, strict=True):
                axes = tuple(range(1, value.ndim))
                width = (value.max(axes, keepdims=True) - value.min(axes, keepdims=True)).astype(np.float32)
                noise = np.stack([rng.standard_normal(value.shape[1:], np.float32) for rng in drawn])
                noise = noise * (self.noise * width)
                if site.embedded:
                    offsets.append(noise)
                else:
                    flat[site.input] = (value + noise).astype(value.dtype)
            yield flat, offsets

    def _part(self, passing: Pass, batch: Batch) -> Part:
        frozen = passing.freeze(batch.flat, batch.rows)
        maps = self._maps(passing, self._moments(passing, batch, frozen))
        return Part(score=frozen.score, chosen=frozen.chosen, inputs=maps)

    def _begun(self, passing: Pass) -> None:
        if any(site.embedded for site in passing.sites):
            self.notes.append(f"Noise is added to embeddings. {self._token}")

    _token = _SUM

    def _maps(self, passing: Pass, moments: list[tuple[Floats, Floats, Floats]]) -> dict[int, Any]:
        raise NotImplementedError


class SmoothGrad(_Noisy):
    """The mean gradient over noisy copies (Smilkov et al., 2017, arXiv 1706.03825)."""

    _token = _NORM

    def _maps(self, passing: Pass, moments: list[tuple[Floats, Floats, Floats]]) -> dict[int, Any]:
        return norms(passing, [first + mean for first, mean, _ in moments])


class VarGrad(_Noisy):
    """The variance of the gradient over noisy copies (Adebayo et al., 2018, arXiv 1810.03292)."""

    fewest = 2

    def _maps(self, passing: Pass, moments: list[tuple[Floats, Floats, Floats]]) -> dict[int, Any]:
        variances = [np.maximum(square - mean**2, 0) for _, mean, square in moments]
        return by_input(passing.sites, variances)


class SquareGrad(_Noisy):
    """The mean squared gradient over noisy copies (Hooker et al., 2019, arXiv 1806.10758)."""

    def _maps(self, passing: Pass, moments: list[tuple[Floats, Floats, Floats]]) -> dict[int, Any]:
        return by_input(passing.sites, [first**2 + 2 * first * mean + square for first, mean, square in moments])
