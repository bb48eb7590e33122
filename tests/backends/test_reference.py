"""The oracle of the linear rules: sums that must hold, examples worked out by hand, special cases of one another."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from analyzer.backends import reference as ref

pytestmark = pytest.mark.plain

EPSILONS = (0.0, 1e-6, 0.1)


def case(seed=0, n=4, i=5, j=3):
    """Inputs of both signs with a zero, weights, bias and upper relevance of both signs."""
    rng = np.random.default_rng(seed)
    x, w, b, r = rng.normal(size=(n, i)), rng.normal(size=(i, j)), rng.normal(size=j), rng.normal(size=(n, j))
    x[0, 0] = 0
    return x, w, b, r


def assert_books_balance(passed, r):
    assert passed.bias.shape == passed.stabiliser.shape == (len(r),)
    assert_allclose(passed.lower.reshape(len(r), -1).sum(axis=1) + passed.absorbed, np.sum(r, axis=1), atol=1e-12)


def without_epsilon(x, w, b, r, *, epsilon, zero_bias=False):
    return ref.lrp_0(x, w, b, r, zero_bias=zero_bias)


RULES = {
    "lrp_0": without_epsilon,
    "epsilon": ref.lrp_epsilon,
    "gamma": ref.lrp_gamma,
    "z_plus": ref.z_plus,
    "alpha_beta": ref.alpha_beta,
}


def without_bias(x, w, r, epsilon):
    """Every rule that knows no bias."""
    return {
        "z_box": ref.z_box(x, w, r, low=-4, high=4, epsilon=epsilon),
        "w_squared": ref.w_squared(w, r, epsilon=epsilon),
        "flat": ref.flat(np.ones_like(w), r, epsilon=epsilon),
        "norm": ref.norm(x, r, epsilon=epsilon),
        "identity": ref.identity(r),
    }


class TestSums:
    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    @pytest.mark.parametrize("epsilon", EPSILONS)
    def test_lower_and_absorbed_are_upper(self, rule, epsilon):
        x, w, b, r = case()
        assert_books_balance(rule(x, w, b, r, epsilon=epsilon), r)

    @pytest.mark.parametrize("epsilon", EPSILONS)
    def test_of_rules_without_a_bias(self, epsilon):
        x, w, _, r = case()
        for passed in without_bias(x, w, r, epsilon).values():
            assert_books_balance(passed, r)
            assert_array_equal(passed.bias, 0)

    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    def test_without_bias_or_epsilon_nothing_is_absorbed(self, rule):
        x, w, b, r = case(i=16)  # every unit has contributions of both signs
        assert np.abs(rule(x, w, b, r, epsilon=0).bias).min() > 1e-3
        zeroed, without = rule(x, w, b, r, epsilon=0, zero_bias=True), rule(x, w, None, r, epsilon=0)
        assert_allclose(zeroed.lower.sum(axis=1), r.sum(axis=1), rtol=1e-10)
        assert_allclose(zeroed.absorbed, 0, atol=1e-12)
        assert_array_equal(zeroed.lower, without.lower)

    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    @pytest.mark.parametrize("epsilon", EPSILONS)
    def test_a_unit_without_contributions_goes_to_the_stabiliser(self, rule, epsilon):
        _, w, _, r = case()
        passed = rule(np.zeros((4, 5)), w, None, r, epsilon=epsilon)
        assert_array_equal(passed.lower, 0)
        assert_allclose(passed.stabiliser, r.sum(axis=1), atol=1e-12)

    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    def test_a_batch_is_its_samples_and_weights_may_differ_by_sample(self, rule):
        x, w, b, r = case()
        batch = rule(x, w, b, r, epsilon=1e-6)
        for k in range(len(x)):
            one = rule(x[k : k + 1], w, b, r[k : k + 1], epsilon=1e-6)
            assert_allclose(one.lower[0], batch.lower[k], atol=1e-14)
            assert_allclose(one.absorbed[0], batch.absorbed[k], atol=1e-14)
        repeated = rule(x, np.stack([w] * 4), np.stack([b] * 4), r, epsilon=1e-6)
        assert_array_equal(repeated.lower, batch.lower)


# x = (1, 2), W = ((3, -1), (-1, 2)), b = (1, -2): z = ((3, -1), (-2, 4)), t = (3 - 2 + 1, -1 + 4 - 2) = (2, 1).
X, W, B = [[1.0, 2.0]], [[3.0, -1.0], [-1.0, 2.0]], [1.0, -2.0]
R = [[2.0, 4.0]]


class TestByHand:
    def test_lrp_0(self):
        """Input 1: 3/2 · 2 + (-1)/1 · 4 = -1; input 2: -2/2 · 2 + 4/1 · 4 = 14; bias: 1/2 · 2 - 2/1 · 4 = -7."""
        passed = ref.lrp_0(X, W, B, R)
        assert_allclose(passed.lower, [[-1, 14]])
        assert_allclose(passed.bias, [-7])
        assert_array_equal(passed.stabiliser, [0])

    def test_epsilon_pushes_a_denominator_away_from_zero(self):
        """ε = 1/2: t + ε = 5/2; mirrored (-x, -b): -5/2, and the same relevance."""
        passed = ref.lrp_epsilon(X, W, B, [[2.0, 0.0]], epsilon=0.5)
        assert_allclose(passed.lower, [[3 / 2.5 * 2, -2 / 2.5 * 2]])
        assert_allclose([passed.bias, passed.stabiliser], [[1 / 2.5 * 2], [0.5 / 2.5 * 2]])
        mirrored = ref.lrp_epsilon(-np.array(X), W, -np.array(B), [[2.0, 0.0]], epsilon=0.5)
        assert_allclose(mirrored.lower, passed.lower)

    def test_sign_of_zero_is_plus(self):
        """z = (1, -1), t = 0: 1/ε and -1/ε, nothing lost in the sum but R itself, which the stabiliser takes."""
        passed = ref.lrp_epsilon([[1.0, 1.0]], [[1.0], [-1.0]], None, [[3.0]], epsilon=0.5)
        assert_allclose(passed.lower, [[6, -6]])
        assert_allclose(passed.stabiliser, [3])

    def test_gamma(self):
        """γ = 1: unit 1, shares (6, -2), bias 2, sum 6; unit 2, shares (-1, 8), bias -2, sum 5."""
        passed = ref.lrp_gamma(X, W, B, R, gamma=1.0, epsilon=0)
        assert_allclose(passed.lower, [[6 / 6 * 2 - 1 / 5 * 4, -2 / 6 * 2 + 8 / 5 * 4]])
        assert_allclose(passed.bias, [2 / 6 * 2 - 2 / 5 * 4])

    def test_gamma_of_negative_units_favours_the_negative_side(self):
        """-x, -b: z = ((-3, 1), (2, -4)), t = (-2, -1); shares (-6, 2), bias -2; (1, -8), bias 2: ratios as above."""
        plain = ref.lrp_gamma(X, W, B, R, gamma=1.0, epsilon=0)
        mirrored = ref.lrp_gamma(-np.array(X), W, -np.array(B), R, gamma=1.0, epsilon=0)
        assert_allclose(mirrored.lower, plain.lower)
        assert_allclose(mirrored.bias, plain.bias)

    def test_z_plus(self):
        """Unit 1: 3 of 3 + 1; unit 2: 4 of 4 (its bias is negative)."""
        passed = ref.z_plus(X, W, B, R, epsilon=0)
        assert_allclose(passed.lower, [[3 / 4 * 2, 4 / 4 * 4]])
        assert_allclose(passed.bias, [1 / 4 * 2])

    def test_alpha_beta(self):
        """α = 2, β = 1. Unit 1: 2 · 3/4 - and -2 of -2; unit 2: 2 · 4/4, and -1 of -1 - 2."""
        passed = ref.alpha_beta(X, W, B, R, epsilon=0)
        assert_allclose(passed.lower, [[2 * 3 / 4 * 2 - 1 / 3 * 4, -2 / 2 * 2 + 2 * 4 / 4 * 4]])
        assert_allclose(passed.bias, [2 * 1 / 4 * 2 - 2 / 3 * 4])

    def test_z_box(self):
        """low 0, high 4: shares x w - 4 w⁻: (3, -1 + 4), (-2 + 4, 4); sums 5 and 7."""
        passed = ref.z_box(X, W, R, low=0, high=4, epsilon=0)
        assert_allclose(passed.lower, [[3 / 5 * 2 + 3 / 7 * 4, 2 / 5 * 2 + 4 / 7 * 4]])

    def test_w_squared_and_flat(self):
        """w² = ((9, 1), (1, 4))."""
        assert_allclose(ref.w_squared(W, R, epsilon=0).lower, [[9 / 10 * 2 + 1 / 5 * 4, 1 / 10 * 2 + 4 / 5 * 4]])
        assert_allclose(ref.flat(np.ones((2, 2)), R, epsilon=0).lower, [[3, 3]])
        assert_allclose(ref.flat([[1, 1], [0, 1]], R, epsilon=0).lower, [[2 + 2, 2]])

    def test_norm(self):
        """x = (1, 2): thirds, whatever the weights; a residual add of 1 and 2 is the same."""
        assert_allclose(ref.norm(X, R, epsilon=0).lower, [[1 / 3 * 6, 2 / 3 * 6]])
        assert_allclose(ref.norm(X, R, connections=[[1, 0], [1, 1]], epsilon=0).lower, [[2 / 3, 2 * 2 / 3 + 4]])


class TestSpecialCases:
    @pytest.mark.parametrize("epsilon", EPSILONS)
    def test_alpha_1_beta_0_is_z_plus(self, epsilon):
        x, w, b, r = case(1)
        one = ref.alpha_beta(x, w, b, r, alpha=1, beta=0, epsilon=epsilon)
        assert_allclose(one.lower, ref.z_plus(x, w, b, r, epsilon=epsilon).lower, atol=1e-14)

    @pytest.mark.parametrize("epsilon", EPSILONS)
    def test_gamma_0_is_epsilon(self, epsilon):
        x, w, b, r = case(2)
        one = ref.lrp_gamma(x, w, b, r, gamma=0, epsilon=epsilon)
        assert_allclose(one.lower, ref.lrp_epsilon(x, w, b, r, epsilon=epsilon).lower, atol=1e-14)

    def test_large_gamma_is_z_plus_on_positive_units_and_its_mirror_on_negative_ones(self):
        x, w, b, r = case(3, n=20)
        t = x @ w + b
        assert (t > 0).any()
        assert (t < 0).any()
        large = ref.lrp_gamma(x, w, b, r, gamma=1e9, epsilon=0)
        up = ref.z_plus(x, w, b, r * (t > 0), epsilon=0)
        down = ref.z_plus(x, -w, -b, r * (t < 0), epsilon=0)
        assert_allclose(large.lower, up.lower + down.lower, atol=1e-6)
        assert_allclose(large.bias, up.bias + down.bias, atol=1e-6)

    def test_epsilon_0_is_lrp_0_and_gradient_times_input(self):
        x, w, b, r = case(4)
        expected = x * ((r / (x @ w + b)) @ w.T)
        assert_allclose(ref.lrp_0(x, w, b, r).lower, expected, atol=1e-12)
        assert_allclose(ref.lrp_epsilon(x, w, b, r, epsilon=0).lower, expected, atol=1e-12)

    def test_one_sided_units_hand_down_alpha_r(self):
        """Only positive contributions: 2 R goes down, and the missing -1 R is booked."""
        passed = ref.alpha_beta([[1.0, 2.0]], [[1.0], [1.0]], None, [[3.0]], epsilon=0)
        assert_allclose(passed.lower, [[2, 4]])
        assert_allclose(passed.stabiliser, [-3])

    def test_z_box_at_zero_is_lrp_0_without_bias(self):
        x, w, _, r = case(5)
        assert_allclose(ref.z_box(x, w, r, low=0, high=0, epsilon=0).lower, ref.lrp_0(x, w, None, r).lower, atol=1e-12)

    def test_z_box_gives_relevance_where_x_is_zero_and_bounds_may_differ_by_input(self):
        x, w, _, r = case(6)
        assert x[0, 0] == 0
        assert abs(ref.z_box(x, w, r, low=-4, high=4).lower[0, 0]) > 1e-3
        by_input = ref.z_box(x, w, r, low=[-4.0] * 5, high=[4.0] * 5)
        assert_array_equal(by_input.lower, ref.z_box(x, w, r, low=-4, high=4).lower)

    def test_z_box_of_positive_relevance_is_positive(self):
        x, w, _, r = case(7)
        assert ref.z_box(x, w, np.abs(r), low=-4, high=4).lower.min() >= 0

    def test_equal_weights_of_any_sign_make_w_squared_flat(self):
        _, w, _, r = case(8)
        assert_allclose(ref.w_squared(np.sign(w), r).lower, ref.flat(np.ones_like(w), r).lower)

    def test_norm_is_epsilon_with_weights_of_one(self):
        x, w, _, r = case(9)
        assert_array_equal(ref.norm(x, r).lower, ref.lrp_epsilon(x, np.ones_like(w), None, r).lower)


class TestLinearMap:
    def test_of_a_convolution_with_stride_and_padding(self):
        kernel = np.random.default_rng(0).normal(size=(3, 2, 4))

        def convolution(x):
            padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
            return np.stack([np.einsum("nkc,kcf->nf", padded[:, s : s + 3], kernel) for s in (0, 2, 4)], 1) + 0.5

        w, b = ref.linear_map(convolution, (6, 2))
        x = np.random.default_rng(1).normal(size=(3, 6, 2))
        assert w.shape == (12, 12)
        assert_allclose(x.reshape(3, 12) @ w + b, convolution(x).reshape(3, 12), atol=1e-12)
        assert_allclose(b, 0.5)
        # Position 1, channel 0 meets the last tap of window 0 (padding shifts by one) and the first of window 1.
        assert_allclose(w[2], np.concatenate([kernel[2, 0], kernel[0, 0], np.zeros(4)]), atol=1e-15)

    def test_a_map_in_float32_is_near_enough(self):
        w, _ = ref.linear_map(lambda x: x.astype("float32") @ np.float32(W), (2,))
        assert w.dtype == np.float64
        assert_allclose(w, W)

    @pytest.mark.parametrize("call", [np.tanh, np.abs, lambda x: x * x, lambda x: np.maximum(x, 0)])
    def test_what_is_not_affine_is_refused(self, call):
        with pytest.raises(ValueError, match="not affine"):
            ref.linear_map(call, (6,))


class TestBadInput:
    def test_alpha_minus_beta(self):
        with pytest.raises(ValueError, match="alpha - beta = 1"):
            ref.alpha_beta(X, W, B, R, alpha=2, beta=2)

    @pytest.mark.parametrize(("x", "w"), [([1.0, 2.0], W), ([[1.0, 2.0, 3.0]], W), (X, [1.0, 2.0])])
    def test_shapes(self, x, w):
        with pytest.raises(ValueError, match="Expected x"):
            ref.lrp_0(x, w, None, R)

    def test_upper_relevance_is_not_broadcast(self):
        with pytest.raises(ValueError, match="upper relevance"):
            ref.lrp_0(X, W, B, [[1.0]])
