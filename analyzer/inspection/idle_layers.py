"""Layers that do nothing at inference."""

from __future__ import annotations

import keras

L = keras.layers

IDLE: tuple[type, ...] = (
    L.Identity,
    L.Dropout,
    L.SpatialDropout1D,
    L.SpatialDropout2D,
    L.SpatialDropout3D,
    L.AlphaDropout,
    L.GaussianDropout,
    L.GaussianNoise,
    L.ActivityRegularization,
)
"""They hand on what they get: dropout, noise, and penalties on activations."""
