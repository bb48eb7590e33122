"""What passes through the layers: level of activations, gain from layer to layer, gradients that come back."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from analyzer.data_types.information_flow import InformationFlowResult, LayerFlow
from analyzer.data_types.values import Estimate
from analyzer.visualizers.panels.base import caption, panel
from analyzer.visualizers.panels.flow_lines import (
    DETAILED_UP_TO,
    draw_beside,
    draw_values,
    draw_zeros,
    finish,
    log_axis,
    positive,
    share_axis,
)
from analyzer.visualizers.panels.flow_rows import LayerRows, samples, say_nothing
from analyzer.visualizers.series import Pen, Series, sample_sizes
from analyzer.visualizers.style import MUTED
from analyzer.visualizers.text import displayable


@panel("activations", InformationFlowResult)
def activations(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Mean activation of each layer, one standard deviation to either side, and the extremes.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    rows = LayerRows.of(series, pen.most_layers)
    ax.axvline(0, color=MUTED, linewidth=0.6 * pen.line)
    thick = (2.6 if len(series) < 4 else 1.4) * pen.line
    broken = False
    for s in series:
        known = [(i + rows.offset(s), layer) for i, layer in enumerate(rows.layers(s)) if layer.mean is not None]
        broken |= len(known) < len(rows.ids)
        ends = [_deviation(layer) for _, layer in known]
        at = [y for y, _ in known]
        ax.hlines(at, [e[0] for e in ends], [e[1] for e in ends], color=s.color, linewidth=thick, alpha=0.5)
        means = rows.values(s, lambda layer: layer.mean)
        places = [i + rows.offset(s) for i in range(len(rows.ids))]
        ax.plot(means, places, color=s.color, marker=s.marker, linestyle=s.linestyle, linewidth=0.7 * pen.line)
    ax.set_xlabel("Activation")
    gaps = "no mark: no finite mean" if broken else ""
    words = "mean ± standard deviation, cut at the extremes that occurred"
    kinds = ("exploding_activations", "not_finite")
    finish(ax, rows, pen, "Activations", samples(series), words, gaps, kinds=kinds)


def _deviation(layer: LayerFlow) -> tuple[float, float]:
    """One standard deviation to either side of the mean; a rectifier, for one, has no activation below zero."""
    mean, std = layer.mean or 0.0, layer.std or 0.0
    low = mean - std if layer.min is None else max(mean - std, layer.min)
    high = mean + std if layer.max is None else min(mean + std, layer.max)
    return low, high


@panel("gradients", InformationFlowResult)
def gradients(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Size of the gradient of the loss at the output of each layer, on a logarithmic axis.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    rows = LayerRows.of(series, pen.most_layers)
    title = "Gradients"
    if not rows.has(_gradient_norm):
        say_nothing(ax, pen, title, "; ".join(gradient_reasons(series)) or "no gradients")
        return
    detailed = pen.extras and len(series) <= DETAILED_UP_TO and bool(rows.has(lambda layer: layer.gradient_scale))
    zeros = False
    for s in series:
        draw_values(ax, rows, s, lambda layer: positive(layer.gradient_norm), pen)
        zeros |= draw_zeros(ax, rows, s, _gradient_norm)
        if detailed:
            draw_beside(ax, rows, s, lambda layer: positive(layer.gradient_scale), pen)
    log_axis(ax, "Gradient of the loss")
    words = "norm for one sample, mean; hollow: RMS per element" if detailed else "norm for one sample, mean"
    sizes = sample_sizes([s.result.gradients.n for s in series if s.result.gradients] or [0])
    kinds = ("vanishing_gradient", "exploding_gradient", "dead_gradient")
    details = (words, "◂ zero" if zeros else "", "; ".join(gradient_reasons(series)))
    finish(ax, rows, pen, title, sizes, *details, kinds=kinds)


def _gradient_norm(layer: LayerFlow) -> Estimate | None:
    return layer.gradient_norm


def gradient_reasons(series: Sequence[Series]) -> list[str]:
    """Why models have no gradients.

    Args:
        series: Information flow results.
    """
    missing = [s for s in series if s.result.gradients is None]
    reasons = [displayable(s.result.gradients_reason or "not computed") for s in missing]
    if len(missing) == len(series) and len(set(reasons)) == 1:
        return reasons[:1]
    names = [s.label.replace("\n", "") for s in missing]
    return [f"none for {name}: {reason}" for name, reason in zip(names, reasons, strict=True)]


@panel("gain", InformationFlowResult)
def gain(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Mean square of each layer's output over that of its input, on a logarithmic axis.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    rows = LayerRows.of(series, pen.most_layers)
    if not rows.has(lambda layer: layer.gain):
        say_nothing(ax, pen, "Gain", "the inputs of the layers are not known")
        return
    ax.axvline(1, color=MUTED, linewidth=0.6 * pen.line)
    zeros = False
    for s in series:
        draw_values(ax, rows, s, lambda layer: positive(layer.gain), pen)
        zeros |= draw_zeros(ax, rows, s, lambda layer: layer.gain)
    log_axis(ax, "Gain")
    words = "mean square, output over input"
    kinds = ("exploding_activations",)
    finish(ax, rows, pen, "Gain", samples(series), words, "◂ zero" if zeros else "", kinds=kinds)


@panel("input_cosine", InformationFlowResult)
def input_cosine(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Cosine between the activations of different samples at each layer.

    Args:
        ax: The axes.
        series: Models of one architecture.
        pen: Sizes.
    """
    rows = LayerRows.of(series, pen.most_layers)
    title = "Cosine of inputs"
    if not rows.has(lambda layer: layer.input_cosine):
        say_nothing(ax, pen, title, "no rows were kept")
        return
    for s in series:
        draw_values(ax, rows, s, lambda layer: layer.input_cosine, pen)
    share_axis(ax, "Mean cosine")
    ax.axvline(1, color=MUTED, linewidth=0.6 * pen.line)
    finish(ax, rows, pen, title, samples(series, kept=True), "1: samples are told apart no more")


@panel("model_flow", InformationFlowResult)
def model_flow(ax: Axes, series: Sequence[Series], pen: Pen) -> None:
    """Share of zeros along the depth of each model: comparable between architectures.

    Args:
        ax: The axes.
        series: Information flow results.
        pen: Sizes.
    """
    for s in series:
        layers = s.result.layers
        depth = [(i + 1) / len(layers) for i in range(len(layers))]
        ax.plot(
            depth,
            [layer.sparsity for layer in layers],
            color=s.color,
            marker=s.marker,
            linestyle=s.linestyle,
            markevery=max(1, len(layers) // 8),
        )
    ax.set(xlim=(0, 1.03), ylim=(-0.03, 1.03))
    ax.set_xlabel("Depth (first layer to last)")
    ax.set_ylabel("Share of zero activations")
    ax.grid(visible=True)
    caption(ax, pen, "Zeros along the depth", f"{samples(series)} samples")
