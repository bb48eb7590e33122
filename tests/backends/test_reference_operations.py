"""The oracle of pooling, products, softmax and normalisation: by hand, and against derivatives taken numerically."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from analyzer.backends import reference as linear
from analyzer.backends import reference_operations as ref

pytestmark = pytest.mark.plain

EPSILONS = (0.0, 1e-6, 0.1)


def assert_books_balance(passed, r):
    assert_allclose(passed.lower.reshape(len(r), -1).sum(axis=1) + passed.absorbed, ref.per_sample(np.asarray(r)))


def derivative(f, x, h=1e-6):
    """Jacobian of ``f`` (any shape → any shape) at ``x``, by central differences: ``(x.size, f.size)``."""
    rows = []
    for k in range(x.size):
        step = np.zeros(x.size)
        step[k] = h
        step = step.reshape(x.shape)
        rows.append(((f(x + step) - f(x - step)) / (2 * h)).ravel())
    return np.array(rows)


class TestPooling:
    X, R = [[1.0, 4.0, 3.0, -1.0]], [[2.0, 8.0]]

    def test_winner_takes_all(self):
        """Overlapping windows (1, 4) and (4, 3, -1): input 2 wins both."""
        assert_array_equal(ref.winner_take_all(self.X, [[0, 1], [1, 2, 3]], self.R).lower, [[0, 10, 0, 0]])

    def test_ties(self):
        x = [[2.0, 2.0, 1.0]]
        assert_array_equal(ref.winner_take_all(x, [[0, 1, 2]], [[6.0]]).lower, [[3, 3, 0]])
        assert_array_equal(ref.winner_take_all(x, [[0, 1, 2]], [[6.0]], share_ties=False).lower, [[6, 0, 0]])

    def test_proportional(self):
        """(1, 4): fifths of 2; (3, -1): 3/2 and -1/2 of 8, or by magnitude 3/4 and 1/4."""
        windows = [[0, 1], [2, 3]]
        assert_allclose(ref.proportional_pool(self.X, windows, self.R, epsilon=0).lower, [[0.4, 1.6, 12, -4]])
        by_magnitude = ref.proportional_pool(self.X, windows, self.R, absolute=True)
        assert_allclose(by_magnitude.lower, [[0.4, 1.6, 6, 2]])

    def test_proportional_is_the_epsilon_rule_of_the_average(self):
        x, r = np.random.default_rng(0).normal(size=(2, 3, 6))
        windows = [[0, 1], [2, 3], [4, 5], [0, 5], [1, 2], [3, 4]]
        average = ref.window_matrix(windows, 6) / 2
        assert_allclose(
            ref.proportional_pool(x, windows, r, epsilon=0.2).lower,
            linear.lrp_epsilon(x, average, None, r, epsilon=0.1).lower,
        )

    @pytest.mark.parametrize("absolute", [False, True])
    def test_books_balance_with_a_window_of_zeros(self, absolute):
        x = [[0.0, 0.0, 1.0, 2.0]]
        passed = ref.proportional_pool(x, [[0, 1], [2, 3]], self.R, absolute=absolute)
        assert_books_balance(passed, self.R)
        assert_allclose(passed.stabiliser, [2], rtol=1e-5)
        assert_books_balance(ref.winner_take_all(x, [[0, 1], [2, 3]], self.R), self.R)


class TestProducts:
    def test_uniform_gives_every_factor_its_part(self):
        r = np.random.default_rng(0).normal(size=(2, 3, 4))
        one, row, all_of_it = ref.uniform_product([(2, 3, 1), (2, 1, 4), (2, 3, 4)], r)
        assert_allclose(one, r.sum(axis=2, keepdims=True) / 3)
        assert_allclose(row, r.sum(axis=1, keepdims=True) / 3)
        assert_allclose(all_of_it, r / 3)
        assert_allclose(one.sum() + row.sum() + all_of_it.sum(), r.sum())

    def test_signal_takes_all(self):
        gate, signal = ref.signal_take_all([(1, 1), (1, 2)], [[3.0, 4.0]], signal=1)
        assert_array_equal(gate, [[0]])
        assert_array_equal(signal, [[3, 4]])

    def test_bilinear_by_hand(self):
        """A = (1, 2), V = (3, -1): O = 1, R = 4: parts 3 and -2 of 1, halved."""
        a, v, lost = ref.bilinear([[[1.0, 2.0]]], [[[3.0], [-1.0]]], [[[4.0]]], epsilon=0)
        assert_allclose(a, [[[6, -4]]])
        assert_allclose(v, [[[6], [-4]]])
        assert_array_equal(lost, [0])

    @pytest.mark.parametrize("epsilon", EPSILONS)
    def test_books_balance(self, epsilon):
        rng = np.random.default_rng(1)
        a, v, r = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 3, 5, 6)), rng.normal(size=(2, 3, 4, 6))
        r_a, r_v, lost = ref.bilinear(a, v, r, epsilon=epsilon)
        upper = ref.per_sample(r)
        assert_allclose(ref.per_sample(r_a) + ref.per_sample(r_v) + lost, upper)
        assert_allclose(ref.per_sample(r_a), ref.per_sample(r_v))
        r_v, lost = ref.constant_weights(a, v, r, epsilon=epsilon)
        assert_allclose(ref.per_sample(r_v) + lost, upper)

    def test_constant_weights_are_a_linear_layer(self):
        rng = np.random.default_rng(2)
        a, v, r = rng.normal(size=(2, 4, 5)), rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 4, 3))
        r_v, _ = ref.constant_weights(a, v, r)
        for p in range(3):
            expected = linear.lrp_epsilon(v[:, :, p], a.swapaxes(1, 2), None, r[:, :, p])
            assert_allclose(r_v[:, :, p], expected.lower)


class TestSoftmax:
    def test_by_hand(self):
        """x = (0, ln 3): s = (1/4, 3/4); R = (4, 8): x (R - 12 s) = (0, -ln 3), and 12 + ln 3 stays."""
        passed = ref.softmax([[0.0, np.log(3)]], [[4.0, 8.0]])
        assert_allclose(passed.lower, [[0, -np.log(3)]], atol=1e-12)
        assert_allclose(passed.softmax, [12 + np.log(3)])
        assert_array_equal([passed.bias, passed.stabiliser], [[0], [0]])

    def test_is_the_linear_part_of_a_taylor_expansion(self):
        """R_i = x_i Σ_j ∂s_j/∂x_i R_j / s_j; what is absorbed is the constant of the expansion, in shares of R."""
        x, r = np.random.default_rng(0).normal(size=(2, 5))
        jacobian = derivative(ref.masked_softmax, x)
        passed = ref.softmax(x[None], r[None])
        s = ref.masked_softmax(x)
        assert_allclose(passed.lower[0], x * (jacobian @ (r / s)), atol=1e-8)
        assert_allclose(passed.softmax, ((s - x @ jacobian) * r / s).sum(), atol=1e-8)

    def test_a_constant_moves_shares_but_not_the_sum(self):
        x, r = np.random.default_rng(1).normal(size=(2, 3, 5))
        here, there = ref.softmax(x, r), ref.softmax(x + 7, r)
        assert np.abs(here.lower - there.lower).max() > 0.1
        assert_allclose(here.lower.sum(axis=1), there.lower.sum(axis=1), atol=1e-12)

    def test_masked_logits_take_no_part(self):
        x, r = np.random.default_rng(2).normal(size=(2, 3, 5))
        mask = np.array([True, True, False, True, False])
        r = r * mask
        passed, without = ref.softmax(x, r, mask=mask), ref.softmax(x[:, mask], r[:, mask])
        assert_array_equal(passed.lower[:, ~mask], 0)
        assert_allclose(passed.lower[:, mask], without.lower)
        assert_array_equal(ref.masked_softmax(x, np.zeros(5, bool)), 0)
        # A literal -inf behind the mask is no NaN, and relevance that was sent there is booked, not handed down.
        hidden = np.where(mask, x, -np.inf)
        assert_allclose(ref.softmax(hidden, r, mask=mask).lower, passed.lower)
        stray = ref.softmax(hidden, r + ~mask, mask=mask)
        assert_array_equal(stray.lower[:, ~mask], 0)
        assert_allclose(stray.lower.sum(axis=1) + stray.softmax, r.sum(axis=1) + 2)

    def test_large_logits(self):
        assert_allclose(ref.masked_softmax([[1e4, 1e4, -1e4]]), [[0.5, 0.5, 0]])


class TestNormalisation:
    X = np.random.default_rng(0).normal(size=(3, 6)) + 1
    R = np.random.default_rng(1).normal(size=(3, 6))
    GAMMA, BETA = np.random.default_rng(2).normal(size=(2, 6))

    @pytest.mark.parametrize("epsilon", EPSILONS)
    def test_books_balance(self, epsilon):
        for passed in (
            ref.layer_norm(self.X, self.GAMMA, self.BETA, self.R, epsilon=epsilon),
            ref.group_norm(self.X, [[0, 2, 4], [1, 3, 5]], self.GAMMA, self.BETA, self.R, epsilon=epsilon),
            ref.rms_norm(self.X, self.GAMMA, self.R, epsilon=epsilon),
            ref.batch_norm(self.X, self.GAMMA, self.BETA, np.ones(6), np.full(6, 2.0), self.R, epsilon=epsilon),
        ):
            assert_books_balance(passed, self.R)

    def test_layer_norm_by_hand(self):
        """x = (1, 3), σ = 1: y = (-1, 1) = (1/2 - 3/2, -1/2 + 3/2); R = (2, 4): (-1 - 2, 3 + 6)."""
        passed = ref.layer_norm([[1.0, 3.0]], None, None, [[2.0, 4.0]], variance_epsilon=0, epsilon=0)
        assert_allclose(passed.lower, [[-3, 9]])

    def test_layer_norm_keeps_what_its_true_gradient_loses(self):
        def true(x):
            return (x - x.mean()) / np.sqrt(x.var() + 1e-3)

        x, r = self.X[0], self.R[0]
        lost = x * (derivative(true, x) @ (r / true(x)))
        assert abs(lost.sum()) < 0.02 * abs(r.sum())
        kept = ref.layer_norm(self.X, None, None, self.R, epsilon=0)
        assert_allclose(kept.lower.sum(axis=1), self.R.sum(axis=1))

    def test_normaliser_is_a_constant(self):
        """The rule is the ε rule of the map whose σ is frozen at this sample."""
        x = self.X[:1]

        def frozen(z):
            centred = z - z.mean(axis=1, keepdims=True)
            return self.GAMMA * centred / np.sqrt(x.var() + 1e-3) + self.BETA

        w, b = linear.linear_map(frozen, (6,))
        expected = linear.lrp_epsilon(x, w, b, self.R[:1])
        found = ref.layer_norm(x, self.GAMMA, self.BETA, self.R[:1])
        assert_allclose(found.lower, expected.lower)
        assert_allclose(found.bias, expected.bias)
        without = ref.layer_norm(x, self.GAMMA, self.BETA, self.R[:1], zero_bias=True)
        assert_allclose(without.lower, linear.lrp_epsilon(x, w, None, self.R[:1]).lower)

    def test_groups_are_layer_norms_of_their_own(self):
        groups = [[0, 2, 4], [1, 3, 5]]
        found = ref.group_norm(self.X, groups, self.GAMMA, self.BETA, self.R)
        for group in groups:
            alone = ref.layer_norm(self.X[:, group], self.GAMMA[group], self.BETA[group], self.R[:, group])
            assert_allclose(found.lower[:, group], alone.lower)

    def test_rms_norm_passes_every_element_on(self):
        assert_allclose(ref.rms_norm(self.X, self.GAMMA, self.R, epsilon=0).lower, self.R)
        y = self.GAMMA * self.X / np.sqrt((self.X**2).mean(axis=1, keepdims=True) + 1e-6)
        assert_allclose(
            ref.rms_norm(self.X, self.GAMMA, self.R, epsilon=0.1).lower, y / (y + 0.1 * np.sign(y)) * self.R
        )

    def test_batch_norm_by_hand(self):
        """s = 6/sqrt(3 + 1) = 3, shift 1 - 3 · 2 = -5: x = 3 gives y = 9 - 5 = 4; R = 8: 18 and -10."""
        passed = ref.batch_norm([[3.0]], [6.0], [1.0], [2.0], [3.0], [[8.0]], variance_epsilon=1, epsilon=0)
        assert_allclose([passed.lower[0], passed.bias], [[18], [-10]])

    def test_folding_changes_where_the_bias_is_absorbed_but_not_the_function(self):
        rng = np.random.default_rng(3)
        w, b, mean, variance = rng.normal(size=(4, 6)), rng.normal(size=6), rng.normal(size=6), rng.uniform(1, 2, 6)
        x = rng.normal(size=(3, 4))
        folded, shift = ref.fold_batch_norm(w, b, self.GAMMA, self.BETA, mean, variance)
        y = x @ w + b
        expected = self.GAMMA * (y - mean) / np.sqrt(variance + 1e-3) + self.BETA
        assert_allclose(x @ folded + shift, expected)
        # At ε = 0, BatchNorm and then the layer absorb other amounts than the folded layer; without any constant, none.
        above = ref.batch_norm(x @ w, self.GAMMA, None, np.zeros(6), variance, self.R, epsilon=0)
        in_turn = linear.lrp_0(x, w, None, above.lower)
        at_once = linear.lrp_0(
            x, ref.fold_batch_norm(w, None, self.GAMMA, None, np.zeros(6), variance)[0], None, self.R
        )
        assert_allclose(in_turn.lower, at_once.lower)
