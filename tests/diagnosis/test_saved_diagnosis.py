"""Diagnoses as strict JSON and as tables: the numbers of the result, nothing made up where there is none."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

from analyzer.data_types.comparison import LayerCka
from analyzer.data_types.layer_faults import OF_LAYERS, BranchFault, ByGroup, LayerFault, LayersAtFault
from analyzer.data_types.values import Estimate, Skipped
from analyzer.diagnosis.fault_results import OF_UNITS, UnitFault, UnitsAtFault
from analyzer.diagnosis.faults import layers_at_fault
from analyzer.diagnosis.unit_faults import units_at_fault
from analyzer.diagnosis.version_results import OF_VERSIONS, LayerPair, VersionComparison
from analyzer.diagnosis.versions import compare_versions
from analyzer.diagnosis.weight_swap import LayerSwap, WeightSwap
from analyzer.errors import OutputError
from tests.diagnosis.faulty import chain, fill, residual, samples

L = keras.layers


def strict(text):
    """JSON without NaN and infinity, which Python reads and others do not."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def told(estimate):
    return {name: getattr(estimate, name) for name in ("value", "low", "high", "n", "level", "method")}


def versions(seed):
    """A net of fixed names whose second and last layers differ by seed."""
    layers = [L.Dense(6, activation="relu", name="one"), L.Dense(5, activation="relu", name="two")]
    model = fill(keras.Sequential([keras.Input((8,)), *layers, L.Dense(3, activation="softmax", name="head")]))
    rng = np.random.default_rng(seed)
    for name in ("two", "head"):
        layer = model.get_layer(name)
        layer.set_weights([w + rng.normal(0, 0.3 * seed, w.shape) for w in layer.get_weights()])
    return model


@pytest.fixture(scope="module")
def compared():
    x = np.random.default_rng(0).normal(size=(60, 8)).astype("float32")
    y = keras.ops.convert_to_numpy(versions(0)(x)).argmax(axis=1)
    return compare_versions(versions(0), versions(2), x, y, metric="accuracy", n_bootstrap=100)


@pytest.fixture(scope="module")
def traced():
    model = chain()
    data = samples(model, n=120, move=1.0)
    return units_at_fault(model, *data, "two", max_samples=24, steps=4, n_bootstrap=100)


class TestVersions:
    def test_the_document_holds_what_was_found(self, compared, tmp_path):
        text = compared.to_json(tmp_path / "new" / "versions.json")
        assert (tmp_path / "new" / "versions.json").read_text() == text == compared.to_json()
        document = strict(text)
        assert (document["type"], document["version"], document["n"]) == ("VersionComparison", "1.0", 60)
        assert document["definitions"] == dict(OF_VERSIONS)
        change = compared.output()
        (written,) = document["outputs"].values()
        assert written["flips"]["churn"] == told(change.flips.churn)
        assert written["flips"]["net"]["b"] == change.flips.net.b
        assert written["flips"]["by_class"][0]["new"] == told(change.flips.by_class[0].new)
        assert written["loss"]["change"] == told(change.loss.change)
        assert document["layers"] == [{"old": p.old, "new": p.new, "cka": p.cka} for p in compared.layers]
        np.testing.assert_array_equal(document["cka"]["values"], compared.cka.values)
        swap = document["weight_swap"]
        assert [each["change"] for each in swap["layers"]] == [
            told(each.change) for each in compared.weight_swap.layers
        ]
        assert swap["unchanged"] == ["one"]
        assert document["culprit"] == compared.weight_swap.culprit is not None

    def test_the_table_has_a_row_per_pair_and_its_changes_add_up(self, compared):
        frame = compared.to_frame()
        columns = ["old", "new", "cka", "change", "change_low", "change_high", "share"]
        assert list(frame.columns) == columns
        assert frame["old"].tolist() == ["one", "two", "head"]
        assert frame["cka"].tolist() == [pair.cka for pair in compared.layers]
        assert pd.isna(frame["change"][0])
        swaps = {swap.layer: swap for swap in compared.weight_swap.layers}
        for _, row in frame.iloc[1:].iterrows():
            change = swaps[row["old"]].change
            assert (row["change"], row["change_low"], row["change_high"]) == (change.value, change.low, change.high)
        whole = compared.weight_swap.new - compared.weight_swap.old - compared.weight_swap.remainder
        assert frame["change"].sum() == pytest.approx(whole, abs=1e-6)

    def test_what_is_missing_is_null_and_what_was_skipped_says_so(self):
        cka = LayerCka(
            first="old", second="new", n=4, first_layers=("a",), second_layers=("a",), values=np.array([[np.nan]])
        )
        pairs = (LayerPair(old="a", new="a", cka=None),)
        reason = Skipped("The old version has outputs ['a'], the new one ['b'].")
        none = Skipped("Not asked for: swap_weights is off.")
        found = VersionComparison(n=4, outputs=reason, cka=cka, layers=pairs, weight_swap=none)
        document = strict(found.to_json())
        assert document["cka"]["values"] == [[None]]
        assert document["layers"][0]["cka"] is None
        assert document["outputs"] == {"status": "skipped", "reason": reason.reason}
        assert document["weight_swap"] == {"status": "skipped", "reason": none.reason}
        assert document["culprit"] is None
        assert found.to_frame().drop(columns=["old", "new"]).isna().all(axis=None)
        empty = VersionComparison(n=4, outputs=reason, cka=none, layers=(), weight_swap=none).to_frame()
        assert (len(empty), list(empty)) == (0, list(found.to_frame()))

    def test_a_swapped_layer_that_was_not_followed_has_a_row_and_a_second_call_no_change(self):
        change = Estimate(value=0.5, low=0.25, high=0.75, n=4)
        swaps = tuple(LayerSwap(layer=name, new_layer=name, change=change, share=0.5) for name in ("a", "hidden"))
        swap = WeightSwap(
            metric="loss", n=4, old=1.0, new=2.0, layers=swaps, unchanged=(), remainder=0.0, exact=True, n_evaluations=4
        )
        pairs = tuple(LayerPair(old=name, new=name, cka=1.0) for name in ("a", "a@2"))
        outputs = Skipped("No decisions.")
        found = VersionComparison(n=4, outputs=outputs, cka=Skipped("No."), layers=pairs, weight_swap=swap)
        frame = found.to_frame()
        assert frame["old"].tolist() == ["a", "a@2", "hidden"]
        np.testing.assert_array_equal(frame["change"].to_numpy(float), [0.5, np.nan, 0.5])
        np.testing.assert_array_equal(frame["cka"].to_numpy(float), [1.0, 1.0, np.nan])

    def test_a_file_that_cannot_be_written_is_one_error(self, compared, tmp_path):
        (tmp_path / "taken").write_text("")
        with pytest.raises(OutputError, match=r"cannot be written to .*taken"):
            compared.to_json(tmp_path / "taken" / "versions.json")


class TestUnits:
    def test_the_document_holds_what_was_found(self, traced):
        document = strict(traced.to_json())
        assert (document["type"], document["layer"], document["by"]) == ("UnitsAtFault", "two", "channels")
        assert document["definitions"] == dict(OF_UNITS)
        assert document["n_used"] == list(traced.n_used)
        assert document["whole"]["failures"] == told(traced.whole.failures)
        for written, unit in zip(document["units"], traced.units, strict=True):
            assert written["index"] == list(unit.index)
            for measure in ("share", "noising", "denoising", "conductance"):
                for group in ("failures", "controls", "excess"):
                    assert written[measure][group] == told(getattr(getattr(unit, measure), group))

    def test_the_table_has_a_row_per_unit(self, traced):
        frame = traced.to_frame()
        assert frame["unit"].tolist() == [unit.index[0] for unit in traced.units]
        for column, measure, group in (
            ("share_failures", "share", "failures"),
            ("noising_excess", "noising", "excess"),
        ):
            estimates = [getattr(getattr(unit, measure), group) for unit in traced.units]
            for suffix, part in (("", "value"), ("_low", "low"), ("_high", "high")):
                assert frame[column + suffix].tolist() == [getattr(each, part) for each in estimates]
        assert frame[["n_failures", "n_controls"]].drop_duplicates().to_numpy().tolist() == [list(traced.n_used)]

    def test_units_of_a_grid_without_conductance_and_groups_without_numbers(self):
        measure = ByGroup(
            failures=Estimate(value=0.5, n=3),
            controls=Estimate(value=float("nan"), n=0),
            excess=Estimate(value=None, n=3),
        )
        unit = UnitFault(index=(2, 1), share=measure, noising=measure, denoising=measure)
        found = UnitsAtFault(
            layer="conv",
            by="positions",
            n_units=9,
            n_samples=5,
            n_failures=3,
            n_controls=0,
            n_used=(3, 0),
            whole=measure,
            units=(unit,),
            culprit=(2, 1),
        )
        document = strict(found.to_json())
        assert document["units"][0]["conductance"] is None
        assert document["units"][0]["share"]["controls"]["value"] is None
        assert document["culprit"] == [2, 1]
        row = found.to_frame().iloc[0]
        assert row["unit"] == (2, 1)
        assert row["share_failures"] == 0.5
        assert row.filter(like="conductance").isna().all()
        assert len(row.filter(like="conductance")) == 9


class TestLayers:
    def test_document_and_table_hold_what_was_found(self, tmp_path):
        model = residual(blocks=2, planted=1)
        found = layers_at_fault(model, *samples(model), max_samples=16, n_draws=1, n_bootstrap=100)
        document = strict(found.to_json(tmp_path / "layers.json"))
        assert (document["type"], document["culprit"], document["is_chain"]) == ("LayersAtFault", found.culprit, False)
        assert document["definitions"] == dict(OF_LAYERS)
        assert (document["n_used_failures"], document["n_used_controls"]) == found.n_used
        frame = found.to_frame().set_index("layer")
        assert list(frame.index) == [layer.id for layer in found.layers] == [row["id"] for row in document["layers"]]
        for layer, written in zip(found.layers, document["layers"], strict=True):
            assert written["shift"]["failures"] == told(layer.shift.failures)
            assert (written["noising"] is None) == layer.carries_all == frame["carries_all"][layer.id]
            assert frame["shift_failures_low"][layer.id] == layer.shift.failures.low
            assert pd.isna(frame["noising_failures"][layer.id]) == layer.carries_all
        for branch, written in zip(found.branches, document["branches"], strict=True):
            assert written["share"]["excess"] == told(branch.share.excess)
            assert frame["share_excess"][branch.id] == branch.share.excess.value
        assert frame["share_failures"].notna().sum() == len(found.branches) == 2

    def test_a_branch_that_no_layer_listed_ends_has_a_row_of_its_own(self):
        measure = ByGroup(
            failures=Estimate(value=0.5, n=3), controls=Estimate(value=0.25, n=3), excess=Estimate(value=0.25, n=6)
        )
        found = LayersAtFault(
            n_samples=6,
            n_failures=3,
            n_controls=3,
            n_used_failures=3,
            n_used_controls=3,
            lost=measure,
            layers=(LayerFault(id="stem", kind="Dense", carries_all=True, noise_gain=measure, shift=measure),),
            branches=(BranchFault(id="down", kind="Dense", share=measure, order_error=0.0),),
        )
        frame = found.to_frame()
        assert frame["layer"].tolist() == ["stem", "down"]
        np.testing.assert_array_equal(frame["share_failures"].to_numpy(float), [np.nan, 0.5])
        np.testing.assert_array_equal(frame["shift_failures"].to_numpy(float), [0.5, np.nan])
