"""KerasHub backbones, built small from their config: each opens, its layers are followed, and a whole audit runs.

They are what users bring: layers two and three levels deep, inputs by name, experts in one variable, rotary embeddings.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras_hub.models import BertBackbone, Llama3Backbone, MixtralBackbone, ViTBackbone

from analyzer import AnalysisConfig, DataInput, ModelAnalyzer
from analyzer.analyzers.registry import analyzer_classes
from analyzer.data_types import AnalysisResults, Failed, MultiOutput, Skipped
from analyzer.inspection import inputs, open_model

pytestmark = pytest.mark.slow

N, LENGTH, WORDS = 6, 8, 40


def bert():
    return BertBackbone(
        vocabulary_size=WORDS,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=LENGTH,
    )


def llama3():
    return Llama3Backbone(
        vocabulary_size=WORDS,
        num_layers=2,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=16,
        intermediate_dim=24,
    )


def mixtral():
    return MixtralBackbone(
        vocabulary_size=WORDS,
        num_layers=1,
        num_query_heads=2,
        num_key_value_heads=2,
        hidden_dim=8,
        intermediate_dim=12,
        num_experts=3,
        top_k=2,
    )


def vit():
    return ViTBackbone(
        image_shape=(16, 16, 3),
        patch_size=(8, 8),
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
    )


@dataclass(frozen=True)
class Backbone:
    """How it is built, and classes of layers inside it that no list of the model's own layers shows."""

    build: object
    inside: tuple[str, ...]


BACKBONES = {
    "bert": Backbone(bert, ("ReversibleEmbedding", "PositionEmbedding", "EinsumDense", "Softmax")),
    "llama3": Backbone(llama3, ("LlamaRotaryEmbedding", "LlamaLayerNorm", "EinsumDense", "Softmax")),
    "mixtral": Backbone(mixtral, ("MixtralMoeExperts", "MixtralLayerNormalization", "RotaryEmbedding", "EinsumDense")),
    "vit": Backbone(vit, ("ViTPatchingAndEmbedding", "Conv2D", "EinsumDense", "Softmax")),
}


def given(model):
    """Inputs of every name that the model has: whole sequences of words, or images."""
    rng = np.random.default_rng(0)
    made = {}
    for tensor in keras.tree.flatten(model.input):
        shape = (N, *(LENGTH if size is None else size for size in tensor.shape[1:]))
        name = tensor.name
        if "image" in name:
            made[name] = rng.normal(size=shape).astype("float32")
        elif "mask" in name:
            made[name] = np.ones(shape, dtype="int32")
        else:
            made[name] = rng.integers(0, 2 if "segment" in name else WORDS, shape).astype("int32")
    return made if isinstance(model.input, dict) else next(iter(made.values()))


@functools.cache
def opened(name):
    """A backbone with its inputs, and the view of it."""
    keras.utils.set_random_seed(3)
    model = BACKBONES[name].build()
    x = given(model)
    view = open_model(model, inputs.take(inputs.arrange(model, x), slice(0, 1)))
    return model, x, view


@pytest.mark.parametrize("name", BACKBONES)
def test_it_opens_and_every_layer_is_followed(name):
    model, _, view = opened(name)
    assert view.traced
    assert sum(variable.size for variable in view.variables) == model.count_params()
    kinds = {layer.kind for layer in view.layers}
    assert set(BACKBONES[name].inside) - kinds == set()
    assert len(view.layers) > 2 * len(model.layers)
    ids = [layer.id for layer in view.layers] + [variable.id for variable in view.variables]
    assert len(set(ids)) == len(ids)
    silent = [variable.id for variable in view.variables if not variable.owner.calls]
    assert silent == []


@pytest.mark.parametrize("name", BACKBONES)
def test_a_whole_audit_runs_to_the_end(name, tmp_path, caplog):
    model, x, view = opened(name)
    config = AnalysisConfig(save_plots=False, progress=False, verbose=False, n_bootstrap=0, batch_size=4)
    results = ModelAnalyzer({name: model}, config=config, output_dir=tmp_path).analyze(DataInput(x))
    assert [record.getMessage() for record in caplog.records if record.name == "analyzer"] == []
    assert set(results.analyses()) <= set(analyzer_classes())
    held = {analysis: entries[name] for analysis, entries in results.analyses().items()}
    parts = {
        analysis: list(entry.outputs.values()) if isinstance(entry, MultiOutput) else [entry]
        for analysis, entry in held.items()
    }
    failed = {analysis: part.error for analysis, items in parts.items() for part in items if isinstance(part, Failed)}
    assert failed == {}
    # Without labels and histories these two have nothing to say; all others have.
    idle = {analysis for analysis, items in parts.items() if all(isinstance(item, Skipped) for item in items)}
    assert idle <= {"performance", "calibration", "training_dynamics"}
    assert results.weights[name].totals.total == model.count_params()
    flow = results.information_flow[name]
    kinds = {layer.id: layer.kind for layer in view.layers}
    assert {kinds[layer.id] for layer in flow.layers if layer.id in kinds} & set(BACKBONES[name].inside)
    assert len(flow.layers) > len(model.layers)
    assert AnalysisResults.load(tmp_path).information_flow[name].layers[0].id == flow.layers[0].id
