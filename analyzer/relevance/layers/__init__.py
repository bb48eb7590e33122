"""Rules for the layers of Keras, by kind; importing this registers them."""

from analyzer.relevance.layers import (
    activations,
    dense,
    merging,
    normalization,
    structure,
)

__all__ = ["activations", "dense", "merging", "normalization", "structure"]
