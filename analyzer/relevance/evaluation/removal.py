"""`Removal`: what a feature is, and what stands in its place once it is taken away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from analyzer.config import check_names
from analyzer.errors import ConfigError, DataError, Unsupported

Inputs = NDArray[Any] | Mapping[str, NDArray[Any]]
"""One array ``(n, ...)``, or arrays by name of the input."""

Features = Literal["auto", "positions", "elements"]
Baseline = str | float | NDArray[Any] | Mapping[str, Any]

BASELINES = ("auto", "zeros", "mean", "sample_mean", "blur")
BLUR = 0.1
"""Standard deviation of the blur, as a share of each side of the image."""

_SINGLE = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Removal:
    """Inputs whose features can be taken away; made by `removal_of`.

    Attributes:
        inputs: Arrays by name; of a single array, under the empty name.
        replacements: What stands in place of a feature, broadcast to the inputs' shapes.
        channels: Axis whose elements belong to one feature; None where every element is a feature.
        baseline: What features are replaced by, as text.
    """

    inputs: dict[str, NDArray[Any]]
    replacements: dict[str, NDArray[Any]]
    channels: dict[str, int | None]
    baseline: str

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(next(iter(self.inputs.values())))

    @property
    def n_features(self) -> int:
        """Number of features of a sample, over all inputs."""
        return sum(int(np.prod(self.feature_shape(name), dtype=np.int64)) for name in self.inputs)

    def feature_shape(self, name: str) -> tuple[int, ...]:
        """Shape of one input's features: its own per sample, without the axis of channels."""
        shape, axis = self.inputs[name].shape, self.channels[name]
        return tuple(size for i, size in enumerate(shape) if i not in (0, axis))

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Height and width where there is one input and its features are pixels; else None."""
        shapes = [self.feature_shape(name) for name in self.inputs]
        return (shapes[0][0], shapes[0][1]) if len(shapes) == 1 and len(shapes[0]) == 2 else None

    @property
    def whole(self) -> Inputs:
        """The inputs as they came."""
        return self._packed(self.inputs)

    def scores(self, maps: Inputs) -> NDArray[np.float64]:
        """Relevance of every feature, channels summed, ``(n, p)`` in float64.

        Args:
            maps: In the structure and shapes of the inputs; the axis of channels may be summed already.

        Raises:
            DataError: If they have other names or shapes.
        """
        given = _by_name(maps)
        if set(given) != set(self.inputs):
            if len(given) != 1 or len(self.inputs) != 1:
                raise DataError(f"Maps of {sorted(given)} do not fit inputs {sorted(self.inputs)}.")
            given = {next(iter(self.inputs)): next(iter(given.values()))}
        return np.concatenate([self._features(name, np.asarray(given[name])) for name in self.inputs], axis=1)

    def without(self, gone: NDArray[np.bool_]) -> Inputs:
        """The inputs with some features replaced.

        Args:
            gone: ``(n, p)``.
        """
        made, start = {}, 0
        for name, x in self.inputs.items():
            shape, axis = self.feature_shape(name), self.channels[name]
            size = int(np.prod(shape, dtype=np.int64))
            mask = gone[:, start : start + size].reshape(len(x), *shape)
            mask = mask if axis is None else np.expand_dims(mask, axis)
            made[name] = np.where(mask, self.replacements[name], x)
            start += size
        return self._packed(made)

    def moved(self, radius: float, rng: np.random.Generator) -> Inputs:
        """The inputs with uniform noise of at most ``radius`` standard deviations of each input's values.

        Raises:
            Unsupported: If no input is made of real numbers.
        """
        floats = [name for name, x in self.inputs.items() if np.issubdtype(x.dtype, np.floating)]
        if not floats:
            raise Unsupported("All inputs are whole numbers (tokens): there is no slightly different input.")
        made = dict(self.inputs)
        for name in floats:
            x = self.inputs[name]
            reach = radius * float(np.nanstd(x, dtype=np.float64))
            made[name] = (x + rng.uniform(-reach, reach, x.shape)).astype(x.dtype)
        return self._packed(made)

    def with_values(self, arrays: dict[str, NDArray[Any]]) -> Inputs:
        """Arrays by name in the structure of the inputs, for maps that are made up."""
        return self._packed(arrays)

    def _features(self, name: str, array: NDArray[Any]) -> NDArray[np.float64]:
        shape, wanted = self.inputs[name].shape, (self.n, *self.feature_shape(name))
        if array.shape not in (shape, wanted):
            raise DataError(
                f"The map of input {name or 'x'!r} has shape {array.shape}: expected that of the input, {shape}"
                f"{'' if shape == wanted else f', or {wanted} with channels summed'}."
            )
        values = array.astype(np.float64)
        if array.shape == shape and self.channels[name] is not None:
            values = values.sum(axis=self.channels[name])
        return values.reshape(self.n, -1)

    def _packed(self, arrays: dict[str, NDArray[Any]]) -> Inputs:
        return arrays[_SINGLE] if set(arrays) == {_SINGLE} else dict(arrays)


def removal_of(
    x: Inputs, *, features: Features = "auto", baseline: Baseline = "auto", channel_axis: int = -1
) -> Removal:
    """Prepare inputs for having features taken away.

    Images without an axis of channels, ``(n, height, width)``, need ``features="elements"``.

    Args:
        x: One array ``(n, ...)`` or arrays by name; whole numbers are tokens.
        features: ``"positions"`` takes all channels of a pixel or step together, ``"elements"`` takes each number by
            itself; ``"auto"``: positions where an input of real numbers has channels (three or more axes).
        baseline: What stands in place of a feature: ``"zeros"``; ``"mean"``, the mean of that element over all samples;
            ``"sample_mean"``, the mean over the positions of the same sample and channel; ``"blur"``, the image blurred
            by a tenth of its sides; a number (for tokens the id of a mask or padding token); an array that broadcasts
            to x; or any of these by name of the input. ``"auto"``: the mean, and 0 for tokens.
        channel_axis: Axis of the channels, where positions are features.

    Raises:
        ConfigError: If an option has no such value, or does not apply to an input.
        DataError: If the inputs are empty or have different numbers of samples.
    """
    check_names([features], ["auto", "positions", "elements"], what="features")
    inputs = {name: np.asarray(array) for name, array in _by_name(x).items()}
    if len({array.shape[:1] for array in inputs.values()}) != 1 or any(array.size == 0 for array in inputs.values()):
        shapes = {name or "x": array.shape for name, array in inputs.items()}
        raise DataError(f"x has shapes {shapes}: expected (n, ...) with the same n of at least 1, and some features.")
    given = dict(baseline) if isinstance(baseline, Mapping) else dict.fromkeys(inputs, baseline)
    check_names(given, list(inputs), what="input")
    channels = {name: _channel_axis(array, features, channel_axis) for name, array in inputs.items()}
    chosen = {name: _resolved(given.get(name, "auto"), array) for name, array in inputs.items()}
    return Removal(
        inputs=inputs,
        replacements={
            name: np.broadcast_to(_replacement(name, array, chosen[name], channel_axis), array.shape)
            for name, array in inputs.items()
        },
        channels=channels,
        baseline=", ".join(dict.fromkeys(_text(one) for one in chosen.values())),
    )


def _by_name(x: Inputs) -> dict[str, NDArray[Any]]:
    return dict(x) if isinstance(x, Mapping) else {_SINGLE: x}


def _is_float(x: NDArray[Any]) -> bool:
    return bool(np.issubdtype(x.dtype, np.floating))


def _channel_axis(x: NDArray[Any], features: Features, axis: int) -> int | None:
    has_channels = _is_float(x) and x.ndim >= 3
    return axis % x.ndim if has_channels and features != "elements" else None


def _resolved(baseline: Any, x: NDArray[Any]) -> Any:
    if isinstance(baseline, str) and baseline == "auto":
        return "mean" if _is_float(x) else 0
    return baseline


def _replacement(name: str, x: NDArray[Any], baseline: Any, axis: int) -> NDArray[Any]:
    if isinstance(baseline, str):
        check_names([baseline], BASELINES, what="baseline")
        if baseline == "zeros":
            return np.zeros((), x.dtype)
        if not _is_float(x):
            raise ConfigError(
                f"baseline={baseline!r}: input {name or 'x'!r} has dtype {x.dtype}, and tokens have no mean. Give the "
                "id of a mask or padding token, e.g. baseline=0."
            )
        return _computed(name, x, baseline, axis).astype(x.dtype)
    try:
        made = np.asarray(baseline)
        np.broadcast_to(made, x.shape)
        finite = bool(np.isfinite(made).all())
    except (TypeError, ValueError):
        finite = False
    if not finite or (not _is_float(x) and not np.equal(np.mod(made, 1), 0).all()):
        raise ConfigError(
            f"baseline={baseline!r} for input {name or 'x'!r} of shape {x.shape} and dtype {x.dtype}: expected one of "
            f"{', '.join(BASELINES)}, a number, or an array that broadcasts to the input."
        )
    return made.astype(x.dtype)


def _computed(name: str, x: NDArray[Any], baseline: str, axis: int) -> NDArray[Any]:
    if baseline == "mean":
        return np.asarray(x.mean(axis=0, keepdims=True, dtype=np.float64))
    positions = tuple(i for i in range(1, x.ndim) if x.ndim < 3 or i != axis % x.ndim)
    if baseline == "sample_mean":
        return np.asarray(x.mean(axis=positions, keepdims=True, dtype=np.float64))
    if x.ndim < 3:
        raise ConfigError(f"baseline='blur': input {name or 'x'!r} has shape {x.shape} and no neighbours to blur with.")
    sigma = [BLUR * x.shape[i] if i in positions else 0.0 for i in range(x.ndim)]
    return np.asarray(gaussian_filter(x.astype(np.float64), sigma, mode="nearest"))


def _text(baseline: Any) -> str:
    if isinstance(baseline, str):
        return baseline
    return f"{np.asarray(baseline).item():g}" if np.ndim(baseline) == 0 else "given values"
