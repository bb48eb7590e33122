"""The oracle of LSTM and GRU: against their frozen linear maps, by hand for one step, and the sums."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from analyzer.backends import reference as linear
from analyzer.backends import reference_recurrent as ref

pytestmark = pytest.mark.plain

UNITS, FEATURES, STEPS = 3, 4, 5
CELLS = {"lstm": (4, {}), "gru": (3, {"reset_after": True}), "gru_before": (3, {"reset_after": False})}


def cell(name, *, bias=True, seed=0):
    """The relevance function and its arguments: inputs, kernels, bias, upper relevance."""
    gates, options = CELLS[name]
    rng = np.random.default_rng(seed)
    x, r = rng.normal(size=(2, STEPS, FEATURES)), rng.normal(size=(2, STEPS, UNITS))
    kernel, recurrent = rng.normal(size=(FEATURES, gates * UNITS)), rng.normal(size=(UNITS, gates * UNITS))
    b = rng.normal(size=(2, gates * UNITS) if options.get("reset_after") else gates * UNITS) if bias else None
    function = ref.lstm if name == "lstm" else ref.gru
    return function, (x, kernel, recurrent, b, r), options


def total(array):
    return array.reshape(len(array), -1).sum(axis=1)


def frozen_lstm(steps, kernel, recurrent, bias, x):
    """One sample's LSTM with gates as numbers and tanh as the ratio it had: affine in the inputs ``(n, T, i)``."""
    w, u, b = (np.split(a, 4, axis=-1)[2] for a in (kernel, recurrent, bias))
    h, c, outputs = np.zeros((len(x), UNITS)), np.zeros((len(x), UNITS)), []
    for t, s in enumerate(steps):
        z = np.arctanh(s.g)
        c = s.f * c + s.i * (s.g / z) * (x[:, t] @ w + h @ u + b)
        h = s.o * np.tanh(s.c_new) / s.c_new * c
        outputs.append(h)
    return np.stack(outputs, axis=1)


def frozen_gru(steps, kernel, recurrent, bias, x, *, reset_after):
    w, u = np.split(kernel, 3, axis=1)[2], np.split(recurrent, 3, axis=1)[2]
    b, rb = (np.split(row, 3)[2] for row in (bias if reset_after else (bias, 0 * bias)))
    h, outputs = np.zeros((len(x), UNITS)), []
    for t, s in enumerate(steps):
        inner = s.reset * (h @ u + rb) if reset_after else (s.reset * h) @ u
        h = s.z * h + (1 - s.z) * s.g / np.arctanh(s.g) * (x[:, t] @ w + b + inner)
        outputs.append(h)
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize("name", CELLS)
class TestSignal:
    def test_is_lrp_0_of_the_layer_with_frozen_gates(self, name):
        function, (x, kernel, recurrent, b, r), options = cell(name)
        run = ref.lstm_steps if name == "lstm" else ref.gru_steps
        frozen = frozen_lstm if name == "lstm" else frozen_gru
        found = function(x, kernel, recurrent, b, r, epsilon=0, **options)
        for n in range(2):
            steps = run(x[n : n + 1], kernel, recurrent, b, **options)

            def affine(inputs, steps=steps):
                return frozen(steps, kernel, recurrent, b, inputs, **options)

            assert_allclose(affine(x[n : n + 1])[0], [s.h_new[0] for s in steps])
            w, shift = linear.linear_map(affine, (STEPS, FEATURES))
            expected = linear.lrp_0(x[n].reshape(1, -1), w, shift, r[n].reshape(1, -1))
            assert_allclose(found.lower[n].reshape(1, -1), expected.lower, atol=1e-10)
            assert_allclose(found.bias[n], expected.bias[0], atol=1e-10)

    def test_later_inputs_get_exactly_nothing_from_earlier_outputs(self, name):
        function, (x, kernel, recurrent, b, r), options = cell(name)
        r[:, 2:] = 0
        found = function(x, kernel, recurrent, b, r, **options)
        assert_array_equal(found.lower[:, 2:], 0)
        assert np.abs(found.lower[:, :2]).min() > 0


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("rule", ref.RULES)
class TestSums:
    @pytest.mark.parametrize("epsilon", [0, 1e-6, 0.1])
    @pytest.mark.parametrize("zero_bias", [False, True])
    def test_books_balance(self, name, rule, epsilon, zero_bias):
        function, arguments, options = cell(name)
        found = function(*arguments, rule=rule, epsilon=epsilon, zero_bias=zero_bias, **options)
        assert_allclose(total(found.lower) + found.absorbed, total(arguments[-1]), rtol=1e-8)
        if zero_bias:
            assert_array_equal(found.bias, 0)
        else:
            assert np.abs(found.bias).min() > 1e-3

    def test_conserves_without_biases(self, name, rule):
        function, arguments, options = cell(name, bias=False)
        found = function(*arguments, rule=rule, epsilon=0, **options)
        assert_allclose(total(found.lower), total(arguments[-1]), rtol=1e-8)
        assert_allclose(found.absorbed, 0, atol=1e-9)

    def test_initial_and_final_states(self, name, rule):
        """A layer run in two halves, states handed over, is the layer run at once."""
        function, (x, kernel, recurrent, b, r), options = cell(name)
        run = ref.lstm_steps if name == "lstm" else ref.gru_steps
        last = run(x[:, :2], kernel, recurrent, b, **options)[-1]
        states = [last.h_new, last.c_new] if name == "lstm" else [last.h_new]
        options = options | {"rule": rule}
        late = function(x[:, 2:], kernel, recurrent, b, r[:, 2:], states=states, **options)
        early = function(x[:, :2], kernel, recurrent, b, r[:, :2], r_states=late.states, **options)
        whole = function(x, kernel, recurrent, b, r, **options)
        assert_allclose(np.concatenate([early.lower, late.lower], axis=1), whole.lower)
        assert_allclose(early.absorbed + late.absorbed, whole.absorbed)
        for state in whole.states:
            assert state.shape == (2, UNITS)

    def test_masked_steps_are_as_if_they_were_not_there(self, name, rule):
        function, (x, kernel, recurrent, b, r), options = cell(name)
        mask = np.array([[1, 1, 0, 1, 0]] * 2, dtype=bool)
        found = function(x, kernel, recurrent, b, r, mask=mask, rule=rule, **options)
        # What arrives at the output of a masked step belongs to the state that was carried there.
        carried = np.stack([r[:, 0], r[:, 1] + r[:, 2], r[:, 3] + r[:, 4]], axis=1)
        short = function(x[:, mask[0]], kernel, recurrent, b, carried, rule=rule, **options)
        assert_array_equal(found.lower[:, ~mask[0]], 0)
        assert_allclose(found.lower[:, mask[0]], short.lower)
        assert_allclose(found.absorbed, short.absorbed)

    def test_a_batch_is_its_samples(self, name, rule):
        function, (x, kernel, recurrent, b, r), options = cell(name)
        batch = function(x, kernel, recurrent, b, r, rule=rule, **options)
        one = function(x[1:], kernel, recurrent, b, r[1:], rule=rule, **options)
        assert_allclose(batch.lower[1:], one.lower)
        assert_allclose(batch.absorbed[1:], one.absorbed)


def identity(t):
    return t


class TestByHand:
    """One unit, one step, activations left out, so that every gate is its pre-activation."""

    def test_lstm(self):
        """x = (1, 1), h = 2, c = 4; i = 1 + 2 = 3 from x and h, f = 2, g = 3 + 2 = 5, o = 2, all by x1, x2 or h.

        c' = 2 · 4 + 3 · 5 = 23; h' = 46, R = 46. Signal: R(c') = 46, of which 16 to c and 30 to g: x1 18, h 12.
        """
        kernel = [[1.0, 0.0, 3.0, 0.0], [0.0, 2.0, 0.0, 2.0]]
        recurrent = [[1.0, 0.0, 1.0, 0.0]]
        options = {"states": ([[2.0]], [[4.0]]), "activation": identity, "gate_activation": identity, "epsilon": 0}
        found = ref.lstm([[[1.0, 1.0]]], kernel, recurrent, None, [[[46.0]]], **options)
        assert_allclose(found.lower, [[[18, 0]]])
        assert_allclose(found.states, [[[12]], [[16]]])
        # Uniform: o takes 23, c' 23 → 8 and 15; f 4, c 4; i 7.5, g 7.5. x1: 7.5/3 + 7.5 · 3/5; x2: 23 + 4.
        found = ref.lstm([[[1.0, 1.0]]], kernel, recurrent, None, [[[46.0]]], rule="uniform", **options)
        assert_allclose(found.lower, [[[2.5 + 4.5, 27]]])
        assert_allclose(found.states, [[[5 + 3]], [[4]]])

    @pytest.mark.parametrize("reset_after", [True, False])
    def test_gru(self, reset_after):
        """x = (1, 1), h = 4; z = 0.5 (x1), reset = 2 (x2), g = 2 + 2 · 4 · 0.5 = 6 (2 by x2, 4 by h).

        h' = 2 + 3 = 5, R = 10: 4 to h, 6 to g. Signal: x2 2, h 4 + 4.
        """
        kernel, recurrent = [[0.5, 0.0, 0.0], [0.0, 2.0, 2.0]], [[0.0, 0.0, 0.5]]
        options = {"states": [[[4.0]]], "activation": identity, "gate_activation": identity, "epsilon": 0}
        options["reset_after"] = reset_after
        found = ref.gru([[[1.0, 1.0]]], kernel, recurrent, None, [[[10.0]]], **options)
        assert_allclose(found.lower, [[[0, 2]]])
        assert_allclose(found.states, [[[8]]])
        # Uniform: z takes 2 of 4, 1 - z takes 3 of 6, both by x1; g has 3: x2 1, product 2: reset (x2) 1, h 1.
        found = ref.gru([[[1.0, 1.0]]], kernel, recurrent, None, [[[10.0]]], rule="uniform", **options)
        assert_allclose(found.lower, [[[5, 2]]])
        assert_allclose(found.states, [[[3]]])

    def test_gru_recurrent_bias_is_under_the_gate(self):
        """As above with recurrent bias 0.5, input bias 1: g = 2 + 1 + 2 (2 + 0.5) = 8, h' = 2 + 4 = 6; R = 12."""
        kernel, recurrent = [[0.5, 0.0, 0.0], [0.0, 2.0, 2.0]], [[0.0, 0.0, 0.5]]
        bias = [[0.0, 0.0, 1.0], [0.0, 0.0, 0.5]]
        options = {"states": [[[4.0]]], "activation": identity, "gate_activation": identity, "epsilon": 0}
        found = ref.gru([[[1.0, 1.0]]], kernel, recurrent, bias, [[[12.0]]], **options)
        assert_allclose(found.lower, [[[0, 2]]])
        assert_allclose([found.states[0][0], found.bias], [[4 + 4], [1 + 1]])
        # Uniform: g has 4 of 8: x2 1, bias 0.5, product 2.5: reset 1.25 (x2), h 1, its bias 0.25.
        found = ref.gru([[[1.0, 1.0]]], kernel, recurrent, bias, [[[12.0]]], rule="uniform", **options)
        assert_allclose(found.lower, [[[2 + 4, 1 + 1.25]]])
        assert_allclose([found.states[0][0], found.bias], [[2 + 1], [0.5 + 0.25]])


def test_unknown_rule():
    function, arguments, _ = cell("lstm")
    with pytest.raises(ValueError, match="Unknown rule for gates 'half'"):
        function(*arguments, rule="half")
