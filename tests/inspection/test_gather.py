"""The gather pass against Keras' own predictions and NumPy, whatever the batch size, memory and model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
import pytest
from scipy.special import expit, softmax

from analyzer.backends import engine
from analyzer.data_types import DataInput
from analyzer.data_types.values import Skipped
from analyzer.errors import DeviceMemoryError
from analyzer.inspection import inputs, open_model
from analyzer.inspection.activations import Activations
from analyzer.inspection.gather import gather
from analyzer.inspection.guard import untouched_process
from analyzer.inspection.needs import Context, Features, Predictions
from analyzer.inspection.outputs import OutputHints
from analyzer.inspection.reducers import Collect, KeepSamples, Moments, Tap
from tests import zoo

L = keras.layers

HALF = {"mixed_float16"}
LINKS = {"softmax": lambda z: softmax(z, axis=-1), "sigmoid": expit}


def run(model, x, needs, *, batch_size=3, step=None, seed=0):
    with untouched_process():
        arranged = inputs.arrange(model, x)
        view = open_model(model, inputs.take(arranged, slice(0, inputs.fixed_batch_size(model) or 1)))
        hints = OutputHints(model_name="model")
        told = {} if step is None else {"progress": lambda _, done, total: step(done, total)}
        context = Context(
            view=view, data=DataInput(x), arranged=arranged, hints=hints, seed=seed, batch_size=batch_size, **told
        )
        return gather(context, needs), view


def predictions(model, x, **options):
    return run(model, x, [Predictions()], **options)[0].material[Predictions()]


def sequential(*layers, width=4):
    return keras.Sequential([keras.Input((width,)), *layers])


@dataclass(frozen=True)
class Tapped:
    """Hands over what some taps brought, as it is."""

    wanted: tuple[Tap, ...]
    requires_data: ClassVar[bool] = True
    served: ClassVar[list[Any]] = []

    def taps(self, view: Any) -> tuple[Tap, ...]:
        return self.wanted

    def finish(self, collected: Sequence[Any], context: Context) -> Sequence[Any]:
        self.served.append(self)
        return collected


def tapped(model, x, *taps, **options):
    need = Tapped(taps)
    return run(model, x, [need], **options)[0].material[need]


def place_of(model, name, example):
    """Index of the place of that name."""
    view = open_model(model, example)
    return next(index for index, place in view.places.items() if place.name == name)


# -------------------------------------------------------------------------------------------------------- predictions
def expected_outputs(name, specimen):
    """What Keras predicts, by output, batch by batch where the model fixes the batch size."""
    model, x = specimen.model, inputs.arrange(specimen.model, specimen.x)
    fixed = inputs.fixed_batch_size(model)
    if name == "rematerialised":
        # Keras' own predict raises for it on TensorFlow (3.15).
        predicted = keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))
    elif fixed is None:
        predicted = model.predict(x, verbose=0)
    else:
        states = [state for layer in model.layers if getattr(layer, "stateful", False) for state in layer.states]
        before = [np.array(state) for state in states]
        rows = []
        for start in range(0, specimen.n, fixed):
            part = x[start : start + fixed]
            padded = np.concatenate([part, np.repeat(part[:1], fixed - len(part), axis=0)])
            rows.append(model.predict(padded, batch_size=fixed, verbose=0)[: len(part)])
            for state, value in zip(states, before, strict=True):
                state.assign(value)
        predicted = np.concatenate(rows)
    if isinstance(predicted, dict):
        return [predicted[key] for key in sorted(predicted)]
    return list(predicted) if isinstance(predicted, list | tuple) else [predicted]


@pytest.mark.parametrize("name", zoo.BUILDERS)
def test_predictions_are_those_of_keras_and_logits_lead_to_them(name):
    specimen = zoo.build(name)
    x = list(specimen.x) if isinstance(specimen.x, tuple) else specimen.x
    found, view = run(specimen.model, x, [Predictions()])
    outputs = found.material[Predictions()]
    assert list(outputs) == [head.name for head in view.heads]
    assert found.findings == []
    tolerance = 2e-3 if name in HALF else 1e-6
    for output, head, expected in zip(outputs.values(), view.heads, expected_outputs(name, specimen), strict=True):
        assert output.raw.dtype == expected.dtype
        np.testing.assert_allclose(output.raw, expected, atol=tolerance, rtol=tolerance)
        if head.via in ("activation", "input"):
            link = LINKS[head.activation]
            np.testing.assert_allclose(link(output.logits), output.probabilities, atol=max(tolerance, 1e-6))
            assert np.ptp(output.logits) > 1e-3


def test_stateful_layers_start_every_batch_from_the_state_in_which_they_are():
    specimen = zoo.build("stateful_fixed_batch", n=8)
    (state,) = specimen.model.get_layer("gru").states
    state.assign(zoo.normal(zoo.FIXED_BATCH, 4, seed=5))
    before = np.array(state)
    twice = np.concatenate([specimen.x[:4], specimen.x[:4]])
    raw = next(iter(predictions(specimen.model, twice).values())).raw
    np.testing.assert_array_equal(raw[:4], raw[4:])
    np.testing.assert_array_equal(np.array(state), before)
    np.testing.assert_allclose(raw[:4], specimen.model.predict(specimen.x[:4], batch_size=4, verbose=0), atol=1e-6)


# --------------------------------------------------------------------------------------------------------- batch size
@pytest.mark.slow
@pytest.mark.parametrize("name", ["functional_cnn", "attention", "embedding_lstm", "shared_layer"])
def test_batch_size_changes_nothing_but_rounding(name):
    needs = [Predictions(), Activations(n_samples=4), Features(n_samples=5)]
    specimen = zoo.build(name)
    whole, _ = run(specimen.model, specimen.x, needs, batch_size=64)
    parts, _ = run(specimen.model, specimen.x, needs, batch_size=3)
    assert (whole.batch_size, parts.batch_size) == (7, 3)
    for a, b in zip(whole.material[needs[0]].values(), parts.material[needs[0]].values(), strict=True):
        np.testing.assert_allclose(a.raw, b.raw, rtol=1e-5, atol=1e-6)
    for a, b in zip(whole.material[needs[1]].calls, parts.material[needs[1]].calls, strict=True):
        assert (a.call.id, a.call.call) == (b.call.id, b.call.call)
        assert a.representation.percentiles["50"].value == pytest.approx(
            b.representation.percentiles["50"].value, rel=1e-5, abs=1e-6
        )
        for field in a.moments:
            np.testing.assert_allclose(a.moments[field], b.moments[field], rtol=1e-5, atol=1e-6, err_msg=field)
    np.testing.assert_allclose(whole.material[needs[2]], parts.material[needs[2]], rtol=1e-5, atol=1e-6)


class Witness(L.Layer):
    """Notes the size of every batch that it is traced or called with."""

    def __init__(self, seen, **kwargs):
        super().__init__(**kwargs)
        self.note = seen.add

    def call(self, x):
        self.note(x.shape[0])
        return x * 1.0

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


@pytest.mark.parametrize("n", [1, 3, 4, 6])
def test_a_fixed_batch_size_is_respected(n):
    seen = set()
    x = keras.Input(batch_shape=(4, 2))
    model = keras.Model(x, Witness(seen)(x))
    data = zoo.normal(n, 2)
    seen.clear()
    with untouched_process():
        view = open_model(model)
        hints = OutputHints(model_name="m")
        context = Context(view=view, data=DataInput(data), arranged=data, hints=hints, seed=0, batch_size=32)
        found = gather(context, [Predictions()])
    assert seen == {4}
    assert found.batch_size == 4
    np.testing.assert_array_equal(next(iter(found.material[Predictions()].values())).raw, data)


def test_only_full_batches_are_compiled_for():
    seen = set()
    model = sequential(Witness(seen))
    seen.clear()
    predictions(model, zoo.normal(8, 4), batch_size=3)
    assert seen == {1, 3}


# --------------------------------------------------------------------------------------------------------- kept samples
def kept(n, n_samples, *, batch_size, seed=0, others=()):
    """Which samples are kept, read off a model that returns the sample's index."""
    x = keras.Input((1,))
    model = keras.Model(x, L.Rescaling(1.0)(x))
    wanted = [Tap(source="model", position=0, reducer=KeepSamples(n_samples=k)) for k in (n_samples, *others)]
    rows = tapped(model, np.arange(n, dtype="float32")[:, None], *wanted, batch_size=batch_size, seed=seed)
    return rows[0].ravel().astype(int).tolist()


class TestKeptSamples:
    def test_the_same_whatever_the_batch_size(self):
        chosen = kept(23, 6, batch_size=23)
        assert kept(23, 6, batch_size=1) == kept(23, 6, batch_size=5) == chosen
        assert sorted(set(chosen)) == chosen
        assert len(chosen) == 6

    def test_the_same_whatever_else_is_kept(self):
        alone = kept(23, 6, batch_size=5)
        assert kept(23, 6, batch_size=5, others=(2, 17)) == alone
        assert set(kept(23, 2, batch_size=5, others=(6,))) < set(alone)

    def test_chosen_by_the_seed_and_all_where_there_are_few(self):
        assert kept(23, 6, batch_size=5, seed=1) != kept(23, 6, batch_size=5)
        assert kept(4, 6, batch_size=3) == [0, 1, 2, 3]

    def test_positions_are_the_same_for_all_samples_and_spread_over_both_axes(self):
        x = keras.Input((6, 6, 1))
        model = keras.Model(x, L.Rescaling(1.0)(x))
        data = np.arange(5 * 36, dtype="float32").reshape(5, 6, 6, 1)
        reducer = KeepSamples(n_samples=5, n_positions=4)
        (rows,) = tapped(model, data, Tap(source="model", position=0, reducer=reducer))
        positions = rows[0, :, 0].astype(int)
        np.testing.assert_array_equal(rows, data.reshape(5, 36, 1)[:, positions])
        assert len(set(positions)) == 4
        assert len(set(positions // 6)) > 1
        assert len(set(positions % 6)) > 1

    def test_units_may_be_an_axis_of_their_own(self):
        x = keras.Input((3, 4, 2))
        model = keras.Model(x, L.Rescaling(1.0)(x))
        data = zoo.normal(5, 3, 4, 2)
        kept = Tap(source="model", position=0, reducer=KeepSamples(n_samples=5, n_positions=99, axis=1))
        moments = Tap(source="model", position=0, reducer=Moments(axis=1))
        rows, found = tapped(model, data, kept, moments)
        np.testing.assert_allclose(rows, np.moveaxis(data, 1, -1).reshape(5, 8, 3))
        np.testing.assert_allclose(found["mean"], data.mean(axis=(0, 2, 3)), atol=1e-6)


# -------------------------------------------------------------------------------------------------------------- moments
def moments_in_float64(values):
    """Independent: NumPy over all values of a unit."""
    rows = values.astype(np.float64).reshape(-1, values.shape[-1])
    return {
        "count": np.full(rows.shape[1], len(rows)),
        "mean": rows.mean(axis=0),
        "variance": rows.var(axis=0),
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "zero_share": (rows == 0).mean(axis=0),
        "positive_share": (rows > 0).mean(axis=0),
    }


def assert_moments(found, values, rtol=1e-5):
    expected = moments_in_float64(values)
    assert set(found) == set(expected)
    scale = np.abs(values).max()
    for field in expected:
        np.testing.assert_allclose(found[field], expected[field], rtol=rtol, atol=1e-6 * scale, err_msg=field)


class TestMoments:
    def test_every_layer_of_a_functional_model(self):
        specimen = zoo.build("functional_cnn")
        model = specimen.model
        layers = [layer for layer in model.layers if not isinstance(layer, L.InputLayer)]
        outputs = keras.Model(model.inputs, [layer.output for layer in layers]).predict(specimen.x, verbose=0)
        found = run(model, specimen.x, [Activations()])[0].material[Activations()].calls
        assert [activations.call.layer.name for activations in found] == [layer.name for layer in layers]
        for activations, values in zip(found, outputs, strict=True):
            assert_moments(activations.moments, values)

    def test_each_call_of_a_shared_layer(self):
        specimen = zoo.build("shared_layer")
        kernel, bias = specimen.model.get_layer("shared").get_weights()
        found = run(specimen.model, specimen.x, [Activations()])[0].material[Activations()].calls
        for call, x in enumerate(specimen.x):
            assert (found[call].call.layer.name, found[call].call.call) == ("shared", call)
            assert_moments(found[call].moments, np.maximum(x @ kernel + bias, 0))

    def test_a_large_offset_costs_no_precision(self):
        data = zoo.normal(4000, 2) + np.array([1e5, -3e5], "float32")
        (found,) = tapped(
            sequential(L.Rescaling(1.0), width=2),
            data,
            Tap(source="model", position=0, reducer=Moments()),
            batch_size=512,
        )
        np.testing.assert_allclose(found["variance"], data.astype(np.float64).var(axis=0), rtol=1e-5)
        np.testing.assert_allclose(found["mean"], data.astype(np.float64).mean(axis=0), rtol=1e-9)

    def test_half_precision_and_integers_are_summed_in_float32(self):
        data = np.full((600, 1), 300.0, "float32") + np.arange(600, dtype="float32")[:, None] % 7
        model = sequential(L.Rescaling(1.0, dtype="float16"), width=1)
        (found,) = tapped(model, data, Tap(source="model", position=0, reducer=Moments()), batch_size=256)
        assert_moments(found, data)

    def test_padding_is_not_counted_even_where_it_is_not_a_number(self):
        data = np.array([[0.5], [2.0], [4.0], [0.0], [0.0]], "float32")
        x = keras.Input((1,))
        taps = Tap(source="model", position=0, reducer=Moments())
        for size in (5, 4, 3, 1):
            (found,) = tapped(keras.Model(x, 1.0 / x), data, taps, batch_size=size)
            assert found["count"].tolist() == [5]
            assert (found["min"].tolist(), found["max"].tolist()) == ([0.25], [np.inf])
            assert (found["zero_share"].tolist(), found["positive_share"].tolist()) == ([0.0], [1.0])


# ----------------------------------------------------------------------------------------------------------- neighbours
class TestNeighbours:
    @pytest.mark.parametrize(("n", "batch_size"), [(7, 3), (6, 3), (6, 6), (2, 2)])
    def test_dependence_is_found_and_padding_kept_out(self, n, batch_size):
        data = zoo.normal(n, 4)
        found, _ = run(sequential(zoo.BatchMean()), data, [Predictions()], batch_size=batch_size)
        (finding,) = found.findings
        assert (finding.kind, finding.severity, finding.layer) == ("depends_on_batch", "warning", None)
        assert finding.evidence["largest_change"] > finding.evidence["threshold"] * finding.evidence["largest_output"]
        starts = range(0, n, batch_size)
        expected = np.concatenate([(p := data[s : s + batch_size]) - p.mean(axis=0) for s in starts])
        raw = next(iter(found.material[Predictions()].values())).raw
        np.testing.assert_allclose(raw, expected, atol=1e-6)

    def test_with_a_fixed_batch_size_it_is_said_too(self):
        x = keras.Input(batch_shape=(4, 3))
        found, _ = run(keras.Model(x, zoo.BatchMean()(x)), zoo.normal(6, 3), [Predictions()])
        assert [finding.kind for finding in found.findings] == ["depends_on_batch"]

    @pytest.mark.parametrize(("n", "batch_size"), [(7, 3), (6, 3), (1, 3), (3, 1)])
    def test_no_false_alarm(self, n, batch_size):
        found, _ = run(
            sequential(L.Dense(3), L.BatchNormalization()), zoo.normal(n, 4), [Predictions()], batch_size=batch_size
        )
        assert found.findings == []


# ---------------------------------------------------------------------------------------------------- what is asked for
class TestNeeds:
    def test_equal_needs_are_served_once_by_one_pass(self):
        steps, output = [], Tap(source="model", position=0, reducer=Collect())
        Tapped.served.clear()
        needs = [Tapped((output,)), Predictions(), Tapped((output,)), Predictions()]
        found, _ = run(sequential(L.Dense(2)), zoo.normal(7, 4), needs, step=lambda *s: steps.append(s))
        assert list(found.material) == needs[:2]
        assert len(Tapped.served) == 1
        assert steps == [(3, 7), (6, 7), (7, 7)]

    def test_progress_ends_where_it_should_for_every_batch_size(self):
        for batch_size, expected in ((7, [7]), (64, [7]), (1, [1, 2, 3, 4, 5, 6, 7])):
            steps = []
            predictions(
                sequential(L.Dense(1)),
                zoo.normal(7, 4),
                batch_size=batch_size,
                step=lambda d, t, s=steps: s.append((d, t)),
            )
            assert steps == [(done, 7) for done in expected]

    def test_a_place_that_did_not_fire_is_skipped_by_name_and_costs_nothing_else(self):
        specimen = zoo.build("subclassed_training_branch")
        position = place_of(specimen.model, "auxiliary", specimen.x[:1])
        need = Tapped((Tap(source="output", position=position, reducer=Moments()),))
        material = run(specimen.model, specimen.x, [need, Predictions()])[0].material
        assert isinstance(material[need], Skipped)
        assert "'auxiliary' did not run" in material[need].reason
        assert len(next(iter(material[Predictions()].values())).raw) == 7

    def test_a_call_that_did_not_happen_is_skipped_too(self):
        specimen = zoo.build("shared_layer")
        position = place_of(specimen.model, "shared", inputs.take(specimen.x, slice(0, 1)))
        third = Tap(source="output", position=position, call=2, reducer=Moments())
        (last,) = tapped(
            specimen.model, specimen.x, Tap(source="output", position=position, call=-1, reducer=Collect())
        )
        kernel, bias = specimen.model.get_layer("shared").get_weights()
        np.testing.assert_allclose(last, np.maximum(specimen.x[1] @ kernel + bias, 0), atol=1e-6)
        assert "'shared'" in tapped(specimen.model, specimen.x, third).reason

    def test_an_output_without_a_row_per_sample_is_skipped_by_name(self):
        x = keras.Input((4,))
        hidden = L.Dense(2, name="hidden")(x)
        model = keras.Model(x, {"rows": hidden, "total": keras.ops.sum(hidden)})
        material = predictions(model, zoo.normal(7, 4))
        assert isinstance(material, Skipped)
        assert "'total' does not have one row per sample" in material.reason

    def test_without_data_what_needs_data_is_skipped(self):
        view = open_model(sequential(L.Dense(2)))
        hints = OutputHints(model_name="m")
        context = Context(view=view, data=None, arranged=None, hints=hints, seed=0, batch_size=3)
        material = gather(context, [Predictions()]).material
        assert "No data were given" in material[Predictions()].reason

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_outputs_that_are_not_numbers_are_skipped_with_their_number(self, bad):
        model = sequential(L.Dense(2, name="head"))
        kernel, bias = model.layers[-1].get_weights()
        kernel[0] = bad
        model.layers[-1].set_weights([kernel, bias])
        material = predictions(model, np.abs(zoo.normal(7, 4)))
        assert isinstance(material, Skipped)
        assert "NaN or infinite for 7 of 7 samples (first: sample 0)" in material.reason


# --------------------------------------------------------------------------------------------------------------- memory
def exhausted(*args):
    raise MemoryError


class TestOutOfMemory:
    def model(self, most):
        dense = L.Dense(3, activation="softmax", kernel_initializer=keras.initializers.RandomNormal(seed=1))
        return sequential(zoo.Breaks(most, name="huge"), dense)

    def test_batches_are_halved_and_the_results_the_same(self, caplog):
        data = zoo.normal(9, 4)
        needs = [Predictions(), Activations(n_samples=4)]
        whole, _ = run(self.model(100), data, needs, batch_size=8)
        halved, _ = run(self.model(2), data, needs, batch_size=8)
        assert (whole.batch_size, halved.batch_size) == (8, 2)
        assert [r.message for r in caplog.records] == [f"out of memory: going on with batch_size={b}" for b in (4, 2)]
        a, b = (next(iter(found.material[needs[0]].values())) for found in (whole, halved))
        np.testing.assert_allclose(a.raw, b.raw, atol=1e-6)
        np.testing.assert_allclose(a.logits, b.logits, atol=1e-6)
        for left, right in zip(whole.material[needs[1]].calls, halved.material[needs[1]].calls, strict=True):
            np.testing.assert_allclose(left.moments["mean"], right.moments["mean"], atol=1e-6)
            assert left.moments["count"].tolist() == right.moments["count"].tolist()

    @pytest.mark.parametrize("where", ["launching", "reading"])
    def test_in_the_middle_of_the_pass_no_sample_is_lost_or_counted_twice(self, monkeypatch, where):
        calls = []

        def breaking_once(function, at):
            def called(*args):
                calls.append(1)
                if len(calls) == at:
                    raise MemoryError
                return function(*args)

            return called

        backend = engine()
        if where == "launching":
            jit = backend.jit
            monkeypatch.setattr(backend, "jit", lambda fn: breaking_once(jit(fn), at=3))
            monkeypatch.setattr(backend, "release", lambda _: None)
        else:
            monkeypatch.setattr(backend, "to_numpy", breaking_once(backend.to_numpy, at=2))
        steps, data = [], zoo.normal(13, 4)
        taps = [Tap(source="model", position=0, reducer=reducer) for reducer in (Collect(), Moments())]
        rows, moments = tapped(
            sequential(L.Rescaling(1.0)), data, *taps, batch_size=4, step=lambda done, _: steps.append(done)
        )
        np.testing.assert_array_equal(rows, data)
        assert moments["count"].tolist() == [13] * 4
        assert steps == sorted(set(steps))
        assert steps[-1] == 13

    def test_at_one_sample_a_single_error_names_layer_bytes_and_option(self, monkeypatch):
        model = sequential(L.Dense(500, name="widest"), L.Dense(2, name="head"))
        monkeypatch.setattr(engine(), "jit", lambda _: exhausted)
        monkeypatch.setattr(engine(), "release", lambda _: None)
        with pytest.raises(DeviceMemoryError, match=r"batch size 1\b.*'widest': 2,000 bytes per sample.*batch_size"):
            predictions(model, zoo.normal(7, 4))

    def test_a_fixed_batch_size_cannot_be_halved(self, monkeypatch):
        x = keras.Input(batch_shape=(4, 3))
        model = keras.Model(x, L.Dense(10, name="dense")(x))
        backend = engine()
        monkeypatch.setattr(backend, "jit", lambda _: exhausted)
        monkeypatch.setattr(backend, "release", lambda _: None)
        with pytest.raises(DeviceMemoryError, match=r"batch size 4\b.*'dense': 40 bytes per sample"):
            predictions(model, zoo.normal(7, 3))

    def test_a_model_without_layers_gets_the_same_error(self, monkeypatch):
        specimen = zoo.build("own_weights_only")
        monkeypatch.setattr(engine(), "jit", lambda _: exhausted)
        monkeypatch.setattr(engine(), "release", lambda _: None)
        with pytest.raises(DeviceMemoryError, match=r"batch size 1\b.*no layers.*batch_size"):
            predictions(specimen.model, specimen.x)

    def test_other_errors_are_not_taken_for_it(self):
        model = sequential(zoo.Breaks(2, ZeroDivisionError("not memory"), name="broken"))
        with pytest.raises(ZeroDivisionError, match="not memory"):
            predictions(model, zoo.normal(7, 4))


# ------------------------------------------------------------------------------------------------------- repeatability
@pytest.mark.slow
@pytest.mark.parametrize("name", ["functional_cnn", "attention", "noisy_while_training"])
def test_two_deterministic_runs_are_equal_to_the_bit(name):
    specimen = zoo.build(name)
    needs = [Predictions(), Activations()]
    runs = []
    for _ in range(2):
        with engine().deterministic():
            runs.append(run(specimen.model, specimen.x, needs)[0].material)
    for a, b in zip(runs[0][needs[0]].values(), runs[1][needs[0]].values(), strict=True):
        assert a.raw.tobytes() == b.raw.tobytes()
        assert a.logits.tobytes() == b.logits.tobytes()
    for a, b in zip(runs[0][needs[1]].calls, runs[1][needs[1]].calls, strict=True):
        assert a.representation.gram.tobytes() == b.representation.gram.tobytes()
        assert {k: v.tobytes() for k, v in a.moments.items()} == {k: v.tobytes() for k, v in b.moments.items()}
