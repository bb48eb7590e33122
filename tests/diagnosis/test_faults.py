"""Planted faults are named, a chain is not accused, and what cannot be traced is refused."""

import keras
import numpy as np
import pytest

from analyzer.diagnosis.faults import layers_at_fault
from analyzer.diagnosis.unit_faults import units_at_fault
from analyzer.errors import ConfigError, DataError, Unsupported
from analyzer.testing import footprint
from tests.diagnosis.faulty import WIDTH, Block, Subclassed, chain, fill, noised, residual, samples

L = keras.layers
numpy = keras.ops.convert_to_numpy

QUICK = {"max_samples": 24, "n_draws": 1, "n_bootstrap": 300}


def blocks(planted):
    parts = [Block(name=f"block_{i}") for i in range(3)]
    layers = [L.Dense(WIDTH, name="stem"), *parts, L.Dense(3, activation="softmax", name="head")]
    model = fill(keras.Sequential([keras.Input((WIDTH,)), *layers]))
    noised(parts[planted].down)
    return model


def subclassed(planted):
    model = Subclassed()
    model(np.zeros((1, WIDTH), "float32"))
    noised(fill(model).downs[planted])
    return model


class TestBranches:
    @pytest.mark.parametrize(
        ("build", "planted", "name"),
        [
            (lambda i: residual(planted=i), 0, "down_0"),
            (lambda i: residual(planted=i, seed=1), 2, "down_2"),
            (blocks, 1, "block_1/down"),
            (subclassed, 1, "down_1"),
        ],
    )
    def test_a_planted_branch_is_named(self, build, planted, name):
        model = build(planted)
        found = layers_at_fault(model, *samples(model, n=200), **QUICK)
        assert found.culprit == found.branches[0].id == name
        assert found.ahead.low > 0
        first, second = (branch.share.failures for branch in found.branches[:2])
        assert first.value > 2 * second.value
        rows = {layer.id: layer for layer in found.layers}
        for kind in ("noising", "denoising"):
            shares = {branch.id: getattr(rows[branch.id], kind).failures.value for branch in found.branches}
            assert max(shares, key=shares.get) == name

    def test_shares_and_what_goes_around_add_up(self):
        model = residual(planted=1)
        found = layers_at_fault(model, *samples(model), **QUICK)
        shares = [branch.share for branch in found.branches] + [found.around]
        assert sum(share.failures.value for share in shares) == pytest.approx(1, abs=1e-6)
        lost = found.lost.controls.value / found.lost.failures.value
        assert sum(share.controls.value for share in shares) == pytest.approx(lost, abs=1e-6)

    def test_branches_of_equal_weight_are_not_accused(self):
        """Two branches that are the same do the same: neither is ahead."""
        x = inputs = keras.Input((WIDTH,))
        x = L.Add(name="sum")([x, L.Dense(WIDTH, name="left")(x), L.Dense(WIDTH, name="right")(x)])
        model = fill(keras.Model(inputs, L.Dense(3, name="head")(x)))
        model.get_layer("right").set_weights(model.get_layer("left").get_weights())
        found = layers_at_fault(model, *samples(model), **QUICK)
        assert [branch.share.failures.value for branch in found.branches] == pytest.approx(
            [found.branches[0].share.failures.value] * 2, abs=1e-5
        )
        assert found.culprit is None
        assert "No branch does more" in "".join(found.notes)

    def test_the_only_branch_that_does_anything_is_not_accused_of_what_goes_around_it(self):
        model = residual(blocks=2)
        for variable in model.get_layer("down_0").weights:
            variable.assign(0 * numpy(variable))
        noised(model.get_layer("down_1"), size=6.0)
        found = layers_at_fault(model, *samples(model, n=200), **QUICK)
        first, second = found.branches
        assert first.id == "down_1"
        assert second.share.failures.value == pytest.approx(0, abs=1e-5)
        assert first.share.failures.low > 0.1
        assert found.around.failures.value > first.share.failures.value
        assert found.culprit is None
        assert found.ahead.value < 0

    def test_branches_can_be_given(self):
        model = residual(planted=0)
        found = layers_at_fault(model, *samples(model, n=200), branches=["down_0", "down_2"], **QUICK)
        assert {branch.id for branch in found.branches} == {"down_0", "down_2"}
        assert found.culprit == "down_0"

    @pytest.mark.parametrize(("build", "name"), [(chain, "two"), (residual, "stem")])
    @pytest.mark.parametrize("layers", [None, ["head", "three", "down_0"]])
    def test_what_everything_goes_through_is_no_branch(self, build, name, layers):
        model = build()
        layers = layers and [one for one in layers if one in [layer.name for layer in model.layers]]
        with pytest.raises(ConfigError, match=f"everything goes through '{name}'"):
            layers_at_fault(model, *samples(model), layers=layers, branches=[name], **QUICK)


class TestChains:
    def test_no_layer_is_named_and_the_result_says_why(self):
        model = chain()
        noised(model.get_layer("two"))
        found = layers_at_fault(model, *samples(model), **QUICK)
        assert found.is_chain
        assert (found.culprit, found.branches, found.around) == (None, (), None)
        assert "patching whole layers says nothing" in found.notes[0]
        assert "100 %" in found.notes[0]
        assert all(layer.noising is layer.denoising is None for layer in found.layers)

    def test_the_growth_of_the_shift_is_split_without_remainder(self):
        model = chain()
        found = layers_at_fault(model, *samples(model), **QUICK)
        for group in ("failures", "controls"):
            parts = [getattr(layer.log_amplification, group).value for layer in found.layers]
            assert sum(parts) == pytest.approx(getattr(found.log_amplification, group).value, abs=1e-9)

    def test_a_residual_net_is_no_chain(self):
        found = layers_at_fault((model := residual()), *samples(model), **QUICK)
        assert not found.is_chain
        assert "patching whole layers" not in "".join(found.notes)
        for layer in found.layers:
            assert (layer.noising is None) == layer.carries_all == (layer.log_amplification is not None)


class TestUnits:
    def planted(self):
        model = chain()
        kernel = numpy(model.get_layer("two").kernel).copy()
        kernel[:, 3] *= 12
        model.get_layer("two").kernel.assign(kernel)
        return model

    def test_a_planted_channel_is_named_on_a_chain(self):
        model = self.planted()
        found = units_at_fault(model, *samples(model, n=120, move=1.0), "two", max_samples=24, steps=12)
        assert found.culprit == found.units[0].index == (3,)
        assert found.ahead.low > 0
        assert found.whole.failures.value == pytest.approx(1, abs=1e-4)
        flows = {unit.index: unit.conductance.failures.value for unit in found.units}
        assert max(flows, key=flows.get) == (3,)
        assert sum(flows.values()) == pytest.approx(1, abs=0.05)
        # What follows the layer is linear: conductance and patching agree.
        for unit in found.units:
            assert unit.share.failures.value == pytest.approx(flows[unit.index], abs=0.05)

    def test_of_many_units_those_are_patched_that_most_flows_through(self):
        model = self.planted()
        data = samples(model, n=120, move=1.0)
        found = units_at_fault(model, *data, "two", max_units=2, max_samples=24, steps=4)
        assert (len(found.units), found.n_units) == (2, 5)
        assert found.culprit == (3,)
        assert "2 of 5 channels were patched" in "".join(found.notes)

    def test_a_single_logit_is_the_lead(self):
        layers = [L.Dense(5, activation="relu", name="hidden"), L.Dense(1, activation="sigmoid", name="head")]
        model = fill(keras.Sequential([keras.Input((WIDTH,)), *layers]), scale=1.0)
        x, moved, _ = samples(model)
        # Both classes are to occur.
        layers[1].bias.assign([-np.median(np.log(1 / numpy(model(x)) - 1) * -1)])
        found = units_at_fault(model, x, moved, (numpy(model(x))[:, 0] > 0.5) * 1, "hidden", max_samples=16, steps=12)
        assert found.n_failures > 5
        for unit in found.units:
            for group in ("failures", "controls"):
                flow, share = getattr(unit.conductance, group).value, getattr(unit.share, group).value
                assert flow == pytest.approx(share, abs=0.05)

    def test_the_position_that_was_moved_is_named(self):
        x = inputs = keras.Input((5, 4))
        x = L.Conv1D(6, 1, activation="relu", name="conv")(x)
        model = fill(keras.Model(inputs, L.Dense(3, name="head")(L.GlobalAveragePooling1D()(x))), scale=1.0)
        x, moved, y = samples(model, (5, 4), move=3.0)
        moved[:, [0, 1, 3, 4]] = x[:, [0, 1, 3, 4]]
        found = units_at_fault(model, x, moved, y, "conv", by="positions", max_samples=16, steps=8)
        assert found.culprit == (2,)
        assert found.units[0].share.failures.value == pytest.approx(1, abs=1e-4)
        assert {round(abs(unit.share.failures.value), 4) for unit in found.units[1:]} == {0.0}


class TestGroups:
    def test_failures_are_right_before_and_wrong_after_and_controls_right_both_times(self):
        model = chain()
        x, moved, y = samples(model)
        y = y.copy()
        y[:10] = (y[:10] + 1) % 3
        found = layers_at_fault(model, x, moved, y, **QUICK)
        before, after = (numpy(model(one)).argmax(axis=1) == y for one in (x, moved))
        assert found.n_samples == 80
        assert found.n_failures == np.sum(before & ~after)
        assert found.n_controls == np.sum(before & after)
        assert found.n_used == (min(24, found.n_failures), min(24, found.n_controls))
        assert found.lost.failures.low > 0
        assert found.lost.failures.n == found.n_used[0]
        assert found.layers[0].noise_gain.controls.n == found.n_used[1]

    def test_a_handful_of_failures_is_said(self):
        model = chain()
        x, moved, y = samples(model)
        wrong = np.flatnonzero(numpy(model(moved)).argmax(axis=1) != y)[:3]
        found = layers_at_fault(model, x[wrong], moved[wrong], y[wrong], **QUICK)
        assert found.lost.failures.low is None
        assert "only 3 failures" in "".join(found.notes)
        assert "no control group" in "".join(found.notes)
        assert found.lost.controls.value is None

    def test_labels_as_one_hot_rows(self):
        model = chain()
        x, moved, y = samples(model)
        one, other = (layers_at_fault(model, x, moved, labels, **QUICK) for labels in (y, np.eye(3)[y]))
        assert one == other

    def test_the_seed_decides_everything(self):
        model = residual()
        data = samples(model)
        one, same, other = (
            layers_at_fault(model, *data, seed=seed, **QUICK | {"max_samples": 8}) for seed in (0, 0, 1)
        )
        assert one == same
        assert one != other


class TestLaws:
    def test_model_and_process_stay_as_they_were(self):
        model = residual()
        data = samples(model)
        before = footprint.model(model), footprint.process()
        layers_at_fault(model, *data, **QUICK)
        units_at_fault(model, *data, "stem", max_samples=8, steps=2, max_units=2)
        assert (footprint.model(model), footprint.process()) == before


class TestRefusals:
    def test_without_a_failure_there_is_nothing_to_trace(self):
        model = chain()
        x, _, y = samples(model)
        with pytest.raises(Unsupported, match="no failure to trace"):
            layers_at_fault(model, x, x, y)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda x, moved, y: (x, moved[:5], y), "the same samples in the same order"),
            (lambda x, moved, y: (x, moved, y[:5]), "the class of each of the 80 samples"),
            (lambda x, moved, y: (x, moved, y + 7), "class"),
            (lambda x, moved, y: (x, moved[:, :3], y), "the model expects"),
            (lambda x, moved, y: (x, moved * np.nan, y), "NaN or infinite"),
        ],
    )
    def test_data_that_do_not_fit(self, change, said):
        model = chain()
        with pytest.raises(DataError, match=said):
            layers_at_fault(model, *change(*samples(model)))

    @pytest.mark.parametrize("option", [{"noise": 0}, {"n_draws": 0}, {"max_samples": 0}, {"layers": "four"}])
    def test_options_that_are_none(self, option):
        model = chain()
        with pytest.raises(ConfigError, match=next(iter(option)) if "layers" not in option else "four"):
            layers_at_fault(model, *samples(model), **option)

    def test_a_decision_at_every_position(self):
        inputs = keras.Input((4, 3))
        model = keras.Model(inputs, L.Dense(3)(inputs))
        x = np.zeros((6, 4, 3), "float32")
        with pytest.raises(Unsupported, match="one decision per sample"):
            layers_at_fault(model, x, x, np.zeros((6, 4), int))
