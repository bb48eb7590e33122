"""The eight measures against NumPy on activations that Keras itself records, and what must not change them."""

import json

import keras
import numpy as np
import pytest
from scipy.stats import ks_2samp

from analyzer.data_types.inspection_report import EXPERIMENTS, Experiment, ModelInspection
from analyzer.data_types.values import Skipped
from analyzer.diagnosis.modeltrace.inspect import inspect_model
from analyzer.diagnosis.modeltrace.recording import in_step
from analyzer.errors import ConfigError, DataError
from analyzer.measures.similarity import linear_cka
from analyzer.testing import footprint

pytestmark = pytest.mark.slow

L = keras.layers
QUIET = {"suggest": False, "n_bootstrap": 40}
LEAVES = ["conv1", "conv2", "flat", "fc", "head"]


def network(seed=0, width=5):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            L.Conv2D(4, 3, activation="relu", name="conv1"),
            L.Conv2D(width, 3, activation="relu", name="conv2"),
            L.Flatten(name="flat"),
            L.Dense(6, activation="relu", name="fc"),
            L.Dense(3, name="head"),
        ],
        name=f"net{seed}",
    )
    rng = np.random.default_rng(seed + 2)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape) * (0.4 if len(variable.shape) > 1 else 0.05))
    return model


def data(n=30, seed=1, noise=0.9):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6, 6, 1)).astype("float32")
    return x, (x + noise * rng.normal(size=x.shape)).astype("float32")


def recorded(model, x):
    """What Keras says that the layers return, in float64."""
    reader = keras.Model(model.inputs[0], [model.get_layer(name).output for name in LEAVES])
    found = [np.asarray(keras.ops.convert_to_numpy(h), "float64") for h in reader(x, training=False)]
    return dict(zip(LEAVES, found, strict=True))


@pytest.fixture(scope="module")
def inspected():
    """Everything of one model, its data, and a second model."""
    model, other = network(), network(1)
    x, shifted = data()
    y = np.asarray(keras.ops.convert_to_numpy(model(x))).argmax(axis=1)
    found = inspect_model(model, other, x, shifted, y=y, batch_size=7, seed=3, **QUIET)
    return found, recorded(model, x), recorded(model, shifted), recorded(other, x), (x, shifted, y)


def raws(experiment, number):
    return {layer: readings[number].raw for layer, readings in experiment.layers.items()}


def values(experiment, number):
    return {layer: readings[number].scale_free.value for layer, readings in experiment.layers.items()}


class TestRaw:
    """ModelTrace's formulas, from facts section 1."""

    def test_activation_statistics(self, inspected):
        found, clean, *_ = inspected
        experiment = found["activation_statistics"]
        assert list(experiment.layers) == LEAVES
        for number, formula in {"mean": np.mean, "std": lambda h: h.std(ddof=1), "max": np.max}.items():
            expected = {name: formula(h) for name, h in clean.items()}
            assert raws(experiment, number) == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert experiment.n == 30

    def test_shift_drift_sensitivity_and_their_mean(self, inspected):
        found, clean, shifted, *_ = inspected
        magnitudes = [np.mean([np.abs(h).mean() for h in side.values()]) for side in (clean, shifted)]
        model = found["shift_test"].model
        assert [model["normal"].raw, model["shifted"].raw] == pytest.approx(magnitudes, rel=1e-5)
        parts = {name: np.abs(clean[name] - shifted[name]).mean() for name in LEAVES}
        drift = np.mean(list(parts.values()))
        assert found["drift"].model["drift"].raw == pytest.approx(drift, rel=1e-5)
        assert raws(found["drift"], "drift") == pytest.approx(parts, rel=1e-5)
        assert raws(found["layer_sensitivity"], "sensitivity") == pytest.approx(parts, rel=1e-5)
        score = 0.4 * abs(magnitudes[1] - magnitudes[0]) + 0.4 * drift + 0.2 * drift
        assert found.modeltrace_score.raw == pytest.approx(score, rel=1e-5)

    def test_attribution_and_output_shift(self, inspected):
        found, clean, shifted, *_ = inspected
        parts = {name: np.abs(clean[name] - shifted[name]).mean() for name in LEAVES}
        total = sum(parts.values()) + 1e-8
        experiment = found["failure_attribution"]
        assert raws(experiment, "contribution") == pytest.approx({k: v / total for k, v in parts.items()}, rel=1e-5)
        assert experiment.model["output_shift"].raw == pytest.approx(parts["head"], rel=1e-5)

    def test_regression_between_models(self, inspected):
        found, clean, _, other, _ = inspected
        parts = {name: np.abs(clean[name] - other[name]).mean() for name in LEAVES}
        experiment = found["cross_model_regression"]
        assert raws(experiment, "difference") == pytest.approx(parts, rel=1e-5)
        assert experiment.model["difference"].raw == pytest.approx(np.mean(list(parts.values())), rel=1e-5)
        assert found.other == "net1"

    def test_sparsity_of_modeltrace_and_by_number_of_weights(self):
        model = network()
        for name, share in (("conv1", 0.5), ("fc", 0.25)):
            kernel = np.asarray(keras.ops.convert_to_numpy(model.get_layer(name).kernel)).copy()
            kernel.reshape(-1)[: int(share * kernel.size)] = 0
            model.get_layer(name).kernel.assign(kernel)
        experiment = inspect_model(model, experiments=["sparsity"], **QUIET)["sparsity"]
        sizes = {"conv1": 36, "conv2": 180, "fc": 120, "head": 18}
        model_wide = experiment.model
        assert model_wide["convolutional"].raw == pytest.approx(0.25)
        assert model_wide["fully_connected"].raw == pytest.approx(0.125)
        assert model_wide["total"].raw == pytest.approx(0.1875)
        assert model_wide["convolutional"].scale_free.value == pytest.approx(18 / 216)
        assert model_wide["total"].scale_free.value == pytest.approx((18 + 30) / sum(sizes.values()))
        assert {name: one["zero_share"].scale_free.n for name, one in experiment.layers.items()} == sizes
        assert values(experiment, "zero_share") == {"conv1": 0.5, "conv2": 0.0, "fc": 0.25, "head": 0.0}
        assert experiment.n == sum(sizes.values())


class TestScaleFree:
    def test_values_are_what_they_are_defined_as(self, inspected):
        found, clean, shifted, other, _ = inspected
        relative = {n: np.linalg.norm(clean[n] - shifted[n]) / np.linalg.norm(clean[n]) for n in LEAVES}
        assert values(found["drift"], "drift") == pytest.approx(relative, rel=1e-5)
        assert found["drift"].model["drift"].scale_free.value == pytest.approx(
            np.mean(list(relative.values())), rel=1e-5
        )
        magnitude = {n: np.abs(shifted[n]).mean() / np.abs(clean[n]).mean() for n in LEAVES}
        assert values(found["shift_test"], "shifted") == pytest.approx(magnitude, rel=1e-5)
        moved = np.mean([abs(m - 1) for m in magnitude.values()])
        score = 0.4 * moved + 0.6 * np.mean(list(relative.values()))
        assert found.modeltrace_score.scale_free.value == pytest.approx(score, rel=1e-5)
        alike = {
            n: linear_cka(*(side[n].reshape(30, -1, side[n].shape[-1]).mean(axis=1) for side in (clean, other)))
            for n in LEAVES
        }
        expected = {n: 1 - a.value for n, a in alike.items()}
        assert values(found["cross_model_regression"], "difference") == pytest.approx(expected, rel=1e-4)
        for name, one in found["drift"].layers.items():
            estimate = one["drift"].scale_free
            assert estimate.low < estimate.value < estimate.high, name
            assert estimate.n == 30

    def test_amplifications_multiply_to_the_model(self, inspected):
        found, clean, shifted, _, (x, x_shifted, _) = inspected
        experiment = found["layer_sensitivity"]
        product = np.prod(list(values(experiment, "sensitivity").values()))
        assert product == pytest.approx(experiment.model["sensitivity"].scale_free.value, rel=1e-5)
        inside = np.linalg.norm(x - x_shifted) / np.linalg.norm(x)
        outside = np.linalg.norm(clean["head"] - shifted["head"]) / np.linalg.norm(clean["head"])
        assert product == pytest.approx(outside / inside, rel=1e-4)
        assert values(experiment, "sensitivity")["flat"] == pytest.approx(1, rel=1e-5)

    def test_failures_are_compared_with_their_control(self, inspected):
        found, clean, shifted, _, (x, x_shifted, y) = inspected
        failing = shifted["head"].argmax(axis=1) != y
        experiment = found["failure_attribution"]
        assert experiment.n == failing.sum() > 0
        assert f"{failing.sum()} samples fail" in experiment.notes[0]
        chain = [(x, x_shifted), *((clean[n], shifted[n]) for n in LEAVES)]

        def logs(rows):
            sizes = [np.log(np.linalg.norm((a - b)[rows]) / np.linalg.norm(a[rows])) for a, b in chain]
            return np.diff(sizes)

        expected = dict(zip(LEAVES, logs(failing) - logs(~failing), strict=True))
        assert values(experiment, "contribution") == pytest.approx(expected, abs=1e-5)
        assert experiment.model["output_shift"].scale_free.value == pytest.approx(sum(expected.values()), abs=1e-5)

    def test_a_rescaling_that_keeps_the_function_keeps_the_values(self, inspected):
        found, *_, (x, shifted, y) = inspected
        model = network()
        for layer, factors in (("conv1", (10, 10)), ("conv2", (0.1, 1))):
            for variable, factor in zip(model.get_layer(layer).weights, factors, strict=True):
                variable.assign(np.asarray(keras.ops.convert_to_numpy(variable)) * factor)
        again = inspect_model(model, network(1), x, shifted, y=y, batch_size=7, seed=3, **QUIET)
        assert again.modeltrace_score.raw > 1.5 * found.modeltrace_score.raw
        for name in EXPERIMENTS[1:]:
            for layer, readings in found[name].layers.items():
                for number, reading in readings.items():
                    now = again[name].layers[layer][number].scale_free
                    old = reading.scale_free
                    got = [np.nan if v is None else v for v in (now.value, now.low, now.high)]
                    expected = [np.nan if v is None else v for v in (old.value, old.low, old.high)]
                    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-4, err_msg=f"{name} {layer} {number}")

    def test_a_network_of_zeros_is_undefined_and_not_perfect(self):
        model = network()
        for variable in model.weights:
            variable.assign(np.zeros(variable.shape))
        x, shifted = data()
        found = inspect_model(model, None, x, shifted, **QUIET)
        assert found.modeltrace_score.raw == 0
        assert found.modeltrace_score.scale_free.value is None
        assert set(values(found["drift"], "drift").values()) == {None}


class TestShiftTest:
    def test_it_tells_a_shift_from_none_with_other_numbers_of_samples(self):
        rng = np.random.default_rng(5)
        x, same, moved = (rng.normal(size=(n, 6, 6, 1)).astype("float32") for n in (60, 45, 45))
        model = network()
        for new, shifted in ((same, False), (moved + 1.5, True)):
            experiment = inspect_model(model, None, x, new, ["shift_test"], **QUIET)["shift_test"]
            assert (experiment.model["p_value"].scale_free.value < 0.05) is shifted
            assert (min(test.adjusted for test in experiment.tests) < 0.05) is shifted
            assert experiment.n == 45
            assert len(experiment.tests) == 3 * len(LEAVES)
            assert ("differ" in experiment.notes[0]) is shifted

    def test_p_values_are_those_of_scipy_on_unit_means(self):
        x, shifted = data(n=25)
        experiment = inspect_model(network(), None, x, shifted, ["shift_test"], **QUIET)["shift_test"]
        means = [recorded(network(), one)["conv2"].mean(axis=(1, 2)) for one in (x, shifted)]
        smallest = min(1.0, 5 * ks_2samp(*means).pvalue.min())
        found = next(test for test in experiment.tests if test.layer == "conv2" and test.test == "KS")
        assert found.p_value == pytest.approx(smallest, rel=1e-6)
        assert found.features == 5

    def test_a_shuffled_batch_has_drift_and_no_shift(self):
        x, _ = data(n=40)
        found = inspect_model(network(), None, x, x[::-1], ["shift_test", "drift"], **QUIET)
        assert found["drift"].model["drift"].scale_free.value > 0.5
        assert found["shift_test"].model["p_value"].scale_free.value > 0.5

    def test_few_samples_have_no_test(self):
        x, shifted = data(n=9)
        experiment = inspect_model(network(), None, x, shifted, ["shift_test"], **QUIET)["shift_test"]
        assert experiment.tests == ()
        assert "need 10 samples" in experiment.notes[0]


class TestOtherModels:
    def test_branches_operations_and_shared_layers(self):
        inputs = keras.Input((4,))
        shared = L.Dense(4, activation="tanh", name="shared")
        x = shared(inputs)
        x = keras.ops.relu(shared(x) + x)
        model = keras.Model(inputs, [L.Dense(2, name="one")(x), L.Dense(1, name="two")(x)])
        x, shifted = (np.random.default_rng(i).normal(size=(20, 4)).astype("float32") for i in (0, 1))
        found = inspect_model(model, None, x, shifted, **QUIET)
        assert set(found["drift"].layers) == {"shared", "shared@2", "one", "two"}
        sensitivity = found["layer_sensitivity"].layers
        assert len(sensitivity) == 6
        assert all(one["sensitivity"].scale_free.value > 0 for one in sensitivity.values())
        assert "does not choose one class" in found["failure_attribution"].notes[0]

    def test_embeddings_recurrence_and_several_inputs(self):
        words, numbers = keras.Input((5,), name="words", dtype="int32"), keras.Input((3,), name="numbers")
        text = L.GRU(4, name="gru")(L.Embedding(11, 6, name="embedding")(words))
        model = keras.Model(
            [words, numbers],
            L.Dense(2, activation="softmax", name="head")(L.Concatenate(name="joined")([text, numbers])),
        )
        rng = np.random.default_rng(0)
        x, shifted = (
            {"words": rng.integers(0, 11, (24, 5)), "numbers": rng.normal(size=(24, 3)).astype("float32")}
            for _ in range(2)
        )
        found = inspect_model(model, None, x, shifted, y=rng.integers(0, 2, 24), **QUIET)
        sensitivity = values(found["layer_sensitivity"], "sensitivity")
        assert sensitivity["embedding"] is None
        assert all(sensitivity[name] > 0 for name in ("gru", "joined", "head"))
        assert found["layer_sensitivity"].model["sensitivity"].scale_free.value is None
        assert all(value > 0 for value in values(found["drift"], "drift").values())

    def test_a_subclassed_model(self):
        class Own(keras.Model):
            def __init__(self):
                super().__init__(name="own")
                self.first, self.head = L.Dense(5, name="first"), L.Dense(2, name="head")

            def call(self, x):
                return self.head(keras.ops.sin(self.first(x)))

        model, x = Own(), np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
        model(x[:1])
        found = inspect_model(model, None, x, x + 0.1, ["drift", "layer_sensitivity"], **QUIET)
        assert list(found["drift"].layers) == ["first", "head"]
        assert values(found["layer_sensitivity"], "sensitivity")["head"] is None
        assert "head could not be followed" in found["layer_sensitivity"].notes[0]

    def test_the_users_word_says_what_the_output_predicts(self):
        model = keras.Sequential([keras.Input((4,)), L.Dense(1, name="head")])
        x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
        y = (np.asarray(keras.ops.convert_to_numpy(model(x)))[:, 0] > 0).astype(int)
        words = {"y": y, "experiments": ["failure_attribution"], **QUIET}
        unknown = inspect_model(model, None, x, -x, **words)["failure_attribution"]
        assert "does not choose one class" in unknown.notes[0]
        mixed = np.concatenate([x[:20], -x[20:]])
        found = inspect_model(model, None, x, mixed, task="binary", **words)["failure_attribution"]
        assert found.n == 20
        assert "right on the data, wrong on the shifted data" in found.notes[0]

    def test_models_of_other_names_and_widths(self):
        def unnamed(width):
            return keras.Sequential([keras.Input((4,)), L.Dense(width, activation="relu"), L.Dense(2)])

        x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
        experiment = inspect_model(unnamed(6), unnamed(6), x, experiments=["cross_model_regression"], **QUIET)[
            "cross_model_regression"
        ]
        assert "in order of execution" in experiment.notes[0]
        assert all(one["difference"].raw > 0 for one in experiment.layers.values())
        wider = inspect_model(
            network(), network(1, width=7), data()[0], experiments=["cross_model_regression"], **QUIET
        )["cross_model_regression"]
        assert wider.layers["conv2"]["difference"].raw is None
        assert 0 < wider.layers["conv2"]["difference"].scale_free.value < 2
        assert wider.layers["conv1"]["difference"].raw > 0
        same = inspect_model(network(), network(), data()[0], experiments=["cross_model_regression"], **QUIET)[
            "cross_model_regression"
        ]
        assert same.model["difference"].raw == 0
        assert same.model["difference"].scale_free.value == pytest.approx(0, abs=1e-9)


class TestAsking:
    def test_names_and_what_they_need(self):
        x, shifted = data(n=12)
        for words, said in [
            ({"experiments": ["drifft"]}, "Did you mean 'drift'"),
            ({"experiments": []}, "expected names out of sparsity"),
            ({"experiments": [3]}, "expected names out of sparsity"),
            ({"experiments": ["drift"]}, "'drift': It needs samples"),
            ({"experiments": ["drift"], "x": x}, "'drift': It needs shifted samples: give x_shifted"),
            ({"experiments": "cross_model_regression", "x": x}, "It needs a second model: give other"),
            ({"experiments": ["drift"], "x": x, "x_shifted": shifted[:5]}, "12 in x and 5 in x_shifted"),
            ({"x": x, "n_bootstrap": -1}, "n_bootstrap=-1"),
            ({"x": x, "batch_size": 0}, "batch_size=0"),
            ({"x": x, "task": "multi"}, "multi"),
        ]:
            with pytest.raises(ConfigError, match=said):
                inspect_model(network(), **({"suggest": False} | words))
        with pytest.raises(DataError, match="12 samples in x and 3 labels"):
            inspect_model(network(), x=x, y=np.zeros(3, int), **QUIET)
        with pytest.raises(DataError, match="the model expects"):
            inspect_model(network(), x=x[:, :3], **QUIET)

    def test_all_means_what_the_data_allow(self):
        x, shifted = data(n=12)
        without = inspect_model(network(), **QUIET)
        assert [name for name, one in without.experiments.items() if isinstance(one, Experiment)] == ["sparsity"]
        assert without["drift"] == Skipped("It needs samples: give x.")
        unequal = inspect_model(network(), None, x, shifted[:11], **QUIET)
        done = [name for name, one in unequal.experiments.items() if isinstance(one, Experiment)]
        assert done == ["sparsity", "activation_statistics", "shift_test"]
        assert "pairs of samples" in unequal["modeltrace_score"].reason
        assert (unequal.n, unequal.n_shifted) == (12, 11)
        assert unequal.modeltrace_score is None

    def test_the_model_and_the_process_stay_and_progress_is_told(self):
        other, model, (x, shifted), told = network(1), network(), data(n=12), []
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        before = footprint.both(model)
        words = {"y": np.arange(12) % 3, "n_bootstrap": 20, "progress": lambda *step: told.append(step)}
        inspect_model(model, other, x, shifted, **words)
        assert footprint.moved(before, footprint.both(model)) == []
        labels = {label for label, _, _ in told}
        assert {"activations", "measures", "suggestions"} <= labels
        assert all(0 <= done <= total for _, done, total in told)

    def test_batches_and_files_change_nothing(self, inspected, tmp_path):
        found, *_, (x, shifted, y) = inspected
        network().save(tmp_path / "net0.keras")
        network(1).save(tmp_path / "net1.keras")
        again = inspect_model(
            tmp_path / "net0.keras", tmp_path / "net1.keras", x, shifted, y=y, batch_size=30, seed=3, **QUIET
        )
        one, two = found.to_frame(), again.to_frame()
        assert one[["experiment", "layer", "name", "n"]].equals(two[["experiment", "layer", "name", "n"]])
        for column in ("raw", "scale_free", "low", "high"):
            np.testing.assert_allclose(one[column].astype(float), two[column].astype(float), rtol=1e-3, atol=1e-4)

    def test_batches_of_unequal_sizes_stay_in_step(self):
        def cut(array, sizes):
            return ({"a": part} for part in np.split(array, np.cumsum(sizes)[:-1]))

        x = np.arange(10)
        parts = list(in_step([cut(x, [4, 4, 2]), cut(-x, [3, 1, 6])]))
        assert [len(one["a"]) for one, _ in parts] == [3, 1, 4, 2]
        for one, two in parts:
            np.testing.assert_array_equal(one["a"], -two["a"])
        np.testing.assert_array_equal(np.concatenate([one["a"] for one, _ in parts]), x)


class TestReport:
    def test_json_comes_back(self, inspected, tmp_path):
        found = inspected[0]
        path = tmp_path / "report" / "inspection.json"
        text = found.to_json(path)
        assert path.read_text() == text
        assert "NaN" not in text
        assert ModelInspection.load(path) == found
        document = json.loads(text)
        assert document["experiments"]["drift"]["status"] == "ok"
        assert set(document["experiments"]["drift"]["layers"]["conv1"]["drift"]) == {"raw", "scale_free"}

    def test_every_number_has_a_definition(self, inspected):
        for experiment in inspected[0].experiments.values():
            used = {number for one in [experiment.model, *experiment.layers.values()] for number in one}
            assert used <= set(experiment.definitions)
        frame = inspected[0].to_frame()
        assert set(frame["experiment"]) == set(EXPERIMENTS)
        assert "net0" in repr(inspected[0])

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{", "not JSON"),
            ("[]", "no inspection"),
            ('{"type": "ModelInspection", "version": "2.0"}', "version 2.0"),
            ('{"type": "ModelInspection", "version": "1.0"}', "damaged"),
        ],
    )
    def test_what_is_none_is_refused(self, text, said, tmp_path):
        with pytest.raises(DataError, match=said):
            ModelInspection.from_json(text)
        with pytest.raises(DataError, match="No inspection can be read"):
            ModelInspection.load(tmp_path / "none.json")
