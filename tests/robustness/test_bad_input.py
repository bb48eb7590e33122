"""What cannot be attacked or diagnosed is one clear error, or skipped by name, wherever a user may bring it in."""

import json

import keras
import numpy as np
import pytest

from analyzer import (
    AnalysisConfig,
    DataInput,
    ModelAnalyzer,
    compare_versions,
    inspect_model,
    layers_at_fault,
    prune,
    units_at_fault,
)
from analyzer.cli import main
from analyzer.data_types.values import Skipped
from analyzer.errors import ConfigError, DataError
from analyzer.inspection import open_model
from analyzer.robustness.attacks.apgd import APGD
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.autoattack import autoattack
from analyzer.robustness.attacks.ddn import DDN
from analyzer.robustness.attacks.deepfool import DeepFool
from analyzer.robustness.attacks.fab import FAB
from analyzer.robustness.attacks.gradient_descent import PGD
from analyzer.robustness.attacks.square import Square
from analyzer.robustness.attacks.threat import Box
from analyzer.robustness.attacks.tiers import attack_in_tier

L = keras.layers
N = 12
RNG = np.random.default_rng(0)
X = RNG.uniform(size=(N, 4)).astype("float32")
Y = np.arange(N) % 3
TARGETS = RNG.normal(size=N).astype("float32")
PIXELS = (X * 255).astype("uint8")


def net(classes=3, *first, activation="softmax", loss=None, dtype="float32"):
    layers = [*first, L.Dense(5, activation="relu", name="hidden"), L.Dense(classes, activation=activation)]
    model = keras.Sequential([keras.Input((4,), dtype=dtype), *layers])
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0, 0.7, w.shape) for w in model.get_weights()])
    if loss is not None:
        model.compile(loss=loss)
    return model


def regression():
    return net(1, activation=None, loss="mse")


def audited(model, x, y, folder, **options):
    others = ("weights", "calibration", "information_flow", "training_dynamics", "cost")
    config = AnalysisConfig(
        **{f"analyze_{name}": False for name in others},
        analyze_robustness=True,
        save_plots=False,
        progress=False,
        n_bootstrap=20,
        **options,
    )
    return ModelAnalyzer({"net": model}, config=config, output_dir=folder).analyze(DataInput(x, y)).robustness["net"]


def attacked(classes=3):
    return Attacked(view=open_model(net(classes), X[:1]), box=Box(low=0, high=1, source="given"))


class TestAnalysis:
    def test_data_outside_the_bounds_that_were_stated(self, tmp_path):
        found = audited(net(), X * 16, Y, tmp_path, robustness_bounds=(0, 1))
        assert (found.aura, found.distance, found.withheld) == (None, None, "Not attacked.")
        (note,) = (note for note in found.notes if note.startswith("not attacked: "))
        row, column = np.unravel_index(X.argmax(), X.shape)
        assert f"outside bounds=(0, 1); furthest out is x[{row}, {column}] = {16 * X.max():g}" in note
        assert "Give bounds=(low, high) that hold them, or scale the data" in note

    def test_a_model_that_declares_whole_numbers(self, tmp_path):
        found = audited(net(3, L.Rescaling(1 / 255), dtype="uint8"), PIXELS, Y, tmp_path)
        assert found.aura is None
        (note,) = (note for note in found.notes if note.startswith("not attacked: "))
        assert "takes uint8. Pixels can be declared as float32" in note

    def test_whole_numbers_for_a_model_of_floats_are_the_floats_that_it_makes_of_them(self, tmp_path):
        found = [
            audited(net(3, L.Rescaling(1 / 255)), x, Y, tmp_path / x.dtype.name)
            for x in (PIXELS, PIXELS.astype("float32"))
        ]
        assert (found[0].threat.low, found[0].threat.high) == pytest.approx((0, 255))
        assert np.isfinite(found[0].distance).any()
        np.testing.assert_array_equal(*(each.distance for each in found))

    def test_two_classes_are_noted_and_a_regression_is_skipped(self, tmp_path):
        found = audited(net(2), X, Y % 2, tmp_path / "two")
        (flag,) = (flag for flag in found.flags if flag.name == "few_classes")
        assert (flag.severity, flag.value, found.withheld) == ("note", 2, None)
        assert found.aura is not None
        skipped = audited(regression(), X, TARGETS, tmp_path / "numbers")
        assert isinstance(skipped, Skipped)
        assert "the task is regression. The model was compiled with mean_squared_error" in skipped.reason


WITHIN = {"PGD": PGD(), "APGD": APGD(), "Square": Square(), "AutoAttack": autoattack(3)}
NEAREST = {"FAB": FAB(), "DeepFool": DeepFool(), "DDN": DDN()}


class TestAttacks:
    def run_all(self, u, y):
        """Each attack, called directly, and the tiers."""
        model, radii = attacked(), np.full(N, 0.1)
        yield from ((lambda attack=attack: attack.run(model, u, y, radii)) for attack in WITHIN.values())
        yield from ((lambda attack=attack: attack.run(model, u, y)) for attack in NEAREST.values())
        yield lambda: attack_in_tier(model, u, y, np.array([0.1]), tier="standard")

    @pytest.mark.parametrize(
        ("u", "said"),
        [
            (np.eye(N, 4, dtype="int64"), "float values from 0 to 1; these are of int64.*token ids cannot be moved"),
            (np.eye(N, 4, dtype="uint8"), "these are of uint8"),
            (np.eye(N, 4) > 0, "these are of bool"),
            (X * 16, "inputs from 0 to 1; these reach from .* to 15.*Bring them there by to_unit"),
            (np.where(X > 0.9, np.nan, X), "NaN or infinite values. Remove or replace them"),
        ],
        ids=["int64", "uint8", "bool", "outside", "NaN"],
    )
    def test_inputs_that_are_none_are_refused_by_all_of_them(self, u, said):
        calls = list(self.run_all(u, Y))
        assert len(calls) == 8
        for call in calls:
            with pytest.raises(DataError, match=said):
                call()

    def test_pixels_are_told_what_to_become(self):
        with pytest.raises(DataError, match=r"the data are of uint8\. Give pixels as float32"):
            attacked().to_unit(PIXELS)

    @pytest.mark.parametrize("epsilon", [0.0, -0.1])
    def test_no_radius(self, epsilon):
        said = rf"epsilon={epsilon:g}: expected finite radii above 0, in units of the box"
        model = attacked()
        for attack in WITHIN.values():
            with pytest.raises(ConfigError, match=said):
                attack.run(model, X, Y, np.full(N, epsilon))
        with pytest.raises(ConfigError, match=said):
            attack_in_tier(model, X, Y, np.array([epsilon, 0.1]), tier="screen")

    @pytest.mark.parametrize(("loss", "fewest", "classes"), [("dlr", 3, 2), ("targeted_dlr", 4, 3)])
    def test_fewer_classes_than_a_loss_needs(self, loss, fewest, classes):
        model = attacked(classes)
        for attack in (PGD(loss=loss), APGD(loss=loss)):
            said = f"loss='{loss}' compares {fewest} classes, but the model tells {classes} apart. Use loss='margin'"
            with pytest.raises(ConfigError, match=said):
                attack.run(model, X, Y % classes, np.full(N, 0.1))

    def test_an_unknown_tier_is_refused_before_anything_runs(self):
        with pytest.raises(ConfigError, match="tier='best': expected one of screen, standard, full"):
            attack_in_tier(attacked(), X, Y, np.array([0.1]), tier="best")


class TestDiagnosis:
    def test_layers_and_units_of_a_regression_have_no_wrong_decision(self):
        calls = (
            lambda: layers_at_fault(regression(), X, X + 1, TARGETS),
            lambda: units_at_fault(regression(), X, X + 1, TARGETS, "hidden"),
        )
        for call in calls:
            with pytest.raises(DataError, match="should hold whole class numbers, got dtype float32"):
                call()

    def test_versions_of_a_regression_have_losses_but_no_flips(self):
        options = {"n_bootstrap": 20, "metric": "accuracy"}
        found = compare_versions(regression(), net(1, activation="relu", loss="mse"), X, TARGETS, **options)
        change = found.output()
        assert "predicts 'regression': flips are of one decision per sample" in change.flips.reason
        predicted = keras.ops.convert_to_numpy(regression()(X))[:, 0]
        assert change.loss.old.value == pytest.approx(np.square(predicted - TARGETS).mean(), rel=1e-5)
        assert "predicts 'regression', for which there is no accuracy per sample" in found.weight_swap.reason

    def test_a_regression_can_be_pruned(self):
        assert prune(regression(), {"hidden": [0, 3]}).get_layer("hidden").units == 3

    def test_what_needs_decisions_is_left_out_for_a_regression(self):
        found = inspect_model(regression(), None, X, X + 1, y=TARGETS, n_bootstrap=20)
        assert found.suggestions == ()
        assert set(found.suggestions_skipped) >= {"prune", "augment", "recalibrate"}
        assert "does not choose one class per sample" in found["failure_attribution"].notes[0]

    def test_labels_of_more_classes_than_the_model_has(self):
        said = r"labels from 0 to 2; the model has 2 classes, so they must lie in 0\.\.1"
        for call in (
            lambda: layers_at_fault(net(2), X, X + 1, Y),
            lambda: compare_versions(net(2), net(2), X, Y),
            lambda: inspect_model(net(2), None, X, X + 1, y=Y),
        ):
            with pytest.raises(DataError, match=said):
                call()

    def test_the_command_line_says_the_same(self, tmp_path, capsys):
        net(2).save(tmp_path / "two.keras")
        regression().save(tmp_path / "numbers.keras")
        np.savez(tmp_path / "three.npz", x=X, y=Y)
        np.savez(tmp_path / "numbers.npz", x=X, y=TARGETS)

        def inspect(model, data):
            words = ["--data", str(tmp_path / data), "--n-bootstrap", "20", "--output-dir", str(tmp_path / "out")]
            return main(["inspect", str(tmp_path / model), *words, "--quiet"])

        assert inspect("two.keras", "three.npz") == 2
        assert "the model has 2 classes, so they must lie in 0..1" in capsys.readouterr().err
        assert inspect("numbers.keras", "numbers.npz") == 0
        document = json.loads((tmp_path / "out" / "inspection.json").read_text())
        assert document["suggestions"] == []
        assert set(document["suggestions_skipped"]) >= {"prune", "augment", "recalibrate"}
