"""Which layers a certificate covers: Keras' own, as they are, in models whose whole graph is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import keras

from analyzer.errors import Unsupported
from analyzer.inspection import compat
from analyzer.inspection.idle_layers import IDLE
from analyzer.inspection.logits import last_activations
from analyzer.inspection.selection import every_call
from analyzer.inspection.view import ModelView

L = keras.layers
Entry = TypeVar("Entry")


def _named(*names: str) -> tuple[type, ...]:
    """Layers that this Keras has."""
    return tuple(getattr(L, name) for name in names if hasattr(L, name))


UNCHANGING = (
    *IDLE,
    *_named("RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom"),
)
"""Nothing happens at inference."""

MOVING = (
    L.Flatten,
    L.Reshape,
    L.Permute,
    L.ZeroPadding1D,
    L.ZeroPadding2D,
    L.ZeroPadding3D,
    L.Cropping1D,
    L.Cropping2D,
    L.Cropping3D,
)
"""Values change places, are left out, or have zeros put beside them."""

AFFINE = (L.Rescaling, L.Normalization, L.BatchNormalization)
"""Every value by itself, by constants."""


def entry_of(place: Any, table: Mapping[type, Entry]) -> Entry | None:
    """What a table says of a layer; None where it says nothing.

    A subclass counts as its base only as long as it does not override `call`; quantised layers compute another thing.

    Args:
        place: A layer.
        table: By layer class.
    """
    if not isinstance(place, L.Layer) or getattr(place, "quantization_mode", None) is not None:
        return None
    for base in type(place).__mro__:
        if base in table:
            return table[base] if type(place).call is base.call else None  # type: ignore[attr-defined]
    return None


def operation_of(place: Any) -> str | None:
    """The lower-case name of one of Keras' own operations, as in ``a + b`` of a Functional model; None for layers."""
    if isinstance(place, L.Layer) or not type(place).__module__.startswith("keras."):
        return None
    return type(place).__name__.lower()


def is_container(place: Any) -> bool:
    """Whether a place only runs others along a known graph: a Sequential or Functional model that computes as such."""
    own = type(place).call.__module__ if isinstance(place, L.Layer) else ""
    return own.startswith("keras.") and isinstance(place, keras.Model) and bool(compat.operations(place))


def check_graph(view: ModelView, what: str) -> None:
    """Refuse models that may compute outside of layers and operations.

    Args:
        view: The opened model.
        what: What is asked for, for the message.

    Raises:
        Unsupported: For subclassed models, and models that could not be traced.
    """
    if not view.firings or not is_container(view.model):
        raise Unsupported(
            f"{what} follow the graph of a Sequential or Functional model; {view.model.name!r} computes in code of its "
            "own, which they cannot see. Attacks and randomised smoothing work on any model."
        )


def refusal(view: ModelView, index: int, what: str, why: str = "") -> Unsupported:
    """The error that says that a layer is not covered.

    Args:
        view: The opened model.
        index: Of the layer's place.
        what: What is asked for.
        why: What about the layer is not covered, if it is not the layer as a whole.
    """
    place = view.places[index]
    names = [call.id for (at, _), call in every_call(view).items() if at == index]
    name = names[0] if names else place.name
    return Unsupported(f"{what} do not cover the layer {name!r} ({type(place).__name__}){': ' + why if why else '.'}")


def last_dense(view: ModelView) -> int | None:
    """The Dense layer whose sums are the logits, if there is one that runs once on vectors.

    Args:
        view: The opened model.
    """
    head, cut = view.heads[0], last_activations(view)
    index = head.place
    if head.via == "input" and index in cut:
        index = _only_source(view, index)
    elif head.via != "output" and not (head.via == "activation" and index in cut):
        return None
    if index is None or (index != head.place and _has_activation(view.places[index])):
        return None
    return index if _is_plain_dense(view, index) else None


def _only_source(view: ModelView, index: int | None) -> int | None:
    """The place that one call of another took its only argument from."""
    calls = [firing for firing in view.firings if firing.place == index]
    if len(calls) != 1 or calls[0].inferred or len(calls[0].sources) != 1 or calls[0].sources[0] < 0:
        return None
    return view.firings[calls[0].sources[0]].place


def _has_activation(place: Any) -> bool:
    return getattr(place, "activation", None) is not keras.activations.linear


def _is_plain_dense(view: ModelView, index: int) -> bool:
    calls = [firing for firing in view.firings if firing.place == index]
    known = entry_of(view.places[index], {L.Dense: True})
    return bool(known) and len(calls) == 1 and len(calls[0].input_shapes[0]) == 2
