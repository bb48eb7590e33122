"""Grad-CAM and Grad-CAM++: which positions of a feature map speak for the value explained."""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.config import check_names
from analyzer.errors import ConfigError, Unsupported
from analyzer.inspection.selection import select_calls
from analyzer.relevance.attributions.method import Batch, Floats, Method, Part, Question
from analyzer.relevance.attributions.passing import Array, Pass
from analyzer.relevance.attributions.spatial import FeatureMap, feature_maps, resized


class GradCam(Method):
    """Grad-CAM (Selvaraju et al., 2017, arXiv 1610.02391): channels weighted by their mean gradient, clipped at 0.

    `Part.layers` has each channel's share before the clipping; `Part.inputs` the map on the grid of the input, shared
    equally among the input's channels, so that their sum is the map.
    """

    needs_sites = False

    def __init__(self, question: Question, *, layer: Any = None, input: str | None = None) -> None:
        """Choose the feature map.

        Args:
            question: What is explained.
            layer: The layer, as in ``layers=``; None for the last one with positions of the input's rank.
            input: The input that the map lies on; None where only one fits.
        """
        super().__init__(question)
        self.feature_map = self._feature_map(layer)
        self.input = self._input(input)
        self.taps = frozenset({self.feature_map.id})

    def _begun(self, passing: Pass) -> None:
        del passing
        where = f"The feature map is that of {self.feature_map.id!r}, {' × '.join(map(str, self.feature_map.shape))}"
        self.notes.append(f"{where}, interpolated to the input; the sum over an input's channels is the map.")

    def _part(self, passing: Pass, batch: Batch) -> Part:
        found = passing.gradients(batch.flat, batch.rows)
        value, gradient = (array.astype(np.float64) for array in found.taps[self.feature_map.id])
        if self.feature_map.channels_first:
            value, gradient = np.moveaxis(value, 1, -1), np.moveaxis(gradient, 2, -1)
        shares = self.channel_weights(value[None], gradient) * value[None]
        cam = np.maximum(shares.sum(-1), 0)
        layer = np.moveaxis(shares, -1, 2) if self.feature_map.channels_first else shares
        return Part(
            score=found.score,
            chosen=found.chosen,
            inputs={self.input: self._on_input(cam, batch.flat[self.input])},
            layers={self.feature_map.id: layer},
        )

    def channel_weights(self, value: Floats, gradient: Floats) -> Floats:
        """Weights of channels, ``(k, n, 1, ..., channels)``, from what the layer returned and its gradient."""
        del value
        return np.asarray(gradient.mean(axis=tuple(range(2, gradient.ndim - 1)), keepdims=True))

    def _on_input(self, cam: Floats, x: Array) -> Array:
        sizes = self._positions(x.shape)
        wide = resized(cam, sizes)
        if len(sizes) == x.ndim - 1:
            return wide
        axis = 2 if self.feature_map.channels_first else wide.ndim
        channels = x.shape[axis - 1]
        return np.repeat(np.expand_dims(wide / channels, axis), channels, axis=axis)

    def _positions(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Those axes of an input that are positions of the feature map."""
        rank, sizes = len(self.feature_map.shape), shape[1:]
        if len(sizes) == rank:
            return sizes
        return sizes[1:] if self.feature_map.channels_first else sizes[:-1]

    def _feature_map(self, layer: Any) -> FeatureMap:
        known = feature_maps(self.question.plan)
        if layer is not None:
            calls = {call.id for call in select_calls(self.question.plan.view, layer)}
            chosen = [one for one in known if one.id in calls]
            if len(chosen) != 1 or len(calls) != 1:
                raise ConfigError(
                    f"options['layer']={layer!r} stands for {', '.join(sorted(calls))}: expected one call of one layer "
                    f"that returns positions and channels, such as {known[-1].id if known else 'a convolution'!r}."
                )
            return chosen[0]
        fitting = [one for one in known if self._fitting(one) and int(np.prod(one.shape)) > 1]
        if not fitting:
            raise Unsupported(
                "No layer of this model returns a feature map with positions of the input's rank, so there is nothing "
                "that Grad-CAM could weight. Use another method."
            )
        return fitting[-1]

    def _fitting(self, one: FeatureMap) -> list[int]:
        """Numbers of the inputs that a feature map can lie on: its positions, with or without channels."""
        rank = len(one.shape)
        exact = [i for i, x in enumerate(self.question.flat) if x.ndim - 2 == rank and not self.question.whole(i)]
        return exact or [i for i, x in enumerate(self.question.flat) if x.ndim - 1 == rank]

    def _input(self, name: str | None) -> int:
        fitting = [self.question.names[i] for i in self._fitting(self.feature_map)]
        if name is not None:
            check_names([name], fitting, what="input for this feature map")
            return list(self.question.names).index(name)
        if len(fitting) != 1:
            raise ConfigError(
                f"The feature map of {self.feature_map.id!r} has {len(self.feature_map.shape)} axes of positions, and "
                f"{len(fitting)} inputs fit it ({', '.join(fitting) or 'none'}): "
                + ("choose one by options={'input': name}." if fitting else "choose another layer.")
            )
        return list(self.question.names).index(fitting[0])


class GradCamPlusPlus(GradCam):
    """Grad-CAM++ (Chattopadhay et al., 2018, arXiv 1710.11063): positions weighted by how much they alone explain.

    For the exponential of the value explained; its own factor, which is the same everywhere in a sample, is left out.
    """

    def channel_weights(self, value: Floats, gradient: Floats) -> Floats:
        """Weights of channels: ``sum_ij alpha_ij relu(g_ij)``, ``alpha = g² / (2 g² + g³ sum_ab A_ab)``."""
        positions = tuple(range(2, gradient.ndim - 1))
        below = 2 * gradient**2 + gradient**3 * value.sum(positions, keepdims=True)
        alpha = np.divide(gradient**2, below, out=np.zeros_like(below), where=below != 0)
        return np.asarray((alpha * np.maximum(gradient, 0)).sum(positions, keepdims=True))
