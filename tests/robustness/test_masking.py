"""Flags: masked networks are attacked to within a point of the truth or flagged, and honest ones are not flagged."""

import keras
import numpy as np
import pytest
from scipy.special import expit, softmax

from analyzer.backends import engine
from analyzer.errors import ConfigError
from analyzer.robustness.attacks.gradient_descent import PGD
from analyzer.robustness.attacks.screen import screen
from analyzer.robustness.masking import flags, probes
from analyzer.robustness.masking.judge import masking_flags
from tests.robustness import oracle

X, Y = oracle.digits()
X, Y = X[Y < 4], Y[Y < 4]
KERNEL, BIAS = oracle.linear_weights(X[:-100], Y[:-100])
TEST, LABELS = X[-100:], Y[-100:]
EXACT = oracle.exact_distances(TEST, LABELS, KERNEL, BIAS)
RADII = np.quantile(EXACT, [0.2, 0.5, 0.8])


@pytest.fixture(autouse=True)
def _few_queries(monkeypatch):
    """Enough for these models, whose tests would spend most of their time on the rest."""
    monkeypatch.setattr(probes, "QUERIES", 100)


class Uncut(keras.layers.Layer):
    """A last softmax that nobody can tell from another layer."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def call(self, x):
        return keras.ops.softmax(self.scale * x)


class Scaled(keras.layers.Layer):
    def call(self, x):
        return 100.0 * x


class Rounded(keras.layers.Layer):
    def call(self, x):
        return keras.ops.round(x * 8) / 8


class Noisy(keras.layers.Layer):
    def __init__(self, seeded):
        super().__init__()
        self.seed = keras.random.SeedGenerator(0) if seeded else None

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), stddev=0.5, seed=self.seed)


class NumpyNoise(keras.layers.Layer):
    """Noise that a compiled program repeats."""

    def call(self, x):
        noise = np.random.normal(0, 0.5, x.shape[-1])  # noqa: NPY002 - what users write
        return x + keras.ops.convert_to_tensor(noise.astype("float32"))


class Counting(keras.layers.Layer):
    """A defence that moves with every question."""

    def build(self, shape):
        self.asked = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.asked.assign_add(1.0)
        return x * (1 + keras.ops.mod(self.asked, 2.0))


class Centred(keras.layers.Layer):
    """A normalisation by the batch that it is asked with."""

    def call(self, x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)


class Backwards(keras.layers.Layer):
    """Inputs as they are, gradients reversed."""

    def call(self, x):
        return keras.ops.stop_gradient(2 * x) - x


class Lattice(keras.layers.Layer):
    """Gradients reversed except where pixels have the values of the data."""

    def call(self, x):
        on = keras.ops.abs(x * 16 - keras.ops.round(x * 16)) < 1e-3
        return keras.ops.where(on, x, keras.ops.stop_gradient(2 * x) - x)


def linear(before=(), after=()):
    """The oracle's logits between other layers."""
    dense = keras.layers.Dense(4)
    model = keras.Sequential([keras.Input((64,)), *before, dense, *after])
    dense.set_weights([KERNEL.astype("float32"), BIAS.astype("float32")])
    return model


def by_screen(attacked, norm="linf"):
    return screen(attacked, TEST, LABELS, RADII, norm=norm).distance


def by_descent(attacked):
    """A cheaper attack, at the largest radius alone."""
    found = PGD(steps=10).run(attacked, TEST, LABELS, epsilon=np.full(len(TEST), RADII[-1]), t=LABELS)
    correct = attacked.correct(TEST, LABELS)
    return np.where(correct, np.where(found.fooled, RADII[-1], np.inf), 0.0)


def judged(model, attack, **options):
    """Distances by an attack, and the flags by name."""
    attacked = oracle.attacked(model, TEST)
    distances = attack(attacked)
    found = masking_flags(attacked, TEST, LABELS, RADII, distances, **options)
    return distances, {flag.name: flag for flag in found}


def withholding(found):
    return {name for name, flag in found.items() if flag.severity == "withholds"}


# Layers before and after the logits, and the flags that they must raise.
MASKED = {
    "logits x 100": ([], [Scaled], {"logit_scale": "note"}),
    "softmax": ([], [lambda: Uncut(1.0)], {"probability_outputs": "note"}),
    "saturated softmax": (
        [],
        [lambda: Uncut(40.0)],
        {"probability_outputs": "withholds", "zero_gradients": "withholds", "saturated_loss": "withholds"},
    ),
    "input rounding": ([Rounded], [], {"zero_gradients": "withholds", "unbounded_fails": "withholds"}),
    "output noise": ([], [lambda: Noisy(seeded=True)], {"randomised": "withholds"}),
    "noise of the global seed": ([], [lambda: Noisy(seeded=False)], {"randomised": "withholds"}),
    "noise of NumPy": ([], [NumpyNoise], {"randomised": "withholds"}),
    "state that moves": ([], [Counting], {"randomised": "withholds"}),
    "batch statistics": ([Centred], [], {"batch_dependent": "withholds"}),
    "gradients reversed": ([Backwards], [], {"square_beats_gradients": "withholds", "unbounded_fails": "withholds"}),
    "gradients reversed after a step": ([Lattice], [], {"one_step_beats_iterative": "withholds"}),
}

if keras.backend.backend() == "jax":
    # Keras itself refuses to compile what draws from the global seed.
    del MASKED["noise of the global seed"]


@pytest.mark.parametrize("name", MASKED)
def test_a_masked_model_is_attacked_to_within_a_point_of_the_truth_or_flagged(name):
    before, after, expected = MASKED[name]
    masked = "withholds" in expected.values()
    model = linear([make() for make in before], [make() for make in after])
    distances, found = judged(model, by_descent if masked else by_screen)
    for flag, severity in expected.items():
        assert found[flag].severity == severity
        assert ("withheld" in found[flag].text) == (severity == "withholds")
        assert 0 < found[flag].value <= 1
    assert bool(withholding(found)) == masked
    if not masked:
        for epsilon in RADII:
            sure = np.abs(EXACT - epsilon) > 1e-4
            assert abs(np.mean(distances[sure] > epsilon) - np.mean(EXACT[sure] > epsilon)) <= 0.01


def small_net():
    """Two layers, fitted by scikit-learn."""
    from sklearn.neural_network import MLPClassifier

    fitted = MLPClassifier(32, tol=1e-2, random_state=0).fit(X[:-100], Y[:-100])
    hidden, logits = keras.layers.Dense(32, activation="relu"), keras.layers.Dense(4, activation="softmax")
    model = keras.Sequential([keras.Input((64,)), hidden, logits])
    model.set_weights([each for pair in zip(fitted.coefs_, fitted.intercepts_, strict=True) for each in pair])
    return model


def small_convnet():
    """Random filters, whose maxima a regression decides by."""
    rng = np.random.default_rng(0)
    pixels, pool = keras.layers.Reshape((8, 8, 1)), keras.layers.MaxPooling2D(2)
    filters = keras.layers.Conv2D(8, 3, padding="same", activation="relu")
    below = keras.Sequential([keras.Input((64,)), pixels, filters, pool, keras.layers.Flatten()])
    filters.set_weights([rng.normal(0, 0.3, (3, 3, 1, 8)), rng.normal(0, 0.1, 8)])
    features = engine().to_numpy(below(X[:-100]))
    last = keras.layers.Dense(4)
    model = keras.Sequential([*below.layers, last])
    model.build((None, 64))
    last.set_weights(oracle.linear_weights(features, Y[:-100]))
    return model


@pytest.mark.parametrize(("make", "norm"), [(linear, "linf"), (small_net, "linf"), (small_convnet, "l2")])
def test_an_honest_model_raises_nothing_that_withholds_its_score(make, norm):
    distances, found = judged(make(), lambda attacked: by_screen(attacked, norm), norm=norm)
    assert (distances > 0).mean() > 0.85
    assert not withholding(found)


def test_logits_are_judged_whose_sigmoid_could_be_left_out_and_outputs_whose_could_not():
    kernel, bias = KERNEL[:, 1:2] - KERNEL[:, :1], BIAS[1:2] - BIAS[:1]
    u, y = TEST[LABELS < 2][:24], LABELS[LABELS < 2][:24]
    for layers, expected in (([], False), ([keras.layers.Lambda(keras.ops.sigmoid, name="p")], True)):
        dense = keras.layers.Dense(1, activation=None if layers else "sigmoid")
        model = keras.Sequential([keras.Input((64,)), dense, *layers])
        dense.set_weights([kernel.astype("float32"), bias.astype("float32")])
        found = masking_flags(oracle.attacked(model, u), u, y, [0.1], np.full(len(u), 0.1), n_samples=8)
        named = {flag.name: flag for flag in found}
        assert named["few_classes"].value == 2
        assert named["few_classes"].severity == "note"
        assert ("probability_outputs" in withholding(named)) == expected


def test_a_model_that_is_always_wrong_has_nothing_to_judge():
    constant = oracle.trained(np.zeros_like(KERNEL), np.zeros_like(BIAS))
    assert masking_flags(oracle.attacked(constant, TEST), TEST, LABELS, RADII, np.zeros(100)) == []


def test_the_model_and_the_random_state_stay_as_they_were_and_the_seed_decides():
    model = linear(after=[Noisy(seeded=True), Counting()])
    before = [engine().to_numpy(v.value) for v in model.variables]
    keras.utils.set_random_seed(1)
    drawn = engine().to_numpy(keras.random.uniform((3,)))
    keras.utils.set_random_seed(1)
    every = [
        masking_flags(oracle.attacked(model, TEST), TEST, LABELS, RADII, np.full(100, np.inf), seed=3) for _ in "ab"
    ]
    assert every[0] == every[1]
    np.testing.assert_array_equal(engine().to_numpy(keras.random.uniform((3,))), drawn)
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(engine().to_numpy(variable.value), value)


def test_only_so_many_samples_are_judged_and_rightly_decided_ones():
    attacked = oracle.attacked(linear(after=[Counting()]), TEST)
    for most, expected in ((7, 7), (1000, int((EXACT > 0).sum()))):
        (flag,) = masking_flags(attacked, TEST, LABELS, RADII, np.full(100, np.inf), n_samples=most)
        assert flag.n == expected


@pytest.mark.parametrize(
    ("options", "said"),
    [({"norm": "l7"}, "norm='l7'"), ({"n_samples": 0}, "n_samples=0"), ({"radii": [0.0]}, "above 0")],
)
def test_wrong_options_are_refused(options, said):
    radii = options.pop("radii", RADII)
    with pytest.raises(ConfigError, match=said):
        masking_flags(oracle.attacked(linear(), TEST), TEST, LABELS, radii, EXACT, **options)


# Judgements on arrays.


def these(*rows, n=1000):
    found = np.zeros(n, bool)
    found[list(rows)] = True
    return found


def test_samples_count_from_a_fifth_of_a_percent_and_two_on():
    assert not flags.counts(these(0, n=10))
    assert flags.counts(these(0, 1, n=10))
    assert not flags.counts(these(0, 1))
    assert flags.counts(these(0, 1, 2))


def test_outputs_that_move_by_rounding_are_no_random_ones():
    z = np.random.default_rng(0).normal(0, 3, (20, 5)) + 1000
    assert flags.randomised(np.stack([z, z + 1e-6, z + 7])) is None
    moved = z.copy()
    moved[3, 0] += 0.1
    flag = flags.randomised(np.stack([z, z, moved]))
    assert flag.value == 1 / 20
    assert flags.batch_dependent(z, moved).value == 1 / 20
    assert flags.randomised(np.stack([z, np.full_like(z, np.nan)])).value == 1


def test_probabilities_are_told_from_logits():
    z = np.random.default_rng(0).normal(0, 1, (20, 5))
    p = softmax(z, axis=1)
    assert flags.probability_outputs(z) is None
    assert flags.probability_outputs(p * 1.01) is None
    assert flags.probability_outputs(np.log(p)) is None
    assert flags.probability_outputs(p).severity == "note"
    z[:3, 0] += 25
    flag = flags.probability_outputs(softmax(z, axis=1).astype("float32"))
    assert (flag.severity, flag.value) == ("withholds", 3 / 20)
    assert flags.probability_outputs(expit(z[:, :1])).severity == "withholds"
    assert flags.probability_outputs(z[:, :1]) is None


def test_a_gradient_of_zero_withholds_where_samples_stand_and_every_loss_has_it():
    some, none, fallen = these(1, 2, 3), these(), these(1, 2, 3)
    assert flags.zero_gradients({"margin": none, "dlr": none}, none) is None
    assert flags.zero_gradients({"margin": some, "dlr": some}, none).severity == "withholds"
    assert flags.zero_gradients({"margin": some, "dlr": some}, fallen).severity == "note"
    flag = flags.zero_gradients({"margin": none, "dlr": some}, none)
    assert flag.severity == "note"
    assert "'dlr'" in flag.text


@pytest.mark.parametrize("n_classes", [2, 3, 4, 10])
def test_two_or_three_classes_are_too_few(n_classes):
    flag = flags.few_classes(n_classes, 50)
    assert (flag is None) == (n_classes >= 4)
    if flag is not None:
        assert (flag.severity, flag.value, flag.n) == ("note", n_classes, 50)


def test_the_scale_of_logits_is_a_note_from_where_a_float32_softmax_rounds_to_1():
    margins = -np.linspace(0, 32, 101)
    flag = flags.logit_scale(margins)
    assert (flag.severity, flag.value) == ("note", np.mean(margins < -16))
    assert flags.logit_scale(margins / 2) is None


def test_a_margin_is_saturated_if_it_never_moves():
    margins = -np.linspace(1, 2, 1000)
    around = np.stack([margins, margins, margins + 0.01])
    assert flags.saturated_loss(margins, around, np.ones(1000), these()) is None
    around[:, :5] = margins[:5] + 1e-7
    assert flags.saturated_loss(margins, around, np.ones(1000), these()).value == 5 / 1000
    assert flags.saturated_loss(margins, around, np.ones(1000), these(*range(5))).severity == "note"


def test_one_step_must_not_beat_many():
    one, many = these(*range(10)), these(*range(8))
    assert flags.one_step_beats_iterative(one, one, these()) is None
    assert flags.one_step_beats_iterative(one, many, these()) is None
    many = these(*range(5))
    assert flags.one_step_beats_iterative(one, many, these()).severity == "withholds"
    assert flags.one_step_beats_iterative(one, many, one).severity == "note"


@pytest.mark.parametrize("judge", [flags.square_beats_gradients, flags.noise_beats_gradients])
def test_what_finds_points_without_gradients_must_not_beat_them(judge):
    gradients = these(*range(100))
    assert judge(these(*range(102)), gradients) is None
    flag = judge(these(*range(50, 103)), gradients)
    assert (flag.severity, flag.value) == ("withholds", 3 / 1000)


def test_within_the_whole_box_accuracy_falls_below_that_of_guessing():
    assert flags.unbounded_fails(these(*range(99)), 10) is None
    assert flags.unbounded_fails(these(*range(100)), 10).value == 0.1
    assert flags.unbounded_fails(these(0, n=5), 10) is None


def test_a_larger_radius_must_not_find_less():
    radii = np.array([0.1, 0.2, 0.3, 0.4])
    fooled = np.stack([these(*range(k)) for k in (10, 30, 20, 40)])
    missed, found = np.full(1000, np.inf), np.full(1000, 0.15)
    assert flags.curve_not_monotone(radii, np.sort(fooled, axis=0), missed) is None
    flag = flags.curve_not_monotone(radii, fooled, missed)
    assert (flag.severity, flag.value) == ("withholds", 30 / 1000)
    assert "within ε=0.2, but only 20 within ε=0.3" in flag.text
    assert flags.curve_not_monotone(radii, fooled, found).severity == "note"
    assert flags.curve_not_monotone(radii, np.stack([these(*range(k)) for k in (10, 30, 28, 40)]), missed) is None


def test_a_model_that_decides_all_alike_hides_nothing():
    """Nothing within the box is decided otherwise, so that no attack fools it is the truth."""
    model = oracle.trained(0 * KERNEL, np.array([5.0, 0.0, 0.0, 0.0]))
    zeros = LABELS == 0
    attacked = oracle.attacked(model, TEST)
    distances = np.where(zeros, np.inf, 0.0)
    found = masking_flags(attacked, TEST, LABELS, RADII, distances)
    assert "unbounded_fails" not in {flag.name for flag in found}
