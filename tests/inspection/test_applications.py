"""Every architecture of `keras.applications` opens: parameters once, order that follows the data, unique ids.

Initial values do not matter here and would cost minutes, so all are zero.
"""

import gc
import inspect
from dataclasses import replace

import keras
import pytest

from analyzer.inspection import open_model

BACKEND = keras.backend.backend()

# Keras itself refuses: "NASNetMobile is not available with the torch backend at this time".
NOT_ON_TORCH = {"NASNetLarge", "NASNetMobile"}

ARCHITECTURES = sorted(
    name
    for name, builder in vars(keras.applications).items()
    if inspect.isfunction(builder) and not (BACKEND == "torch" and name in NOT_ON_TORCH)
)

SAMPLE = ["ConvNeXtTiny", "DenseNet121", "EfficientNetV2B0", "MobileNet", "MobileNetV3Small", "ResNet50V2", "Xception"]
"""One per family that builds in a few seconds; the whole table is marked `full`."""


@pytest.fixture
def zero_weights(monkeypatch):
    def zeros(self, shape, dtype=None, **kwargs):
        return keras.ops.zeros(shape, dtype)

    for kind in ("VarianceScaling", "RandomNormal", "RandomUniform", "TruncatedNormal"):
        monkeypatch.setattr(getattr(keras.initializers, kind), "__call__", zeros)
    yield
    gc.collect()


def producers(view):
    """Which layer made each symbolic tensor of the model, for layers that ran once."""
    made = {}
    for layer in view.layers:
        if layer.calls == 1 and not isinstance(layer.layer, keras.Model):
            for tensor in keras.tree.flatten(layer.layer.output):
                made[id(tensor)] = layer.order
    return made


def check(name):
    model = getattr(keras.applications, name)(weights=None)
    view = open_model(model)
    assert view.traced
    assert sum(variable.size for variable in view.variables) == model.count_params()
    assert len(view.variables) == len(model.weights)
    ids = [layer.id for layer in view.layers] + [variable.id for variable in view.variables]
    assert len(set(ids)) == len(ids)
    assert [head.activation for head in view.heads] == ["softmax"]
    assert [layer.calls for layer in view.layers] == [1] * len(view.layers)
    check_order(view)


def check_order(view):
    """Every layer comes after those that made its inputs; Keras' own graph says which."""
    made, edges = producers(view), 0
    for layer in view.layers:
        try:
            inputs = keras.tree.flatten(layer.layer.input)
        except (AttributeError, ValueError):
            # Inside a layer that is no Functional model, Keras keeps no graph.
            continue
        for tensor in inputs:
            if id(tensor) in made:
                edges += 1
                assert made[id(tensor)] < layer.order
    assert edges >= 0.5 * len(view.layers)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_one_of_each_family(name, zero_weights):
    check(name)


@pytest.mark.full
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture(name, zero_weights):
    check(name)


def test_the_table_holds_every_architecture():
    assert set(SAMPLE) <= set(ARCHITECTURES)
    refused = NOT_ON_TORCH if BACKEND == "torch" else set()
    assert len(ARCHITECTURES) + len(refused) >= 38


def test_a_wrong_order_would_be_noticed():
    x = keras.Input((2,))
    model = keras.Model(x, keras.layers.Dense(2)(keras.layers.Dense(2)(x)))
    view = open_model(model)
    check_order(view)
    backwards = tuple(replace(layer, order=-layer.order) for layer in view.layers)
    with pytest.raises(AssertionError):
        check_order(replace(view, layers=backwards))
