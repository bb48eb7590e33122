"""`certify`: every method against closed forms, against what attacks find, and where it must say nothing."""

import json

import keras
import numpy as np
import pytest
from scipy.stats import binomtest, norm

from analyzer import certify
from analyzer.data_types.certificates import METHODS, Certificate, Certificates
from analyzer.data_types.values import Skipped
from analyzer.errors import ConfigError, DataError, ModelError
from analyzer.robustness.attacks.screen import screen
from analyzer.robustness.certificates import certificate_rows
from analyzer.testing import footprint
from tests.robustness import oracle

L = keras.layers
BOUNDS = ("interval_bounds", "lipschitz")
QUIET = {"progress": False, "bounds": (0.0, 1.0)}
DATA, LABELS = oracle.digits()
KERNEL, BIAS = oracle.linear_weights(DATA[:1400], LABELS[:1400])
X, Y = DATA[1400:1430], LABELS[1400:1430]


def linear():
    return oracle.trained(KERNEL, BIAS)


def unbounded(x, y, order):
    """Distances to a wrong decision of the linear softmax where inputs have no bounds: margin over dual norm."""
    z = x.astype("float64") @ KERNEL + BIAS
    apart = KERNEL[:, y].T[:, :, None] - KERNEL[None]
    steps = np.linalg.norm(apart, {"linf": 1, "l2": 2, "l1": np.inf}[order], axis=1)
    reach = np.maximum(z[np.arange(len(y)), y][:, None] - z, 0) / np.where(steps > 0, steps, 1)
    reach[np.arange(len(y)), y] = np.inf
    return reach.min(1)


def small_net(seed=0, width=24):
    """Digits, decided by a ReLU layer whose weights were drawn and an output layer that was fitted."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(seed)
    first, shift = rng.normal(size=(64, width)) / 8, rng.normal(size=width) / 4
    hidden = np.maximum(DATA[:1400] @ first + shift, 0)
    fitted = LogisticRegression(max_iter=400).fit(hidden, LABELS[:1400])
    model = keras.Sequential([keras.Input((64,)), L.Dense(width, "relu"), L.Dense(10, "softmax")])
    model.set_weights([first, shift, fitted.coef_.T, fitted.intercept_])
    return model


def test_interval_bounds_of_a_linear_model_are_the_exact_distances_within_the_box():
    found = certify(linear(), X, Y, epsilon=0.05, methods="interval_bounds", **QUIET)["interval_bounds"]
    exact = oracle.exact_distances(X, Y, KERNEL, BIAS, "linf")
    assert (found.radius <= exact).all()
    # Of the radius, bisection leaves open a millionth of the range, and float32 a few of its digits.
    np.testing.assert_allclose(found.radius, exact, atol=3e-5)
    assert found.certified.value == np.mean(exact > 0.05)
    assert found.certified.low < found.certified.value < found.certified.high
    assert (found.kind, found.norm, found.own_norm, found.confidence) == ("bound", "linf", "linf", None)


def test_the_lipschitz_radius_of_a_linear_model_is_its_distance_without_a_box():
    found = certify(linear(), X, Y, epsilon=0.2, norm="l2", methods=["lipschitz"], **QUIET)["lipschitz"]
    np.testing.assert_allclose(found.radius, unbounded(X, Y, "l2"), rtol=1e-4, atol=1e-6)
    assert (found.radius <= oracle.exact_distances(X, Y, KERNEL, BIAS, "l2") + 1e-6).all()
    assert found.certified.value == np.mean(unbounded(X, Y, "l2") > 0.2)
    assert found.settings["lipschitz_constant"] == pytest.approx(np.linalg.norm(KERNEL, 2), rel=1e-5)


@pytest.mark.parametrize("order", ["linf", "l2", "l1"])
def test_bounds_in_any_norm_are_bounds_and_follow_from_their_own(order):
    found = certify(linear(), X, Y, epsilon=0.03, norm=order, methods=BOUNDS, **QUIET)
    exact = oracle.exact_distances(X, Y, KERNEL, BIAS, order)
    for name in BOUNDS:
        assert found[name].norm == order
        assert (found[name].radius <= exact + 1e-6).all()
        assert bool(found[name].notes) == (found[name].own_norm != order)
    by_box = oracle.exact_distances(X, Y, KERNEL, BIAS, "linf")
    np.testing.assert_allclose(found["interval_bounds"].radius, by_box, atol=3e-5)
    shorter = 8 if order == "linf" else 1
    np.testing.assert_allclose(found["lipschitz"].radius, unbounded(X, Y, "l2") / shorter, rtol=1e-4, atol=1e-6)


def half_space(x):
    """A sigmoid of ``3 a - 4 b + 1`` and the signed distance to its boundary."""
    model = oracle.trained(np.array([[3.0], [-4.0]]), np.array([1.0]), activation="sigmoid")
    return model, (3 * x[:, 0] - 4 * x[:, 1] + 1) / 5


def test_radii_of_smoothing_are_the_quantile_of_the_lower_share():
    x = np.random.default_rng(0).uniform(-1, 1, (20, 2)).astype("float32")
    x[:4] = [[9, -9], [8, -8], [0.2, 0.4], [1.0, 1.0]]
    model, signed = half_space(x)
    options = {"bounds": (-10.0, 10.0), "progress": False, "sigma": 0.5, "n_draws": 2000, "methods": "smoothing"}
    found = certify(model, x, (signed > 0).astype(int), norm="l2", epsilon=0.3, **options)["smoothing"]
    # Where all noise is decided alike: sigma * Phi^-1(alpha ** (1 / n)). The lower share by scipy's exact test.
    lower = binomtest(2000, 2000, alternative="greater").proportion_ci(0.999, "exact").low
    assert lower == pytest.approx(0.001 ** (1 / 2000))
    np.testing.assert_allclose(found.radius[:2], 0.5 * norm.ppf(lower))
    sure = ~np.isnan(found.radius)
    assert 0.7 < sure.mean() < 1
    assert found.n_abstained == (~sure).sum()
    assert (found.radius[sure] <= np.abs(signed)[sure]).all()
    hits = np.round(2000 * norm.cdf(np.abs(signed) / 0.5)).astype(int)
    shares = [binomtest(k, 2000, alternative="greater").proportion_ci(0.999, "exact").low for k in hits[sure]]
    spread = np.sqrt(hits * (2000 - hits) / 2000**3)[sure]
    assert (np.abs(norm.cdf(found.radius[sure] / 0.5) - shares) <= 5 * spread + 2e-3).all()
    assert found.certified.value == np.mean(np.nan_to_num(found.radius) > 0.3)
    assert (found.kind, found.subject, found.own_norm) == ("probabilistic bound", "smoothed classifier", "l2")
    assert found.confidence == pytest.approx(0.999)
    wrong = certify(model, x, (signed <= 0).astype(int), norm="l2", epsilon=0.3, **options)["smoothing"]
    np.testing.assert_array_equal(wrong.radius[sure], 0)
    assert wrong.certified.value == 0
    unlabelled = certify(model, x, norm="l2", epsilon=0.3, **options)["smoothing"]
    np.testing.assert_array_equal(unlabelled.radius, found.radius)
    by_box = certify(model, x, norm="linf", epsilon=0.2, **options)["smoothing"]
    np.testing.assert_allclose(by_box.radius, found.radius / np.sqrt(2))


def test_what_smoothing_cannot_reach_is_undefined_and_never_nothing():
    options = {"methods": "smoothing", "sigma": 0.1, "n_draws": 50, **QUIET}
    found = certify(linear(), X[:4], Y[:4], epsilon=0.1, **options)["smoothing"]
    furthest = 0.1 * norm.ppf(0.001 ** (1 / 50)) / 8
    assert furthest < 0.1
    assert found.certified.value is None
    assert f"no radius exceeds {furthest:.4g}" in found.notes[-1]
    assert np.nanmax(found.radius) <= furthest


def test_estimates_of_a_linear_model_are_its_slopes_and_are_called_estimates():
    x, y = X[:6], Y[:6]
    found = certify(linear(), x, y, epsilon=0.1, methods=["clever", "local_jacobian"], **QUIET)
    np.testing.assert_allclose(found["local_jacobian"].estimates, np.linalg.norm(KERNEL, 2), rtol=2e-3)
    assert found["local_jacobian"].norm == "l2"
    exact = np.minimum(unbounded(x, y, "linf"), 0.2)
    np.testing.assert_allclose(found["clever"].estimates, exact, rtol=1e-3, atol=1e-6)
    for row in found.methods.values():
        assert row.kind == "estimate"
        assert row.radius is None
        assert row.certified is None
        assert "estimate" in row.definition.lower()


@pytest.mark.parametrize(("order", "epsilon"), [("linf", 0.006), ("l2", 0.05)])
def test_no_attack_undoes_what_a_bound_certifies(order, epsilon):
    model, x, y = small_net(), X[:12], Y[:12]
    fallen = screen(oracle.attacked(model, x), x, y, epsilon * np.array([1, 2, 4, 8, 16]), norm=order).distance
    assert np.isfinite(fallen).mean() > 0.3
    shares = []
    for at in (epsilon, 4 * epsilon):
        found = certify(model, x, y, epsilon=at, norm=order, methods=BOUNDS, **QUIET)
        for name in BOUNDS:
            assert (found[name].radius <= fallen + 1e-6).all()
            assert found[name].certified.value <= np.mean(fallen > at)
        shares.append(max(found[name].certified.value for name in BOUNDS))
    assert shares[0] > 0.1
    assert shares[0] > shares[1]
    assert found.accuracy.value == np.mean(model.predict(x, verbose=0).argmax(1) == y)


def test_model_and_process_stay_as_they_were():
    model = keras.Sequential([keras.Input((64,)), L.Dropout(0.3), L.BatchNormalization(), L.Dense(10, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(DATA[:64], LABELS[:64], epochs=1, verbose=0)
    model.layers[1].trainable = False
    before = footprint.process(), footprint.model(model)
    found = certify(model, X[:6], Y[:6], n_draws=20, **QUIET)
    after = footprint.process(), footprint.model(model)
    assert all(isinstance(row, Certificate) for row in found.methods.values())
    assert before == after


class Softened(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(10)

    def call(self, x):
        return self.dense(x) / 2


def test_what_does_not_cover_the_model_is_skipped_with_the_reason_by_name():
    layers = [L.Dense(8, "relu"), L.LayerNormalization(name="rescaler"), L.Dense(10)]
    found = certify(keras.Sequential([keras.Input((64,)), *layers]), X[:4], Y[:4], n_draws=20, **QUIET)
    assert list(found.methods) == list(METHODS)
    assert [name for name, row in found.methods.items() if isinstance(row, Skipped)] == ["interval_bounds", "lipschitz"]
    for name, what in (("interval_bounds", "Interval bounds"), ("lipschitz", "Lipschitz bounds")):
        assert found[name].reason.startswith(f"{what} do not cover the layer 'rescaler' (LayerNormalization)")
    table = found.to_frame().set_index("method")
    assert table.loc["lipschitz", "skipped"] == found["lipschitz"].reason
    assert np.isnan(table.loc["lipschitz", "certified"])
    own = Softened()
    own(X[:1])
    assert "in code of its own" in certify(own, X[:4], methods="lipschitz", **QUIET)["lipschitz"].reason


def test_a_constant_decision_holds_everywhere_and_a_tie_nowhere():
    x, y = X[:5], np.zeros(5, int)
    sure = certify(oracle.trained(0 * KERNEL, np.eye(10)[0]), x, y, methods=BOUNDS, **QUIET)
    for name in BOUNDS:
        np.testing.assert_allclose(sure[name].radius, 1.0)
        assert sure[name].certified.value == 1
    tie = certify(oracle.trained(0 * KERNEL, 0 * BIAS), x, methods=(*BOUNDS, "smoothing"), n_draws=20, **QUIET)
    for name in BOUNDS:
        np.testing.assert_array_equal(tie[name].radius, 0)
        assert tie[name].certified.value == 0
    assert tie["smoothing"].n_abstained == 5


def test_own_decisions_stand_for_labels_and_defaults_are_a_tenth_of_the_range():
    model = linear()
    decisions = model.predict(X, verbose=0).argmax(1)
    alone = certify(model, X, methods=BOUNDS, progress=False)
    with_labels = certify(model, X, np.eye(10)[decisions], methods=BOUNDS, progress=False)
    assert (alone.labelled, alone.accuracy) == (False, None)
    assert (with_labels.labelled, with_labels.accuracy.value) == (True, 1.0)
    for name in BOUNDS:
        np.testing.assert_array_equal(alone[name].radius, with_labels[name].radius)
        assert alone[name].certified == with_labels[name].certified
    assert alone.epsilon == pytest.approx(0.1 * (X.max() - X.min()))
    assert (alone.low, alone.high) == (X.min(), X.max())


def test_units_are_those_of_the_data():
    pixels = keras.Sequential([keras.Input((64,)), L.Rescaling(1 / 255), linear()])
    narrow = certify(linear(), X[:4], Y[:4], epsilon=0.02, n_draws=60, **QUIET)
    wide = certify(pixels, X[:4] * 255, Y[:4], epsilon=0.02 * 255, n_draws=60, progress=False)
    assert (wide.low, wide.high) == pytest.approx((0.0, 255.0))
    assert wide.bounds_source == "the model's Rescaling layer"
    for name in ("interval_bounds", "lipschitz", "clever"):
        np.testing.assert_allclose(wide[name].per_sample / 255, narrow[name].per_sample, rtol=1e-2, atol=1e-4)
    np.testing.assert_allclose(wide["local_jacobian"].estimates * 255, narrow["local_jacobian"].estimates, rtol=1e-2)
    assert wide["smoothing"].settings["sigma"] == pytest.approx(255 * narrow["smoothing"].settings["sigma"])


def test_samples_are_drawn_by_class_and_results_do_not_depend_on_how_many_are_done_at_once(monkeypatch, tmp_path):
    options = {"n_samples": 12, "seed": 3, "methods": ("smoothing", "clever"), "n_draws": 40, "epsilon": 0.01, **QUIET}
    steps = []
    model = linear()
    first = certify(model, DATA[:300], LABELS[:300], **options | {"progress": lambda *step: steps.append(step)})
    assert first.n == 12
    assert len(np.unique(first.indices)) == 12
    assert set(np.bincount(LABELS[first.indices], minlength=10)) <= {1, 2}
    assert ("certificates: smoothing", 8, 12) in steps
    assert steps[-1] == ("certificates: clever", 1, 1)
    monkeypatch.setattr(certificate_rows, "AT_ONCE", 5)
    model.save(tmp_path / "linear.keras")
    again = certify(tmp_path / "linear.keras", DATA[:300], LABELS[:300], **options)
    assert again.model == "linear"
    np.testing.assert_array_equal(again.indices, first.indices)
    np.testing.assert_array_equal(again["smoothing"].radius, first["smoothing"].radius)
    np.testing.assert_allclose(again["clever"].estimates, first["clever"].estimates, rtol=1e-4)


def regression():
    model = keras.Sequential([keras.Input((64,)), L.Dense(1)])
    model.compile("adam", "mse")
    return model


def token_ids():
    return keras.Sequential([keras.Input((64,)), L.Embedding(20, 4), L.Flatten(), L.Dense(10)])


def unbuilt():
    return keras.Sequential([L.Dense(10)])


@pytest.mark.parametrize(
    ("make", "changes", "error", "said"),
    [
        (linear, {"methods": ["lipschits"]}, ConfigError, "Did you mean 'lipschitz'"),
        (linear, {"methods": []}, ConfigError, "names none"),
        (linear, {"epsilon": 0}, ConfigError, "epsilon=0"),
        (linear, {"epsilon": -0.1}, ConfigError, "epsilon=-0.1"),
        (linear, {"epsilon": "0.1"}, ConfigError, "epsilon='0.1'"),
        (linear, {"norm": "l3"}, ConfigError, "expected one of linf, l2, l1"),
        (linear, {"norm": "l2"}, ConfigError, "give epsilon"),
        (linear, {"sigma": float("nan")}, ConfigError, "sigma=nan"),
        (linear, {"n_draws": 0}, ConfigError, "n_draws=0"),
        (linear, {"n_samples": 0}, ConfigError, "n_samples=0"),
        (linear, {"alpha": 1.0}, ConfigError, "alpha=1.0"),
        (linear, {"bounds": (1, 0)}, ConfigError, "smallest and a larger"),
        (linear, {"bounds": 1}, ConfigError, r"expected \(low, high\)"),
        (linear, {"task": "clasification"}, ConfigError, "task"),
        (linear, {"bounds": (0, 0.5)}, DataError, "outside bounds"),
        (linear, {"x": (X * 16).astype("uint8")}, DataError, "x is of uint8"),
        (linear, {"x": X[:, :5]}, DataError, "64"),
        (linear, {"x": np.full_like(X, np.nan)}, DataError, "NaN"),
        (linear, {"y": Y + 1}, DataError, "Subtract 1"),
        (linear, {"y": Y[:5]}, DataError, "same number of samples"),
        (linear, {"y": Y + 0.5}, DataError, "whole class numbers"),
        (regression, {"y": None}, DataError, "the task is regression"),
        (token_ids, {}, DataError, "token ids"),
        (unbuilt, {}, ModelError, "built"),
    ],
)
def test_bad_input_is_one_clear_error(make, changes, error, said):
    given = {"x": X, "y": Y, "progress": False} | changes
    with pytest.raises(error, match=said):
        certify(make(), given.pop("x"), given.pop("y"), **given)


def test_a_loss_that_tells_another_task_gives_way_to_the_word_of_the_user():
    model = linear()
    model.compile("adam", "mse")
    with pytest.raises(DataError, match="the task is regression"):
        certify(model, X, Y, **QUIET)
    found = certify(model, X, Y, task="multiclass", methods="lipschitz", **QUIET)
    np.testing.assert_allclose(found["lipschitz"].radius, unbounded(X, Y, "l2") / 8, rtol=1e-4, atol=1e-6)


def test_json_holds_everything_and_comes_back(tmp_path):
    model = keras.Sequential([keras.Input((64,)), L.UnitNormalization(name="unit"), linear()])
    found = certify(model, X[:6], Y[:6], n_draws=20, sigma=0.5, epsilon=0.01, **QUIET)
    assert found["smoothing"].n_abstained > 0
    text = found.to_json(tmp_path / "certificates.json")
    document = json.loads(text)
    assert document["methods"]["lipschitz"] == {"status": "skipped", "reason": found["lipschitz"].reason}
    assert "seconds" not in document["methods"]["smoothing"]
    assert document["measured"]["smoothing"]["seconds"] > 0
    assert None in document["methods"]["smoothing"]["radius"]
    back = Certificates.load(tmp_path / "certificates.json")
    assert back.to_json() == text
    np.testing.assert_array_equal(back["smoothing"].radius, found["smoothing"].radius)
    assert back["smoothing"].certified == found["smoothing"].certified
    assert back["lipschitz"] == found["lipschitz"]
    assert repr(back) == repr(found)
    assert back.to_frame().equals(found.to_frame())
    for damaged in ("{", "[]", json.dumps(document | {"version": "9.0"}), json.dumps(document | {"methods": {"a": 1}})):
        with pytest.raises(DataError):
            Certificates.from_json(damaged)
    with pytest.raises(DataError, match="No certificates"):
        Certificates.load(tmp_path / "nowhere.json")
