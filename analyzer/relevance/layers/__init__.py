"""Rules for the layers of Keras, by kind; importing this registers them."""

from analyzer.relevance.layers import (
    activations,
    attention,
    convolution,
    dense,
    embedding,
    merging,
    normalization,
    pooling,
    preprocessing,
    recurrent,
    structure,
    time_distributed,
)

__all__ = [
    "activations",
    "attention",
    "convolution",
    "dense",
    "embedding",
    "merging",
    "normalization",
    "pooling",
    "preprocessing",
    "recurrent",
    "structure",
    "time_distributed",
]
