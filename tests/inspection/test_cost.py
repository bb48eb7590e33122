"""Parameters, memory, rows and times of one model, and that measuring leaves no trace."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from analyzer.backends import engine
from analyzer.inspection import latency, open_model
from analyzer.inspection.cost import Cost, describe_cost
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.latency import measure_latency
from analyzer.inspection.needs import Context
from analyzer.inspection.outputs import OutputHints
from analyzer.testing import footprint
from tests import zoo

L = keras.layers


def opened(name, n=7):
    made = zoo.build(name, n)
    few = zoo.FIXED_BATCH if "fixed" in name else 1
    return made, open_model(made.model, keras.tree.map_structure(lambda array: array[:few], made.x))


def described(name):
    made, view = opened(name)
    return describe_cost(view, made.x)


def gathered(name, **options):
    made, view = opened(name)
    hints = OutputHints(model_name=name)
    context = Context(view=view, data=None, arranged=made.x, hints=hints, seed=0, **{"batch_size": 4} | options)
    return made, Cost().finish([], context)


@pytest.mark.parametrize("name", zoo.BUILDERS)
def test_parameters_and_bytes_equal_those_of_keras(name):
    made, view = opened(name)
    found = describe_cost(view, made.x)
    assert found.parameters == made.model.count_params()
    sizes = {v.path + str(id(v)): int(np.prod(v.shape)) * zoo_bytes(v.dtype) for v in made.model.weights}
    assert found.parameter_bytes == sum(sizes.values()) == sum(found.bytes_by_dtype.values())
    assert len({layer.id for layer in found.layers}) == len(found.layers)
    known = {layer.id for layer in found.layers} | {one.id for one in found.inputs}
    assert all(source in known for layer in found.layers for source in (*layer.sources, *layer.closes))


def zoo_bytes(dtype):
    return {"bool": 1, "bfloat16": 2}.get(dtype) or np.dtype(dtype).itemsize


@pytest.mark.parametrize("name", ["functional_cnn", "attention", "embedding_lstm", "shared_layer", "time_distributed"])
def test_parameters_of_layers_add_up(name):
    found = described(name)
    assert sum(layer.parameters for layer in found.layers) == found.parameters


def test_rows_of_a_small_network():
    found = described("functional_cnn")
    conv, *_, head = found.layers
    assert (conv.id, conv.kind, conv.sources, conv.output_shapes) == ("conv", "Conv2D", ("input",), ((8, 8, 4),))
    assert (conv.parameters, conv.output_bytes, conv.flops) == (3 * 9 * 4 + 4, 8 * 8 * 4 * 4, 256 * (2 * 27 + 1))
    assert (head.id, head.sources) == ("head", ("gap",))
    assert found.largest_activation_layer == "conv"
    assert found.activation_bytes == sum(layer.output_bytes for layer in found.layers)
    assert found.flops == sum(layer.flops for layer in found.layers)
    assert found.inputs[0].shape == (8, 8, 3)
    assert found.rows()[0]["id"] == "conv"


def test_a_shared_layer_has_a_row_per_call_and_its_parameters_once():
    found = described("shared_layer")
    assert [layer.id for layer in found.layers] == ["shared", "shared@2", "join", "head"]
    assert [layer.parameters for layer in found.layers] == [15, 0, 0, 7]
    assert [one.id for one in found.inputs] == ["input a", "input b"]


def test_attention_is_a_composite_whose_products_are_its_own():
    found = {layer.id: layer for layer in described("attention").layers}
    assert found["mha"].composite
    assert found["mha/query"].inside == "mha"
    scores = 2 * 5 * 5
    assert found["mha"].flops == 2 * scores * 6 + 5 * 6 + 5 * scores


def test_what_cannot_be_counted_is_named_with_a_reason():
    found = described("custom_layer")
    assert found.uncounted == {"own": "there is no rule for the class ScaledShift"}
    assert next(layer for layer in found.layers if layer.id == "own").flops is None
    whole = described("own_weights_only")
    assert (whole.flops, whole.activation_bytes, whole.layers) == (None, None, ())
    assert list(whole.uncounted) == ["own_weights_only"]


def test_a_model_that_was_not_traced_still_has_its_parameters():
    made = zoo.build("subclassed_private")
    found = describe_cost(open_model(made.model), None)
    assert (found.parameters, found.flops, found.layers) == (made.model.count_params(), None, ())
    assert "was not traced" in next(iter(found.uncounted.values()))


def test_half_precision_takes_half_the_memory():
    layers = [keras.Input((4,)), L.Dense(5, dtype="bfloat16"), L.Dense(5, dtype="float16")]
    found = describe_cost(open_model(keras.Sequential(layers)), None)
    assert found.bytes_by_dtype == {"bfloat16": 50, "float16": 60}
    assert [layer.output_bytes for layer in found.layers] == [10, 10]


class TestLatency:
    def test_one_sample_and_the_usual_batch_are_timed(self):
        _, found = gathered("functional_cnn")
        assert [one.batch_size for one in found.latency] == [1, 4]
        assert found.latency_missing is None
        for one in found.latency:
            assert one.id == f"batch_{one.batch_size}"
            assert 1 <= one.seconds.n <= latency.MOST_REPETITIONS
            assert 0 < one.lower_quartile <= one.seconds.value <= one.upper_quartile
        assert found.latency_of(4) is found.latency[1].seconds
        assert found.latency_of(3) is None

    @pytest.mark.parametrize(
        "name", ["stateful_fixed_batch", "two_in_two_out_dict", "embedding_lstm", "own_weights_only"]
    )
    def test_any_structure_and_a_fixed_batch(self, name):
        _, found = gathered(name)
        assert [one.batch_size for one in found.latency] == ([4] if "fixed" in name else [1, 4])

    def test_more_samples_than_there_are_repeat_them(self):
        _, found = gathered("functional_cnn", batch_size=16)
        assert found.latency[-1].batch_size == 16

    def test_without_data_zeros_are_as_good_and_nothing_to_go_by_is_said(self):
        declared, view = opened("functional_cnn")
        del declared
        times, missing = measure_latency(view, None, 2, lambda _done, _total: None)
        assert ([one.batch_size for one in times], missing) == ([1, 2], None)
        subclassed = open_model(zoo.build("subclassed_private").model)
        times, missing = measure_latency(subclassed, None, 2, lambda _done, _total: None)
        assert times == ()
        assert "declares no inputs" in missing

    def test_a_batch_that_does_not_fit_loses_only_itself(self):
        a = keras.Input((3,))
        model = keras.Model(a, zoo.Breaks(most=1, name="breaks")(a))
        view = open_model(model, np.zeros((1, 3), "float32"))
        times, missing = measure_latency(view, np.zeros((8, 3), "float32"), 4, lambda _done, _total: None)
        assert [one.batch_size for one in times] == [1]
        assert "A batch of 4 could not be timed" in missing

    def test_the_clock_runs_over_finished_work_only(self, monkeypatch):
        waited = []
        real = engine().synchronize
        monkeypatch.setattr(engine(), "synchronize", lambda tree: waited.append(tree) or real(tree))
        _, found = gathered("functional_cnn")
        assert len(waited) == sum(one.seconds.n + 2 for one in found.latency)

    def test_a_slow_model_gets_one_repetition_and_a_smaller_batch(self, monkeypatch):
        monkeypatch.setattr(latency, "BUDGET", 0.0)
        monkeypatch.setattr(latency, "LONGEST_BATCH", 1e-12)
        _, found = gathered("functional_cnn")
        assert [(one.batch_size, one.seconds.n) for one in found.latency] == [(1, 1)]


@pytest.mark.parametrize(
    "name", ["noisy_while_training", "stateful_fixed_batch", "quantised_int8", "subclassed_private"]
)
def test_nothing_is_touched(name):
    made, view = opened(name)
    before = footprint.both(made.model)
    with untouched_process():
        times, missing = measure_latency(view, made.x, 4, lambda _done, _total: None)
    assert times
    assert missing is None
    after = footprint.both(made.model)
    assert before.keys() == after.keys()
    assert [key for key in before if not _same(before[key], after[key])] == []


def _same(a, b):
    return a is b or bool(np.all(a == b))
