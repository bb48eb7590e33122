"""Comparing methods: the forward score, the bench, and the verdict."""

import functools
import json

import keras
import numpy as np
import pytest

from analyzer.data_types.explanation import Explanation
from analyzer.data_types.explanation_quality import QualityScore
from analyzer.errors import ConfigError, DataError, Unsupported
from analyzer.inspection import inputs
from analyzer.inspection.view import open_model
from analyzer.relevance.evaluation.compare_methods import compare_methods
from analyzer.relevance.evaluation.explained_score import ExplainedScore
from analyzer.relevance.evaluation.method_bench import METRICS
from analyzer.relevance.evaluation.method_verdict import cautions, differences, verdict
from analyzer.relevance.evaluation.scoring import mean_of
from analyzer.relevance.targets import resolve

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 8)).astype("float32")


def classifier(activation="softmax", classes=3):
    """Linear, so that the exact contribution of every feature is known."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            L.Input((8,), name="table"),
            L.Dense(6, use_bias=False),
            L.Dense(classes, use_bias=False, activation=activation),
        ]
    )


def weights(model, values=None):
    values = values or {}
    kernels = [values.get(id(one.kernel), one.kernel.value) for one in model.layers]
    return functools.reduce(np.matmul, [keras.ops.convert_to_numpy(one) for one in kernels])


def fake_explain(model, x, target="predicted", method="auto", layers="all", values=None, **options):
    """Exact, blind to the model, or wrong, for the linear classifier."""
    if method == "broken":
        raise Unsupported("no rule for this layer")
    x = next(iter(x.values()))
    w = weights(model, values)[:, np.broadcast_to(target, len(x))].T
    maps = {"exact": x * w, "blind": np.abs(x), "opposite": -x * w, "exact twice": 2 * x * w}[method]
    return Explanation(method=method, inputs={"table": maps}, output=np.zeros(len(x)))


@pytest.fixture
def faked(monkeypatch):
    monkeypatch.setattr("analyzer.relevance.explain.explain", fake_explain)


# -------------------------------------------------------------------------------------------------------------- score
def test_the_score_is_the_logit_of_the_class_that_was_predicted():
    model = classifier()
    logits = X @ weights(model)
    score = ExplainedScore(open_model(model), resolve(open_model(model), "predicted", 40), batch_size=16).fixed(X)
    np.testing.assert_allclose(score(X), logits.max(axis=1), rtol=1e-4, atol=1e-5)
    # Other inputs, other predictions: the classes of the first ones are still asked for.
    moved = np.roll(X, 1, axis=0)
    expected = np.roll(logits, 1, axis=0)[np.arange(40), logits.argmax(axis=1)]
    np.testing.assert_allclose(score(moved), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(score(moved[:16]), expected[:16], rtol=1e-4, atol=1e-5)
    score.release()


def test_a_softmax_layer_is_left_out_too():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([L.Input((8,)), L.Dense(3), L.Softmax()])
    logits = keras.ops.convert_to_numpy(model.layers[0](X))
    view = open_model(model)
    np.testing.assert_allclose(ExplainedScore(view, resolve(view, 1, 40))(X), logits[:, 1], rtol=1e-4, atol=1e-5)
    after = keras.ops.convert_to_numpy(model(X))
    np.testing.assert_allclose(after.sum(axis=1), 1, rtol=1e-5)


def test_the_negative_class_of_a_binary_model_speaks_the_other_way():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([L.Input((8,)), L.Dense(1, activation="sigmoid")])
    logit = (X @ keras.ops.convert_to_numpy(model.layers[0].kernel.value))[:, 0]
    view = open_model(model)
    fixed = ExplainedScore(view, resolve(view, "predicted", 40)).fixed(X)
    np.testing.assert_allclose(fixed(X), np.abs(logit), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fixed(-X), -np.abs(logit), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------- comparison
@pytest.mark.once
def test_the_exact_map_is_trusted_and_the_others_are_not(faked):
    model = classifier()
    before = [keras.ops.convert_to_numpy(v.value).copy() for v in model.weights]
    told = []
    found = compare_methods(
        model, X, ["exact", "blind", "opposite"], baseline="zeros", progress=lambda *step: told.append(step)
    )
    assert found.verdict.trusted == ("exact",)
    assert found.verdict.n == found.n == 40
    assert "better than those of a random map, blind and opposite" in str(found.verdict)
    assert list(found.scores) == ["exact", "blind", "opposite", "random"]
    assert found.measures == METRICS
    assert [one.split(" (")[0] for one in found.cautions] == [
        "blind: its maps hardly change when all parameters of the model are drawn anew",
        "blind: its maps of different classes are nearly the same",
    ]
    table = found.table
    assert table.shape == (4, 4 * len(METRICS))
    assert table.loc["exact", ("faithfulness_correlation", "value")] == pytest.approx(1, abs=1e-4)
    assert table.loc["opposite", ("faithfulness_correlation", "value")] == pytest.approx(-1, abs=1e-4)
    assert table.loc["opposite", ("abpc", "value")] == pytest.approx(-table.loc["exact", ("abpc", "value")], rel=1e-4)
    assert table.loc["blind", ("parameter_randomization", "value")] == pytest.approx(1)
    assert table.loc["blind", ("random_logit", "value")] == pytest.approx(1)
    assert abs(table.loc["random", ("parameter_randomization", "value")]) < 0.3
    assert table.loc["exact", ("parameter_randomization", "high")] < 0.9
    assert {label.split(":")[0] for label, _, _ in told} == {"exact", "blind", "opposite", "random"}
    assert all(
        np.array_equal(a, keras.ops.convert_to_numpy(v.value)) for a, v in zip(before, model.weights, strict=True)
    )


@pytest.mark.once
def test_the_numbers_are_those_of_the_linear_model(faked):
    model = classifier()
    found = compare_methods(model, X, ["exact"], metrics=[], baseline="zeros", steps=8, progress=False)
    w = weights(model)
    contributions = X * w[:, (X @ w).argmax(axis=1)].T
    ascending = np.sort(contributions, axis=1)
    remaining = np.concatenate([np.zeros((40, 1)), np.cumsum(ascending, axis=1)], axis=1)
    expected = contributions.sum(axis=1) - 2 * np.trapezoid(remaining, dx=1 / 8, axis=1)
    np.testing.assert_allclose(found.scores["exact"]["abpc"].values, expected, rtol=1e-3, atol=1e-4)
    assert found.measures == ("abpc",)


@pytest.mark.once
def test_equal_maps_are_not_distinguishable(faked):
    found = compare_methods(
        classifier(), X, ["exact", "exact twice"], metrics=["sparseness"], baseline="zeros", progress=False
    )
    assert found.verdict.trusted == ("exact", "exact twice")
    assert "not distinguishable from exact twice at n = 40" in found.verdict.text
    pairs = found.difference_table().set_index(["measure", "first", "second"])
    assert pairs.loc[("abpc", "exact", "exact twice"), "value"] == pytest.approx(0, abs=1e-6)
    assert pairs.loc[("abpc", "exact", "random"), "low"] > 0
    assert pairs.loc[("abpc", "exact", "random"), "p_adjusted"] < 0.05
    assert np.isnan(pairs.loc[("sparseness", "exact", "random"), "p_value"])


@pytest.mark.once
def test_few_samples_leave_it_open(faked):
    found = compare_methods(classifier(), X[:3], ["exact"], metrics=[], progress=False)
    # Of three pairs, no sign-flip test can reject at 0.05.
    assert found.verdict.trusted == ()
    assert found.verdict.text.startswith("None is better than a random map at n = 3")


@pytest.mark.once
def test_a_method_that_cannot_explain_is_named(faked):
    found = compare_methods(classifier(), X, {"good": "exact", "bad": "broken"}, metrics=[], progress=False)
    assert found.failed == {"bad": "no rule for this layer"}
    assert list(found.scores) == ["good", "random"]
    with pytest.raises(Unsupported, match="None of the methods"):
        compare_methods(classifier(), X, ["broken"], progress=False)


@pytest.mark.once
def test_measures_that_do_not_apply_are_named(faked):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([L.Input((8,), name="table"), L.Dense(1, use_bias=False)])
    found = compare_methods(model, X, ["exact"], target=0, metrics=["random_logit", "complexity"], progress=False)
    assert set(found.skipped) == {"random_logit"}
    assert found.measures == ("abpc", "complexity")


@pytest.mark.once
def test_the_same_seed_gives_the_same_comparison(faked):
    model = classifier()
    options = {"metrics": ["faithfulness_correlation"], "n_samples": 12, "progress": False}
    one, two = (compare_methods(model, X, ["exact"], seed=3, **options) for _ in range(2))
    other = compare_methods(model, X, ["exact"], seed=4, **options)
    assert one.table.equals(two.table)
    assert one.verdict == two.verdict
    assert one.n == 12
    assert not one.table.equals(other.table)
    # The order of methods changes no number.
    first = compare_methods(model, X, ["blind", "exact"], seed=3, **options).table.loc[["exact", "random"]]
    assert first.equals(one.table)


@pytest.mark.once
def test_a_class_for_each_sample_follows_the_chosen_samples(faked):
    model = classifier()
    targets = RNG.integers(0, 3, 40)
    found = compare_methods(
        model, X, ["exact"], target=targets, metrics=[], n_samples=10, baseline="zeros", steps=8, progress=False
    )
    # Only the map of the right class follows the score exactly: MoRF first takes all that speaks for it.
    curves = found.scores["exact"]["abpc"].values
    assert np.all(curves > 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"methods": []}, "at least one"),
        ({"methods": ["exact", "exact"]}, "names repeat"),
        ({"methods": {"random": "exact"}}, "always compared"),
        ({"metrics": ["abcp"]}, "abpc"),
        ({"n_samples": 0}, "n_samples"),
        ({"level": 2}, "level"),
        ({"target": [0, 1]}, "one target at a time"),
        ({"options": {"typo": {}}}, "typo"),
        ({"baseline": "blur"}, "blur"),
    ],
)
@pytest.mark.once
def test_wrong_options_are_refused(faked, wrong, message):
    given = {"methods": ["exact"], "progress": False, **wrong}
    with pytest.raises(ConfigError, match=message):
        compare_methods(classifier(), X, **given)


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="expects"):
        compare_methods(classifier(), X[:, :5], ["epsilon"], progress=False)


# ------------------------------------------------------------------------------------------------------------- verdict
def scored(**rows):
    return {
        name: {"abpc": QualityScore(name="abpc", better="larger", estimate=mean_of(values), values=values)}
        for name, values in rows.items()
    }


@pytest.mark.once
def test_a_tie_that_does_not_beat_noise_is_not_called_beaten():
    rng = np.random.default_rng(0)
    noise, good = rng.normal(0, 1, 50), rng.normal(1.5, 0.5, 50)
    wild = rng.normal(1.0, 8.0, 50)
    scores = scored(good=good, wild=wild, random=noise)
    found = verdict(scores, differences(scores), 0.05)
    assert found.trusted == ("good",)
    assert "than those of a random map; wild cannot be told from it nor from a random map" in found.text


@pytest.mark.once
def test_what_is_worse_than_noise_is_said():
    rng = np.random.default_rng(0)
    scores = scored(bad=rng.normal(-2, 1, 50), random=rng.normal(0, 1, 50))
    assert "bad is worse than one at n = 50" in verdict(scores, differences(scores), 0.05).text


@pytest.mark.once
def test_the_verdict_keeps_its_level():
    """Three methods that are all noise: any trust is an error, at most 5 % of the time."""
    wrong = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        scores = scored(**{name: rng.normal(size=10) for name in ("a", "b", "c", "random")})
        pairs = differences(scores, n_bootstrap=0)
        wrong += bool(verdict(scores, pairs, 0.05).trusted)
    # Level 0.05 of the whole list, 300 draws: a binomial count is at most 28 with probability 0.999.
    assert wrong <= 28


@pytest.mark.once
def test_maps_that_depend_on_nothing_are_doubted():
    values = np.full(30, 0.97)
    row = QualityScore(name="random_logit", better="smaller", estimate=mean_of(values), values=values)
    found = cautions({"blind": {"random_logit": row}})
    assert len(found) == 1
    assert found[0].startswith("blind: its maps of different classes are nearly the same")
    values = np.linspace(0, 1, 30)
    row = QualityScore(name="random_logit", better="smaller", estimate=mean_of(values), values=values)
    assert cautions({"fine": {"random_logit": row}}) == ()


# ----------------------------------------------------------------------------------------------------------- for real
@pytest.mark.slow
def test_presets_are_compared_on_images():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            L.Input((8, 8, 1)),
            L.Conv2D(4, 3, activation="relu"),
            L.Flatten(),
            L.Dense(3, activation="softmax"),
        ]
    )
    x = np.random.default_rng(1).normal(size=(6, 8, 8, 1)).astype("float32")
    found = compare_methods(
        model, x, ["epsilon", "epsilon_plus"], metrics=["parameter_randomization", "random_logit"], progress=False
    )
    assert list(found.scores) == ["epsilon", "epsilon_plus", "random"]
    assert found.failed == {}
    assert found.table.loc["epsilon", ("abpc", "value")] > 0
    assert json.loads(found.table.to_json())


@pytest.mark.slow
def test_several_inputs_with_tokens_are_compared():
    keras.utils.set_random_seed(0)
    words, table = keras.Input((5,), dtype="int32", name="words"), keras.Input((4,), name="table")
    mixed = L.Concatenate()([L.GlobalAveragePooling1D()(L.Embedding(9, 6)(words)), table])
    model = keras.Model([words, table], L.Dense(2)(mixed))
    x = {"words": RNG.integers(0, 9, (6, 5)), "table": RNG.normal(size=(6, 4)).astype("float32")}
    found = compare_methods(model, x, ["epsilon"], metrics=["max_sensitivity", "sparseness"], progress=False)
    assert found.failed == {}
    assert found.baseline == "0, mean"
    assert found.scores["epsilon"]["abpc"].estimate.value > found.scores["random"]["abpc"].estimate.value
    assert inputs.count(x["table"]) == found.n
