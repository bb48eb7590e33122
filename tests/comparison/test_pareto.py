"""The Pareto analysis of results: objectives, missing values, gaps, several sources, and what is saved."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest

from analyzer.comparison.objectives import read_objectives
from analyzer.comparison.pareto import pareto
from analyzer.comparison.quantities import QUANTITIES, leaves
from analyzer.comparison.stored import add_pareto, as_results, store_pareto
from analyzer.data_types import AnalysisResults, Estimate, Failed, MultiOutput, Skipped
from analyzer.data_types.comparison import Comparison
from analyzer.data_types.results import ANALYSIS_TYPES
from analyzer.errors import ConfigError, DataError
from tests.comparison.made import estimate, measured, results, trained

pytestmark = pytest.mark.plain

THREE = ("accuracy", "ece", "parameters")


def exact(accuracy, ece, parameters):
    return estimate(accuracy), estimate(ece), parameters


class TestDefault:
    """Peak performance against overfitting index."""

    def test_good_and_little_overfitting_is_the_front(self):
        found = pareto(
            results(
                best=trained(0.95, 0.10, 0.20),
                calm=trained(0.90, 0.18, 0.25),
                worse=trained(0.85, 0.10, 0.30),
            )
        )
        assert found.front == ("calm", "best")
        assert found.models["worse"].dominated_by == ("best", "calm")
        assert (found.models["worse"].rank, found.models["best"].rank) == (2, 1)
        assert [(o.name, o.label, o.direction, o.compared) for o in found.objectives] == [
            ("peak_performance", "Peak val_accuracy", "max", True),
            ("overfitting_index", "Overfitting index", "min", True),
            ("epochs_to_convergence", "Epochs to converge", "min", False),
        ]

    def test_under_fitting_is_not_rewarded(self):
        models = {"best": trained(0.95, 0.05, 0.20), "under": trained(0.30, 1.90, 1.91)}
        found = pareto(results(**models))
        assert found.front == ("best",)
        under = found.models["under"]
        assert under.under_fitted
        assert under.values["overfitting_index"].value == pytest.approx(0.01)
        # The worst gap of those that fit, and its shortfall to the best validation loss.
        assert under.counted["overfitting_index"].value == pytest.approx(0.15 + (1.90 - 0.20))
        assert "under-fitted" in under.notes[0]
        assert "'best'" in under.notes[0]

    def test_an_under_fitted_model_with_a_large_gap_counts_both(self):
        models = {"best": trained(0.95, 0.05, 0.20), "both": trained(0.30, 0.50, 1.40)}
        counted = pareto(results(**models)).models["both"].counted["overfitting_index"].value
        assert counted == pytest.approx((1.40 - 0.50) + (0.50 - 0.20))
        models["under"] = trained(0.30, 1.90, 1.91)
        counted = pareto(results(**models)).models["under"].counted["overfitting_index"].value
        assert counted == pytest.approx((0.20 - 0.05) + (1.90 - 0.20)), "behind those that fit, not behind all"

    def test_relative_gaps_count_relative_shortfalls(self):
        models = {"best": trained(0.95, 0.05, 0.20), "under": trained(0.30, 1.90, 1.91)}
        found = pareto(results(**models), ["peak_performance", "normalized_overfitting_index"])
        counted = found.models["under"].counted["normalized_overfitting_index"].value
        assert counted == pytest.approx(0.75 + (1.90 - 0.20) / 1.90)

    def test_a_negative_gap_is_no_gain(self):
        found = pareto(results(plain=trained(0.91, 0.20, 0.20), dropout=trained(0.90, 0.50, 0.20)))
        assert found.front == ("plain",)
        assert found.models["dropout"].counted["overfitting_index"].value == 0
        assert found.models["dropout"].values["overfitting_index"].value == pytest.approx(-0.30)

    def test_a_regularised_model_that_performs_as_well_is_not_under_fitted(self):
        found = pareto(results(plain=trained(0.90, 0.05, 0.20), dropout=trained(0.90, 0.50, 0.25)))
        assert not found.models["dropout"].under_fitted
        assert found.front == ("dropout",)
        worse = pareto(results(plain=trained(0.90, 0.05, 0.20), dropout=trained(0.80, 0.50, 0.25)))
        assert worse.models["dropout"].under_fitted

    def test_a_small_model_that_is_under_fitted_may_still_win_by_its_size(self):
        found = results(best=trained(0.95, 0.05, 0.20), tiny=trained(0.60, 1.20, 1.21))
        sizes = measured(best=exact(0.95, 0.1, 9000), tiny=exact(0.6, 0.1, 90))
        found.weights = sizes.weights
        three = pareto(found, ["peak_performance", "overfitting_index", "parameters"])
        assert three.models["tiny"].under_fitted
        assert set(three.front) == {"best", "tiny"}

    def test_differences_within_the_noise_of_epochs_are_ties(self):
        def sweep(noise):
            return pareto(
                results(a=trained(0.950, 0.1, 0.2, noise=noise), b=trained(0.945, 0.1, 0.3, noise=noise))
            ).models["a"]

        assert sweep(0.0).values["peak_performance"].low is None
        assert sweep(0.01).values["peak_performance"].low < 0.95 < sweep(0.01).values["peak_performance"].high
        assert sweep(0.01).values["peak_performance"].method == "epoch-to-epoch noise of one run"

    def test_a_tie_in_performance_lets_overfitting_decide(self):
        loud = {"noise": 0.01}
        found = pareto(results(a=trained(0.950, 0.1, 0.8, **loud), b=trained(0.945, 0.1, 0.3, **loud)))
        assert found.front == ("b",)
        assert pareto(results(a=trained(0.950, 0.1, 0.8), b=trained(0.945, 0.1, 0.3))).front == ("b", "a")

    def test_several_runs_keep_the_interval_over_runs(self):
        one = trained(0.9, 0.1, 0.2, noise=0.01, runs=3)
        wide = dataclasses.replace(one.peak_performance, value=estimate(0.9, 0.7, 1.0, n=3))
        found = pareto(results(a=dataclasses.replace(one, peak_performance=wide)))
        assert (found.models["a"].values["peak_performance"].low, found.models["a"].rank) == (0.7, 1)

    def test_where_less_is_better_the_peak_is_the_smallest(self):
        kind = {"name": "mean_absolute_error", "direction": "down"}
        found = pareto(results(good=trained(0.2, 0.1, 0.2, **kind), bad=trained(0.9, 0.1, 0.3, **kind)))
        assert found.objectives[0].direction == "min"
        assert found.front == ("good",)

    def test_peaks_of_different_metrics_are_not_compared(self):
        found = pareto(
            results(
                a=trained(0.9, 0.1, 0.2),
                b=trained(0.8, 0.1, 0.2),
                c=trained(0.1, 0.1, 0.2, name="loss", direction="down"),
            )
        )
        assert "val_loss" in found.left_out["c"]
        assert found.front == ("a",)


class TestAnyObjectives:
    def test_front_and_table(self):
        found = pareto(measured(a=exact(0.9, 0.05, 100), b=exact(0.8, 0.02, 900), c=exact(0.7, 0.06, 500)), THREE)
        assert set(found.front) == {"a", "b"}
        assert found.models["c"].dominated_by == ("a",)
        assert found.models["a"].normalized == pytest.approx({"accuracy": 1.0, "ece": 0.25, "parameters": 1.0})
        assert found.front == ("b", "a"), "along the first objective"

    def test_intervals_of_the_results_decide_about_ties(self):
        def models(half):
            def wide(value):
                return estimate(value, value - half, value + half, n=300)

            return measured(a=(wide(0.90), estimate(0.05), 9), b=(wide(0.91), estimate(0.09), 9))

        assert pareto(models(0.02), ["accuracy", "ece"]).front == ("a",)
        assert pareto(models(0.001), ["accuracy", "ece"]).front == ("a", "b")

    def test_missing_is_neither_zero_nor_bad(self):
        found = pareto(measured(a=exact(0.9, 0.05, 10), b=(estimate(0.99), estimate(None), 1)), THREE)
        assert found.front == ("a",)
        assert "no ece: 'calibration.ece' is undefined" in found.left_out["b"]
        missing = found.models["b"]
        assert (missing.rank, missing.counted, missing.dominated_by) == (None, {}, ())
        assert set(missing.normalized.values()) == {None}
        assert missing.values["accuracy"].value == 0.99

    def test_skipped_and_failed_analyses_are_named_with_their_reason(self):
        models = measured(a=exact(0.9, 0.05, 10), b=exact(0.9, 0.05, 10), c=exact(0.9, 0.05, 10))
        models.calibration["b"] = Skipped("no labels were given")
        models.calibration["c"] = Failed("ValueError: boom", "calibration")
        found = pareto(models, THREE)
        assert found.left_out == {
            "b": "no ece: the analysis 'calibration' was skipped: no labels were given",
            "c": "no ece: the analysis 'calibration' failed: ValueError: boom (in calibration)",
        }

    def test_where_nobody_can_be_compared_the_reasons_are_the_error(self):
        with pytest.raises(DataError, match=r"'a': no peak_performance and no overfitting_index: .* no result"):
            pareto(measured(a=exact(0.9, 0.05, 10)))
        with pytest.raises(DataError, match=r"run analyze\(\) first"):
            pareto(AnalysisResults(("a",)))

    def test_losses_of_different_kinds_are_not_compared(self):
        models = measured(**{name: exact(0.9, 0.05, 10) for name in "abc"})
        models.performance["c"] = dataclasses.replace(models.performance["c"], loss_name="mean_squared_error")
        found = pareto(models, ["accuracy", "loss"])
        assert "its loss is about 'mean_squared_error'" in found.left_out["c"]

    def test_paths_signs_and_mappings(self):
        models = measured(a=exact(0.9, 0.05, 10), b=exact(0.8, 0.02, 20))
        models.custom_metrics = {"a": {"my_score": 0.1}, "b": {"my_score": 0.3}}
        by_sign = pareto(models, ["accuracy", "+custom_metrics.my_score"])
        by_map = pareto(models, {"accuracy": "max", "custom_metrics.my_score": "min"})
        assert by_sign.front == ("b", "a")
        assert by_map.front == ("a",)
        assert (
            pareto(models, ["-weights.layers.dense.l2", "performance.metrics.top_5_accuracy"]).objectives[1].direction
            == "max"
        )

    def test_an_output_of_several(self):
        models = measured(a=exact(0.9, 0.05, 10), b=exact(0.8, 0.02, 20))
        for name, result in models.performance.items():
            models.performance[name] = MultiOutput(outputs={"left": result, "right": Skipped("no labels")})
        found = pareto(models, ["accuracy@left", "ece"])
        assert found.objectives[0].label == "Accuracy (left)"
        assert found.front == ("b", "a")
        with pytest.raises(DataError, match=r"several outputs \('left', 'right'\)"):
            pareto(models, ["accuracy", "ece"])
        with pytest.raises(DataError, match="no labels"):
            pareto(models, ["accuracy@right", "ece"])
        with pytest.raises(DataError, match="no output 'middle'"):
            pareto(models, ["accuracy@middle", "ece"])

    def test_knee_and_hypervolume_without_the_library(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "moocore", None)
        corner = measured(a=exact(0.5, 0.01, 1), b=exact(0.9, 0.02, 1), c=exact(0.95, 0.2, 1))
        found = pareto(corner, ["accuracy", "ece"])
        assert (found.front, found.knee, found.knee_reason) == (("a", "b", "c"), "b", None)
        assert found.hypervolume is None
        assert "keras-analyzer[pareto]" in found.hypervolume_reason

    @pytest.mark.parametrize(("models", "said"), [("a", "one model"), ("ab", "two ends"), ("abc", "bulge")])
    def test_why_there_is_no_knee(self, models, said):
        values = {name: exact(0.5 + 0.1 * i, 0.1 + 0.1 * i, 1) for i, name in enumerate(models)}
        found = pareto(measured(**values), ["accuracy", "ece"])
        assert found.knee is None
        assert said in found.knee_reason

    def test_the_order_of_models_changes_nothing(self):
        values = {f"m{i}": exact(0.5 + 0.04 * i, 0.01 * (i % 4), 100 - i) for i in range(9)}
        there = pareto(measured(**values), THREE)
        back = pareto(measured(**dict(reversed(values.items()))), THREE)
        assert set(there.front) == set(back.front)
        assert {n: m.rank for n, m in there.models.items()} == {n: m.rank for n, m in back.models.items()}


class TestObjectives:
    @pytest.mark.parametrize(
        ("objectives", "said"),
        [
            (["acuracy", "ece"], "Did you mean 'accuracy'"),
            (["calibration.ecee", "ece"], "Did you mean 'calibration.ece'"),
            (["calibratoin.ece", "accuracy"], "Unknown objective"),
            (["ece"], "at least two"),
            ([], "at least two"),
            (["ece", "calibration.ece"], "given twice"),
            ({"ece": "up", "accuracy": "max"}, "expected 'max' or 'min'"),
            (["weights.layers.dense.l2", "ece"], "which way is better"),
            ("ece", "expected names"),
            ([1, 2], "expected names"),
        ],
    )
    def test_what_is_wrong_is_said(self, objectives, said):
        with pytest.raises(ConfigError, match=said):
            read_objectives(objectives)

    def test_every_name_of_the_table_leads_to_a_number(self):
        for quantity in QUANTITIES.values():
            for path in filter(None, (quantity.path, quantity.otherwise)):
                assert any(leaves(ANALYSIS_TYPES[path[0]], path[1:])), path

    def test_the_users_direction_goes_before_the_tables(self):
        assert [one.direction for one in read_objectives(["+ece", "accuracy"])] == ["max", "max"]


class TestSeveralSources:
    def test_equal_names_get_their_label_and_others_do_not(self):
        first, second = measured(a=exact(0.9, 0.1, 1), b=exact(0.8, 0.1, 1)), measured(b=exact(0.95, 0.1, 1))
        assert list(pareto([first, second], ["accuracy", "ece"]).models) == ["a", "1/b", "2/b"]
        labelled = pareto({"monday": first, "tuesday": second}, ["accuracy", "ece"])
        assert labelled.front == ("tuesday/b",)

    def test_a_label_that_makes_a_name_that_exists_is_repeated(self):
        first = measured(**{"1/b": exact(0.9, 0.1, 1)})
        found = pareto([first, measured(b=exact(0.8, 0.1, 1)), measured(b=exact(0.7, 0.1, 1))], ["accuracy", "ece"])
        assert len(found.models) == 3

    def test_read_from_files(self, tmp_path):
        whole = results(**{f"m{i}": trained(0.5 + 0.04 * i, 0.1, 0.2 + 0.02 * i**1.5) for i in range(8)})
        halves = []
        for k, names in enumerate((whole.model_names[:4], whole.model_names[4:])):
            half = results(**{name: whole.training_dynamics[name] for name in names})
            halves.append(AnalysisResults.load(half.to_json(tmp_path / str(k))))
        assert pareto(halves).front == pareto(whole).front
        assert len(pareto(whole).front) > 2


class TestStored:
    def test_it_survives_the_file(self, tmp_path):
        found = pareto(results(best=trained(0.95, 0.1, 0.2, noise=0.01), under=trained(0.3, 1.9, 1.91)))
        path = as_results(found).to_json(tmp_path)
        loaded = AnalysisResults.load(path).comparison.pareto
        assert loaded.objectives == found.objectives
        for field in ("front", "knee", "knee_reason", "hypervolume", "left_out", "compared"):
            assert getattr(loaded, field) == getattr(found, field)
        assert {n: dataclasses.asdict(m) for n, m in loaded.models.items()} == {
            n: dataclasses.asdict(m) for n, m in found.models.items()
        }

    def test_files_from_before_have_none(self, tmp_path):
        older = AnalysisResults(("a", "b"))
        older.comparison = Comparison(names=("a", "b"))
        path = older.to_json(tmp_path)
        document = json.loads(path.read_text())
        del document["comparison"]["pareto"]
        path.write_text(json.dumps(document))
        assert AnalysisResults.load(path).comparison.pareto is None

    @pytest.mark.parametrize(("at_least", "made"), [(1, True), (2, True), (3, False)])
    def test_it_is_made_for_enough_models_with_values(self, at_least, made):
        three = results(a=trained(0.9, 0.1, 0.2), b=trained(0.8, 0.1, 0.2), c=Skipped("no history"))
        three.comparison = Comparison(names=three.model_names)
        add_pareto(three, at_least=at_least)
        assert (three.comparison.pareto is not None) == made

    def test_where_there_are_no_values_nothing_is_made_and_nothing_raised(self):
        plain = measured(a=exact(0.9, 0.1, 1), b=exact(0.8, 0.1, 1))
        add_pareto(plain, at_least=1)
        assert plain.comparison is None

    @pytest.mark.parametrize("reason", [Skipped("one model only"), Failed("ValueError: boom", "similarity")])
    def test_a_comparison_that_is_absent_keeps_its_reason(self, reason):
        found = measured(a=exact(0.9, 0.1, 1))
        found.comparison = reason
        store_pareto(found, pareto(found, ["accuracy", "ece"]))
        assert found.comparison is reason

    def test_what_differs_between_equal_runs_lies_under_measured(self):
        found = measured(a=exact(0.9, 0.1, 1), b=exact(0.8, 0.1, 1))
        one = pareto(found, ["accuracy", "ece"])
        timed = dataclasses.replace(
            one, objectives=(one.objectives[0], dataclasses.replace(one.objectives[1], measured=True))
        )
        store_pareto(found, timed)
        assert found.comparison is None
        assert found.to_document()[0]["measured"]["pareto"]["front"] == ["a"]


def test_numbers_of_cost_are_read_where_they_are():
    from analyzer.data_types.cost import CostResult, Latency

    found = AnalysisResults(("fast", "slow"))
    for name, seconds, flops in (("fast", 0.001, 10), ("slow", 0.002, 5)):
        time = Latency(
            id="batch_1",
            batch_size=1,
            seconds=Estimate(value=seconds, low=0.9 * seconds, high=1.1 * seconds, n=30),
            lower_quartile=seconds,
            upper_quartile=seconds,
        )
        empty = {field.name: None for field in dataclasses.fields(CostResult)}
        found.cost[name] = CostResult(
            **empty
            | {"parameters": 7, "flops": flops, "uncounted": {}, "latency": (time,), "findings": (), "layers": ()}
        )
    both = pareto(found, ["latency", "flops"])
    assert both.front == ("slow", "fast")
    assert both.objectives[0].measured
    assert pareto(found, ["latency", "parameters"]).front == ("fast",)
    found.cost["slow"] = dataclasses.replace(found.cost["slow"], uncounted={"lambda": "unknown"})
    assert "lower bound" in pareto(found, ["latency", "flops"]).left_out["slow"]


def test_values_are_plain_numbers():
    found = pareto(results(a=trained(0.9, 0.1, 0.2, noise=0.01)))
    assert all(
        not isinstance(value, np.generic) for value in dataclasses.astuple(found.models["a"].values["peak_performance"])
    )
