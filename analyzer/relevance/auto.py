"""``method="auto"``: a preset chosen by the layers found."""

from __future__ import annotations

import keras

from analyzer.relevance.presets import Preset, attn_lrp, epsilon, epsilon_plus
from analyzer.relevance.tracing import Plan

L = keras.layers

_ATTENTION = tuple(
    getattr(L, n) for n in ("MultiHeadAttention", "GroupQueryAttention", "Attention", "AdditiveAttention")
)
_CONVOLUTIONS = (
    L.Conv1D,
    L.Conv2D,
    L.Conv3D,
    L.DepthwiseConv2D,
    L.SeparableConv2D,
    L.Conv2DTranspose,
    L.Conv1DTranspose,
)


def choose(plan: Plan) -> tuple[Preset, str]:
    """A preset, and why.

    Args:
        plan: The opened model.
    """
    ran = {firing.place for firing in plan.view.firings}
    places = [place for index, place in plan.places.items() if index in ran or not plan.view.traced]
    if any(isinstance(place, _ATTENTION) for place in places):
        return attn_lrp(), "auto chose attn_lrp: the model has attention, whose softmax it lets relevance through."
    if any(isinstance(place, _CONVOLUTIONS) for place in places):
        return epsilon_plus(), "auto chose epsilon_plus: the model has convolutions, in which ε alone gives noisy maps."
    return epsilon(), "auto chose epsilon: the model has neither convolutions nor attention."
