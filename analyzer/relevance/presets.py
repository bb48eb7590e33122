"""Presets: which rule for which kind of layer, as values to read, copy and change."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from analyzer.config import check_names
from analyzer.errors import ConfigError
from analyzer.relevance.contrastive import Contrastive
from analyzer.relevance.rules import AlphaBeta, Epsilon, Flat, Gamma, Magnitude, Rule, WSquare, ZBox, ZPlus

Attention = Literal["attn_lrp", "cp_lrp"]
Product = Literal["uniform", "signal"]
Sum = Literal["value", "magnitude"]
Pooling = Literal["winner", "proportional"]
Normalization = Literal["fold", "affine", "pass"]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Rules by kind of layer.

    Copy and change with ``dataclasses.replace`` or `with_rules`.

    Attributes:
        name: What it is called in results.
        dense: For Dense and EinsumDense, and the projections of attention.
        convolution: For convolutions of any kind.
        recurrent: For the matrix products inside recurrent layers.
        first: For the first linear layer that sees an input; None for no special rule.
        overrides: Rules by layer class, class name or id of a layer; they come before all others.
        attention: ``"attn_lrp"`` lets relevance through the softmax (Achtibat et al., 2024), ``"cp_lrp"`` takes the
            attention weights as constants (Ali et al., 2022).
        product: ``"uniform"`` gives each factor of a product the same share; ``"signal"`` gives all to the factor that
            is no gate, where one comes out of a sigmoid or softmax (Arras et al., 2017).
        gates: The same, inside recurrent cells.
        sum: ``"value"`` splits a sum by the signed values of its terms, ``"magnitude"`` by their absolute values.
        pooling: Max-pooling: ``"winner"`` takes all, or ``"proportional"`` to the values in the window.
        batch_normalization: ``"fold"`` into the linear layer before it where there is one, else as ``"affine"`` map;
            or ``"pass"`` relevance unchanged.
        contrastive: Whether two maps travel together, for what is explained and for its alternatives; see
            `contrastive`.
    """

    name: str
    dense: Rule = field(default_factory=Epsilon)
    convolution: Rule = field(default_factory=Epsilon)
    recurrent: Rule = field(default_factory=Epsilon)
    first: Rule | None = None
    overrides: Mapping[Any, Rule] = field(default_factory=dict)
    attention: Attention = "attn_lrp"
    product: Product = "uniform"
    gates: Product = "signal"
    sum: Sum = "value"
    pooling: Pooling = "winner"
    batch_normalization: Normalization = "fold"
    contrastive: bool = False

    def with_rules(self, rules: Mapping[Any, Rule], *, name: str | None = None) -> Preset:
        """A copy with rules for single layers or classes.

        Args:
            rules: Rule by layer class, class name or id of a layer.
            name: What the copy is called; None for the name with an asterisk.

        Raises:
            ConfigError: If something is no rule.
        """
        for key, rule in rules.items():
            if not isinstance(rule, Rule):
                raise ConfigError(f"The rule for {key!r} is {rule!r}: expected a value of analyzer.relevance.rules.")
        return dataclasses.replace(self, overrides={**self.overrides, **rules}, name=name or f"{self.name}*")

    def with_zero_bias(self) -> Preset:
        """A copy in which no bias of a linear layer absorbs relevance."""

        def bare(rule: Rule) -> Rule:
            return dataclasses.replace(rule, zero_bias=True)

        return dataclasses.replace(
            self,
            dense=bare(self.dense),
            convolution=bare(self.convolution),
            recurrent=bare(self.recurrent),
            first=None if self.first is None else bare(self.first),
            overrides={key: bare(rule) for key, rule in self.overrides.items()},
        )


def epsilon(epsilon: float = 1e-6) -> Preset:
    """LRP-ε everywhere."""
    rule = Epsilon(epsilon=epsilon)
    return Preset(name="epsilon", dense=rule, convolution=rule, recurrent=rule)


def epsilon_plus() -> Preset:
    """z⁺ for convolutions, ε for the rest."""
    return Preset(name="epsilon_plus", convolution=ZPlus())


def epsilon_plus_flat() -> Preset:
    """As `epsilon_plus`, and flat in the first layer."""
    return Preset(name="epsilon_plus_flat", convolution=ZPlus(), first=Flat())


def epsilon_gamma_box(low: float, high: float) -> Preset:
    """γ for convolutions, ε for the rest, z-box in the first layer.

    Args:
        low: Smallest value that an input can have.
        high: Largest value.
    """
    return Preset(name="epsilon_gamma_box", convolution=Gamma(), first=ZBox(low, high))


def epsilon_alpha2_beta1() -> Preset:
    """α2β1 for convolutions, ε for the rest."""
    return Preset(name="epsilon_alpha2_beta1", convolution=AlphaBeta())


def epsilon_alpha2_beta1_flat() -> Preset:
    """As `epsilon_alpha2_beta1`, and flat in the first layer."""
    return Preset(name="epsilon_alpha2_beta1_flat", convolution=AlphaBeta(), first=Flat())


def alpha_beta(alpha: float = 2.0, beta: float = 1.0) -> Preset:
    """αβ for every linear layer."""
    rule = AlphaBeta(alpha=alpha, beta=beta)
    return Preset(name="alpha_beta", dense=rule, convolution=rule, recurrent=rule)


def z_plus() -> Preset:
    """z⁺ for every linear layer (deep Taylor decomposition)."""
    return Preset(name="z_plus", dense=ZPlus(), convolution=ZPlus(), recurrent=ZPlus())


def gamma(gamma: float = 0.25) -> Preset:
    """γ for every linear layer."""
    rule = Gamma(gamma=gamma)
    return Preset(name="gamma", dense=rule, convolution=rule, recurrent=rule)


def w_square() -> Preset:
    """ε, with w² in the first layer."""
    return Preset(name="w_square", first=WSquare())


def attn_lrp() -> Preset:
    """AttnLRP: ε, relevance through the softmax of attention, products shared equally (Achtibat et al., 2024)."""
    return Preset(name="attn_lrp", gates="uniform")


def cp_lrp() -> Preset:
    """CP-LRP: attention weights are constants (Ali et al., 2022)."""
    return Preset(name="cp_lrp", attention="cp_lrp", product="signal")


def magnitude() -> Preset:
    """The magnitude flow of DLBacktrace's default mode, with its activation ranges (arXiv 2411.12643)."""
    rule = Magnitude(gates=True)
    return Preset(name="magnitude", dense=rule, convolution=rule, recurrent=rule, attention="cp_lrp", sum="magnitude")


def contrastive() -> Preset:
    """DLBacktrace's contrastive mode: one map for what is explained, one for all other outputs (arXiv 2411.12643)."""
    rule = Contrastive()
    return Preset(
        name="contrastive",
        dense=rule,
        convolution=rule,
        recurrent=rule,
        attention="cp_lrp",
        sum="magnitude",
        contrastive=True,
    )


PRESETS = {
    made.__name__: made
    for made in (
        epsilon,
        epsilon_plus,
        epsilon_plus_flat,
        epsilon_gamma_box,
        epsilon_alpha2_beta1,
        epsilon_alpha2_beta1_flat,
        alpha_beta,
        z_plus,
        gamma,
        w_square,
        attn_lrp,
        cp_lrp,
        magnitude,
        contrastive,
    )
}
"""Functions that make a preset, by name."""


def preset_of(method: str | Preset) -> Preset:
    """The preset that ``method=`` stands for.

    Args:
        method: A preset, or the name of one that needs no arguments.

    Raises:
        ConfigError: If there is none of that name, or it needs arguments.
    """
    if isinstance(method, Preset):
        return method
    check_names([method], list(PRESETS), what="method")
    if method == "epsilon_gamma_box":
        raise ConfigError(
            "method='epsilon_gamma_box' needs the range of the inputs: give "
            "method=analyzer.relevance.presets.epsilon_gamma_box(low, high), e.g. (0, 1)."
        )
    make: Callable[[], Preset] = PRESETS[method]  # type: ignore[assignment]
    return make()
