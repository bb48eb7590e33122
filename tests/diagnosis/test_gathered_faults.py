"""Attacks with the layers at fault: planted culprits are named, chains accused of nothing, and no attack is lost."""

import itertools
from dataclasses import dataclass

import keras
import numpy as np
import pytest

from analyzer import DataInput
from analyzer.data_types.values import Skipped
from analyzer.diagnosis import gathered_faults
from analyzer.diagnosis.gathered_faults import AttackedLayers
from analyzer.inspection import inputs, open_model
from analyzer.inspection.gather import gather
from analyzer.inspection.needs import Context
from analyzer.inspection.outputs import OutputHints
from analyzer.robustness.attacks.outcomes import Distances
from analyzer.robustness.attacks.threat import Box
from analyzer.robustness.drawn import drawn_samples
from analyzer.robustness.gathered_attacks import Attacks, GatheredAttacks
from analyzer.testing import footprint
from tests.diagnosis.faulty import WIDTH, chain, fill, residual, samples

L = keras.layers
numpy = keras.ops.convert_to_numpy

EPSILON = 2.0


@dataclass(frozen=True)
class Searched(Attacks):
    """Finds wrong decisions along random rays, in place of attacks, which take long to compile."""

    norm: str = "l2"
    epsilon_max: float = EPSILON
    n_samples: int = 60

    def finish(self, collected, context):
        drawn = drawn_samples(collected, context, self.n_samples)
        box = Box(low=-8.0, high=8.0, source="given")
        order = {"linf": np.inf, "l2": 2, "l1": 1}[self.norm]
        rng, best = np.random.default_rng(3), np.full(len(drawn.x), np.inf)
        points = drawn.x.copy()

        def wrong(x):
            z = np.asarray(numpy(context.view.model(keras.tree.pack_sequence_as(context.arranged, [x]))))
            z = np.concatenate([1 - z, z], axis=1) if z.shape[1] == 1 else z
            return z.argmax(axis=1) != drawn.y

        for _ in range(10):
            ray = rng.normal(size=drawn.x.shape)
            ray /= np.linalg.norm(ray, ord=order, axis=1, keepdims=True)
            low, high = np.zeros((len(ray), 1)), np.full((len(ray), 1), 1.5 * self.epsilon_max)
            there = wrong((drawn.x + high * ray).astype("float32"))
            for _ in range(10):
                middle = (low + high) / 2
                fell = wrong((drawn.x + middle * ray).astype("float32"))[:, None]
                low, high = np.where(fell, low, middle), np.where(fell, middle, high)
            nearer = there & (high[:, 0] < best)
            best[nearer], points[nearer] = high[nearer, 0], (drawn.x + high * ray)[nearer]
        best[wrong(drawn.x)] = 0.0
        found = Distances(distance=best / box.range, points=((points - box.low) / box.range).astype("float32"))
        return GatheredAttacks(
            drawn=drawn, found=found, decided=drawn.y, box=box, epsilon_max=self.epsilon_max, flags=(), seconds=0.0
        )


NEED = AttackedLayers(Searched(), max_samples=12, n_bootstrap=200)


def gathered(model, need=NEED, told=None, data=None):
    """What the need brings, and what it told on the way."""
    x, y = data or samples(model)[::2]
    arranged = inputs.arrange(model, x)
    context = Context(
        view=open_model(model, inputs.take(arranged, slice(0, 1))),
        data=DataInput(x, y),
        arranged=arranged,
        hints=OutputHints(model_name="net"),
        seed=0,
        batch_size=16,
        progress=lambda *step: None if told is None else told.append(step),
    )
    return gather(context, [need]).material[need]


def functional(model):
    """The same net, called with a mapping."""
    inputs = {"table": keras.Input((WIDTH,), name="table")}
    return keras.Model(inputs, model(inputs["table"]))


def test_a_planted_branch_is_named_with_its_share():
    found = gathered(residual(planted=0), AttackedLayers(Searched(), max_samples=20, n_bootstrap=200))
    assert found.why is None
    assert found.layers.culprit == found.layers.branches[0].id == "down_0"
    assert found.layers.accused is found.layers.branches[0]
    share = found.layers.accused.share
    assert share.failures.low > 0.5
    assert share.excess.low > 0
    assert found.layers.n_used_failures == 20


def test_a_chain_is_accused_of_nothing_and_says_why():
    found = gathered(chain()).layers
    assert found.is_chain
    assert found.culprit is found.accused is None
    assert any("patching whole layers says nothing" in note for note in found.notes)
    for group in ("failures", "controls"):
        parts = [getattr(layer.log_amplification, group).value for layer in found.layers]
        assert sum(parts) == pytest.approx(getattr(found.log_amplification, group).value, abs=1e-9)


def test_failures_are_the_nearest_wrong_decisions_and_controls_stand_a_random_step():
    """Of one dense layer the lead lost is that to the boundary, and the relative shift of inputs is known."""
    model = fill(keras.Sequential([keras.Input((WIDTH,)), L.Dense(3, name="head")]), scale=1.0)
    x, y = samples(model)[::2]
    found = gathered(model, data=(x, y))
    rows, distance = found.found.drawn.rows, found.found.found.distance * found.found.box.range
    fell = (distance > 0) & (distance <= EPSILON)
    z = np.sort(numpy(model(x[rows])).astype(float), axis=1)
    kernel = numpy(model.layers[0].kernel).astype(float)
    pairs = [np.linalg.norm(kernel[:, i] - kernel[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    leads = (z[:, -1] - z[:, -2])[fell]
    # Nothing but the lead itself is lost at the boundary; a step of length d takes d times a pair of columns at most.
    assert leads.min() - 1e-3 < found.layers.lost.failures.value < leads.max() + 1e-3
    assert found.layers.lost.failures.value < distance[fell].max() * max(pairs)
    assert found.layers.lost.controls.value < found.layers.lost.failures.value
    assert found.layers.n_failures + found.layers.n_controls <= found.layers.n_samples <= len(rows)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_steps_of_controls_are_as_long_as_the_largest_and_stay_in_the_box(norm):
    need = AttackedLayers(Searched(norm=norm, epsilon_max=0.25, n_samples=40), max_samples=5)
    found = gathered(chain(), need).found
    groups = gathered_faults._grouped(found, 5, 0)
    x, moved = gathered_faults._moved(found, groups, norm, 0)
    steps = np.linalg.norm((moved - x).astype(float), ord={"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1)
    distance = (found.found.distance * found.box.range)[groups.rows]
    np.testing.assert_allclose(steps[~groups.fell], 0.25, rtol=1e-4)
    np.testing.assert_allclose(steps[groups.fell], distance[groups.fell], rtol=1e-3, atol=1e-5)
    assert moved.dtype == x.dtype == np.float32
    assert np.abs(moved).max() <= 8


def test_where_few_hold_some_that_fell_stand_in_as_controls():
    found = gathered(chain(), AttackedLayers(Searched(epsilon_max=8.0), max_samples=1)).found
    held = int((found.found.distance * found.box.range > 8).sum())
    groups = gathered_faults._grouped(found, held + 4, 0)
    assert groups.n_stand_in == 4
    assert np.sum(~groups.fell) == held + 4
    assert len(np.unique(groups.rows)) == len(groups.rows)
    # Never at the price of failures.
    fallen = int(gathered_faults._grouped(found, held, 0).fell.sum())
    assert gathered_faults._grouped(found, fallen, 0).n_stand_in == 0


def test_the_structure_of_inputs_is_that_of_the_model():
    model = chain()
    data = samples(model)[::2]
    plain, mapped = gathered(model, data=data), gathered(functional(model), data=data)
    assert mapped.why is None
    assert mapped.layers.lost.failures.value == pytest.approx(plain.layers.lost.failures.value, rel=1e-3)


def test_a_single_logit_is_traced():
    layers = [L.Dense(5, activation="relu", name="hidden"), L.Dense(1, activation="sigmoid", name="head")]
    model = fill(keras.Sequential([keras.Input((WIDTH,)), *layers]), scale=1.0)
    layers[1].bias.assign([-np.median(numpy(keras.ops.log(model(samples(model)[0]) / (1 - model(samples(model)[0])))))])
    found = gathered(model)
    assert found.why is None
    assert [layer.id for layer in found.layers.layers] == ["hidden", "head"]


class TestWhatCannotBeDone:
    def test_where_nothing_falls_the_attack_is_kept(self):
        model = fill(keras.Sequential([keras.Input((WIDTH,)), L.Dense(3)]))
        model.layers[0].bias.assign([0.0, 0.0, 500.0])
        found = gathered(model, data=(samples(model)[0], np.full(80, 2)))
        assert found.layers is None
        assert "No wrong decision was found" in found.why
        assert np.isinf(found.found.found.distance).all()

    def test_a_model_that_answers_differently_when_asked_again(self):
        calls = itertools.count()

        class Counting(L.Layer):
            def call(self, x):
                return x + 0.1 * (next(calls) % 7)

        model = fill(keras.Sequential([keras.Input((WIDTH,)), L.Dense(6), Counting(), L.Dense(3)]), scale=1.0)
        found = gathered(model)
        assert found.layers is None
        assert "differently when asked again" in found.why
        assert len(found.found.found.distance) == 60

    def test_an_error_is_a_reason(self, monkeypatch):
        def broken(*args, **kwargs):
            raise ZeroDivisionError("by zero")

        monkeypatch.setattr(gathered_faults, "trace_faults", broken)
        found = gathered(chain())
        assert (found.layers, found.why) == (None, "ZeroDivisionError: by zero")
        assert np.isfinite(found.found.found.distance).any()

    def test_what_cannot_be_attacked_is_skipped_as_before(self):
        inputs = keras.Input((WIDTH,))
        model = keras.Model(inputs, L.Dense(1)(inputs))
        x = np.random.default_rng(0).normal(size=(20, WIDTH)).astype("float32")
        found = gathered(model, data=(x, x[:, 0]))
        assert isinstance(found, Skipped)
        assert "the task is regression" in found.reason


def test_progress_goes_up_to_the_end_and_the_seed_decides_everything():
    told = []
    model = residual(blocks=1)
    one, same = gathered(model, told=told).layers, gathered(model).layers
    assert [step for step in told if step[0] == "layers at fault"] == [("layers at fault", k, 3) for k in range(4)]
    assert one == same


def test_memory_is_bounded_by_smaller_batches(monkeypatch):
    model, need = chain(), AttackedLayers(Searched(), max_samples=2, n_bootstrap=0)
    whole = gathered(model, need).layers
    monkeypatch.setattr(gathered_faults, "MOST_BYTES", 1)
    single = gathered(model, need).layers
    for one, other in zip(single.layers, whole.layers, strict=True):
        assert one.id == other.id
        grown = (layer.log_amplification.failures.value for layer in (one, other))
        assert next(grown) == pytest.approx(next(grown), abs=1e-4)


def test_model_and_process_stay_as_they_were():
    model = residual()
    data = samples(model)[::2]
    before = footprint.model(model), footprint.process()
    gathered(model, data=data)
    assert (footprint.model(model), footprint.process()) == before
