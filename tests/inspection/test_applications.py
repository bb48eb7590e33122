"""Every architecture of `keras.applications` opens: parameters once, order that follows the data, unique ids.

Initial values do not matter there and would cost minutes, so all are zero. Those that most people use also run through
the whole analysis of information flow, on small images, with weights that let a signal pass.
"""

import gc
import inspect
from dataclasses import replace

import keras
import numpy as np
import pytest

from analyzer import AnalysisConfig, AnalysisResults, DataInput, ModelAnalyzer
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


FLOWING = {
    "ResNet50": 64,
    "MobileNetV3Small": 64,
    "MobileNetV3Large": 64,
    "EfficientNetV2B0": 64,
    "ConvNeXtTiny": 64,
    "VGG16": 64,
    "DenseNet121": 64,
    "Xception": 96,
}
"""Side of the images, in pixels, with which information flow is analysed to the end."""


def fill(model):
    """Weights of every layer drawn by NumPy, as large as keeps the mean square of a signal (He et al. 2015)."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if len(variable.shape) > 1:
            receives = np.prod(variable.shape[:2]) if "depthwise" in variable.path else np.prod(variable.shape[:-1])
            drawn = rng.standard_normal(variable.shape, dtype="float32") * np.sqrt(2.0 / receives).astype("float32")
            variable.assign(drawn)


def check_flow(name, folder, caplog):
    side = FLOWING[name]
    model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=10)
    fill(model)
    images = np.random.default_rng(1).uniform(0.0, 255.0, (4, side, side, 3)).astype("float32")
    config = AnalysisConfig(save_plots=False, progress=False, verbose=False, n_bootstrap=0, batch_size=2)
    data = DataInput(images, np.arange(4))
    results = ModelAnalyzer({name: model}, config=config, output_dir=folder).analyze(
        data, analysis_types=["information_flow"]
    )
    assert [record.getMessage() for record in caplog.records if record.name == "analyzer"] == []
    flow = results.information_flow[name]
    assert getattr(flow, "status", "ok") == "ok", flow
    kernels = {layer.name for layer in model.layers if any(len(weight.shape) > 1 for weight in layer.weights)}
    followed = {part for layer in flow.layers for part in layer.id.split("/")}
    assert len(kernels) > 10
    assert kernels - followed == set()
    assert not any(finding.kind == "not_finite" for finding in flow.findings)
    loaded = AnalysisResults.load(folder).information_flow[name]
    assert [layer.id for layer in loaded.layers] == [layer.id for layer in flow.layers]


@pytest.mark.slow
def test_information_flow_of_one(zero_weights, tmp_path, caplog):
    # The one with the fewest layers: compiling costs more than computing.
    check_flow("VGG16", tmp_path, caplog)


@pytest.mark.full
@pytest.mark.parametrize("name", FLOWING)
def test_information_flow_runs_to_the_end(name, zero_weights, tmp_path, caplog):
    check_flow(name, tmp_path, caplog)


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
