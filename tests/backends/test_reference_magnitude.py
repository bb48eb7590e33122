"""The oracle of DLBacktrace's two modes: published numbers, closed forms by hand, and sums that hold in every case."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from analyzer.backends import reference_magnitude as ref
from analyzer.backends.reference_magnitude import GATES, Gate

pytestmark = pytest.mark.plain


def unit(*contributions, bias=0.0, r=1.0, **options):
    """One unit whose contributions are these: its relevance shares."""
    return ref.magnitude([contributions], np.ones((len(contributions), 1)), [bias], [[r]], **options)


def case(seed=0, n=6, i=5, j=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, i)), rng.normal(size=(i, j)), rng.normal(size=j), rng.normal(size=(n, j))


def total(passed):
    return passed.lower.sum(axis=1) + passed.absorbed


class TestMagnitude:
    def test_by_hand(self):
        """z = (3, -1), b = -1: 3, 1 and 1 fifths; never the sign of a contribution."""
        passed = unit(3.0, -1.0, bias=-1.0, r=10.0)
        assert_allclose(passed.lower, [[6, 2]])
        assert_allclose([passed.bias, passed.stabiliser], [[2], [0]])

    def test_is_the_published_two_step_allocation(self):
        """Aggregate weights of the positive and the negative part, then shares inside each part."""
        x, w, b, r = case(i=16)
        expected = np.zeros_like(x)
        for n in range(len(x)):
            for j in range(w.shape[1]):
                z = x[n] * w[:, j]
                p, q = z[z > 0].sum(), -z[z < 0].sum()
                plus, minus = p + max(b[j], 0), q + max(-b[j], 0)
                to_p, to_q = plus / (plus + minus) * (p / plus), minus / (plus + minus) * (q / minus)
                for i in range(len(z)):
                    expected[n, i] += r[n, j] * (z[i] / p * to_p if z[i] > 0 else -z[i] / q * to_q)
        assert_allclose(ref.magnitude(x, w, b, r).lower, expected, atol=1e-12)

    def test_one_sided_unit_conserves_where_the_package_leaks(self):
        """Published 0.1.24 on CPU: 100 → 100 S / (1 + S) = 23.08 for contributions that sum to S = 0.3."""
        assert pytest.approx(23.08, abs=0.005) == 100 * 0.3 / 1.3
        for sign in (1, -1):
            assert_allclose(unit(sign * 0.1, sign * 0.2, r=100.0).lower.sum(), 100)

    @pytest.mark.parametrize("gate", [None, *GATES.values()], ids=["none", *GATES])
    @pytest.mark.parametrize("zero_bias", [False, True])
    @pytest.mark.parametrize("epsilon", [0, 0.1])
    def test_books_balance(self, gate, zero_bias, epsilon):
        x, w, b, r = case(1, n=40)
        passed = ref.magnitude(3 * x, w, b, r, gate=gate, zero_bias=zero_bias, epsilon=epsilon)
        assert_allclose(total(passed), r.sum(axis=1), atol=1e-12)
        if zero_bias:
            assert_array_equal(passed.bias, 0)
        if zero_bias and not epsilon:
            assert_allclose(passed.lower.sum(axis=1), r.sum(axis=1), atol=1e-12)

    def test_is_positive_for_positive_relevance(self):
        x, w, b, r = case(2)
        assert ref.magnitude(x, w, b, np.abs(r)).lower.min() > 0

    def test_nothing_comes_in(self):
        """Only a bias: it takes all. Not even that: the stabiliser. Never NaN."""
        assert_allclose(unit(0.0, 0.0, bias=-2.0).bias, [1])
        nothing = unit(0.0, 0.0)
        assert_array_equal(nothing.lower, [[0, 0]])
        assert_allclose(nothing.stabiliser, [1])


class TestGates:
    def test_published_example_of_a_saturated_sigmoid(self):
        """t = -4.43: the published shares are .9493 with the positive side dropped and .9658 without a gate.

        From N/(N+|b|) = .9493 and (P+N)/(P+N+|b|) = .9658 follow P/N and |b|/N; t = P - N + b then fixes the scale.
        """
        bias_by_n = 1 / 0.9493 - 1
        p_by_n = bias_by_n / (1 / 0.9658 - 1) - 1
        for sign in (1, -1):
            n = -4.43 / (p_by_n - 1 + sign * bias_by_n)
            p, b = p_by_n * n, sign * bias_by_n * n
            assert p - n + b == pytest.approx(-4.43)
            gated, plain = unit(p, -n, bias=b, gate=GATES["sigmoid"]), unit(p, -n, bias=b)
            assert gated.lower.tolist() == [[0, pytest.approx(0.9493, abs=1e-12)]]
            assert_allclose(plain.lower.sum(), 0.9658)
            assert_allclose(plain.lower[0, 0] / plain.lower[0, 1], p_by_n)

    def test_monotone_sides(self):
        """z = (3, -1), b = 1, t = 3: above 2 only 3 of 3 + 1; z = (1, -3), b = -1, t = -3: below -2 only 3 of 3 + 1."""
        assert_allclose(unit(3.0, -1.0, bias=1.0, gate=GATES["tanh"]).lower, [[0.75, 0]])
        assert_allclose(unit(1.0, -3.0, bias=-1.0, gate=GATES["tanh"]).lower, [[0, 0.75]])
        assert_allclose(unit(3.0, -1.0, bias=-1.0, gate=GATES["tanh"]).lower, [[0.6, 0.2]])  # t = 1

    def test_the_ends_belong_to_the_open_range(self):
        assert_allclose(unit(3.0, -1.0, gate=Gate(high=2.0)).lower, [[0.75, 0.25]])
        assert_allclose(unit(3.0, -1.0, gate=Gate(high=1.9)).lower, [[1, 0]])
        assert_allclose(unit(1.0, -1.0, gate=GATES["relu"]).lower, [[0.5, 0.5]])

    def test_relu_really_fires_at_zero(self):
        """The published test takes its l = 0 for "no range", so that ReLU is as good as no activation."""
        assert_allclose(unit(1.0, -3.0, gate=GATES["relu"]).lower, [[0, 1]])
        assert_allclose(unit(1.0, -3.0, gate=GATES["linear"]).lower, [[0.25, 0.75]])
        assert_allclose(unit(3.0, -1.0, gate=GATES["relu"]).lower, [[0.75, 0.25]])

    def test_pre_activation_is_a_difference_and_has_its_bias(self):
        """P = 1, N = 3: t is -2, not P + N = 4 as in the published convolution; b = 3 makes it 1, left out or not."""
        assert_allclose(unit(1.0, -3.0, bias=3.0, gate=GATES["relu"], zero_bias=True).lower, [[0.25, 0.75]])
        assert_allclose(unit(3.0, -1.0, bias=-3.0, gate=GATES["relu"], zero_bias=True).lower, [[0, 1]])

    def test_a_gate_without_survivor(self):
        """z = (1), b = -3, t = -2: dropping the positive side leaves the bias; left out, the gate stays shut."""
        assert_allclose(unit(1.0, bias=-3.0, gate=GATES["relu"]).bias, [1])
        assert_allclose(unit(1.0, bias=-3.0, gate=GATES["relu"], zero_bias=True).lower, [[1]])
        assert_allclose(unit(-1.0, bias=4.0, gate=GATES["tanh"]).bias, [1])
        assert_allclose(unit(-1.0, bias=4.0, gate=GATES["tanh"], zero_bias=True).lower, [[1]])

    def test_non_monotone(self):
        """f = t²: z = (2, -4), t = -2, f = 4 = f(P): the negative side is dropped, as without it f is the same.

        z = (4, -2), t = 2 = -(-N): the positive one. z = (1, -4), t = -3: neither.
        """
        square = Gate(function=np.square)
        assert_allclose(unit(2.0, -4.0, gate=square).lower, [[1, 0]])
        assert_allclose(unit(4.0, -2.0, gate=square).lower, [[0, 1]])
        assert_allclose(unit(1.0, -4.0, gate=square).lower, [[0.2, 0.8]])
        # With b = 1: z = (2, -6), t = -3 = -(P + b+); with b = -1: z = (6, -2), t = 3 = N + |b-|.
        assert_allclose(unit(2.0, -6.0, bias=1.0, gate=square).lower, [[2 / 3, 0]])
        assert_allclose(unit(6.0, -2.0, bias=-1.0, gate=square).lower, [[0, 2 / 3]])

    def test_swish_is_the_published_function_and_saturates_below_minus_6(self):
        swish = GATES["swish"]
        assert swish.function(np.array(2.0)) == pytest.approx(2 / (1 + np.exp(-1.5)))
        assert_allclose(unit(1.0, -8.0, gate=swish).lower, [[0, 1]])
        assert_allclose(unit(1.0, -6.0, gate=swish).lower, [[1 / 7, 6 / 7]])
        assert np.isfinite(swish.function(np.array([-1e4, 1e4]))).all()


def test_shares_of_magnitude():
    """x = (1, -3): quarters; in windows (1) and (1, -3) the first gets 2 + 1."""
    assert_allclose(ref.magnitude_shares([[1.0, -3.0]], [[4.0]]).lower, [[1, 3]])
    passed = ref.magnitude_shares([[1.0, -3.0]], [[2.0, 4.0]], connections=[[1, 1], [0, 1]])
    assert_allclose(passed.lower, [[2 + 1, 3]])


def pair(*contributions, bias=0.0, supporting=1.0, opposing=0.0):
    w = np.ones((len(contributions), 1))
    up, down = ref.contrastive([contributions], w, [bias], [[supporting]], [[opposing]])
    return up.lower[0].tolist(), down.lower[0].tolist()


class TestContrastive:
    @pytest.mark.parametrize(
        ("z", "bias", "upper", "expected"),
        [
            # t > 0: the larger relevance goes to the positive contributions (1, 3), the other to the negative (-2).
            ((1.0, 3.0, -2.0), 0.0, (8, 4), ([2, 6, 0], [0, 0, 4])),
            ((1.0, 3.0, -2.0), 0.0, (4, 8), ([0, 0, 4], [2, 6, 0])),
            # A bias turns t to -1: mirrored.
            ((1.0, 3.0, -2.0), -3.0, (8, 4), ([0, 0, 8], [1, 3, 0])),
            ((1.0, 3.0, -2.0), -3.0, (4, 8), ([1, 3, 0], [0, 0, 8])),
            # One side only: both maps by share, whatever the bias says.
            ((1.0, 3.0), -9.0, (8, 4), ([2, 6], [1, 3])),
            ((-1.0, -3.0), 9.0, (8, 4), ([2, 6], [1, 3])),
            # t = 0: both by |z|; the published code drops both.
            ((1.0, 3.0, -4.0), 0.0, (8, 4), ([1, 3, 4], [0.5, 1.5, 2])),
            # Equal maps: each keeps its amount; a start may be negative.
            ((1.0, 3.0, -2.0), 0.0, (4, 4), ([0, 0, 4], [1, 3, 0])),
            ((1.0, 3.0, -2.0), 0.0, (-4, -8), ([-1, -3, 0], [0, 0, -8])),
        ],
    )
    def test_by_hand(self, z, bias, upper, expected):
        assert pair(*z, bias=bias, supporting=upper[0], opposing=upper[1]) == expected

    def test_conserves_both_maps_in_every_case(self):
        x, w, b, r = case(3, n=50)
        x[:10] = np.abs(x[:10]) * np.sign(w[:, 0])
        x[10], b[1] = 0, 0
        against = np.random.default_rng(4).normal(size=r.shape)
        against[20:30] = r[20:30]
        up, down = ref.contrastive(x, w, b, r, against)
        assert_allclose(total(up), r.sum(axis=1), atol=1e-12)
        assert_allclose(total(down), against.sum(axis=1), atol=1e-12)
        fed = np.arange(50) != 10
        assert_array_equal(up.absorbed[fed], 0)
        assert_array_equal(down.absorbed[fed], 0)
        # Without a contribution: what has a bias stays there.
        assert_allclose([up.bias[10], up.stabiliser[10]], [r[10, [0, 2, 3]].sum(), r[10, 1]])
