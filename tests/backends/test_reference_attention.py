"""The oracle of attention: against gradients taken numerically, a frozen linear map, and what masks must do."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from analyzer.backends import reference as linear
from analyzer.backends import reference_attention as ref
from analyzer.backends.reference_operations import masked_softmax

pytestmark = pytest.mark.plain

CAUSAL = np.tril(np.ones((4, 4), dtype=bool))
MASKS = {"none": None, "causal": CAUSAL, "by_sample": np.array([[[1, 1, 1, 0]] * 4, [[1, 0, 1, 1]] * 4], dtype=bool)}


def tensors(seed=0, heads=3):
    rng = np.random.default_rng(seed)
    q, k = rng.normal(size=(2, 2, heads, 4, 5))
    v, r = rng.normal(size=(2, 2, heads, 4, 2))
    return q, k, v, r


def weights(seed=0, *, d=6, heads=4, kv_heads=4, bias=True):
    rng = np.random.default_rng(seed)
    shapes = {"query": (d, heads, 5), "key": (d, kv_heads, 5), "value": (d, kv_heads, 2), "output": (heads, 2, d)}
    kernels = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    biases = {f"{name}_bias": rng.normal(size=shape[1:]) for name, shape in shapes.items() if name != "output"}
    biases["output_bias"] = rng.normal(size=d)
    return ref.AttentionWeights(**kernels, **(biases if bias else {}))


def sequences(seed=1, d=6):
    return np.random.default_rng(seed).normal(size=(2, 2, 4, d))


def total(array):
    return array.reshape(len(array), -1).sum(axis=1)


def gradient_times_input(f, x, seed, h=1e-6):
    """x ∂/∂x Σ seed f(x), by central differences."""
    found = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = h
        found[index] = x[index] * ((f(x + step) - f(x - step)) * seed).sum() / (2 * h)
    return found


@pytest.mark.parametrize("mask", [None, CAUSAL], ids=["none", "causal"])
class TestDotProduct:
    def test_attn_lrp_is_gradient_times_input_over_4_and_2(self, mask):
        """Achtibat et al. 2024: dQ / 4, dK / 4, dV / 2, the softmax being left to its gradient."""
        q, k, v, r = tensors()

        def out(q, k, v):
            return masked_softmax(q @ k.swapaxes(-1, -2) / np.sqrt(5), mask) @ v

        seed = r / out(q, k, v)
        found = ref.dot_product_attention(q, k, v, r, mask=mask, epsilon=0)
        for array, expected in (
            (found.query, gradient_times_input(lambda t: out(t, k, v), q, seed) / 4),
            (found.key, gradient_times_input(lambda t: out(q, t, v), k, seed) / 4),
            (found.value, gradient_times_input(lambda t: out(q, k, t), v, seed) / 2),
        ):
            assert_allclose(array, expected, atol=1e-6 * np.abs(expected).max())

    @pytest.mark.parametrize("epsilon", [0, 1e-6, 0.1])
    @pytest.mark.parametrize("rule", ref.RULES)
    def test_books_balance(self, mask, epsilon, rule):
        q, k, v, r = tensors(1)
        found = ref.dot_product_attention(q, k, v, r, rule=rule, mask=mask, epsilon=epsilon)
        parts = total(found.query) + total(found.key) + total(found.value)
        assert_allclose(parts + found.bias + found.stabiliser + found.softmax, total(r), atol=1e-10)
        assert_array_equal(found.softmax == 0, rule == "cp_lrp")

    def test_cp_lrp_gives_all_to_the_values(self, mask):
        q, k, v, r = tensors(2)
        found = ref.dot_product_attention(q, k, v, r, rule="cp_lrp", mask=mask, epsilon=0)
        assert_array_equal([found.query, found.key], np.zeros((2, *q.shape)))
        assert_allclose(total(found.value), total(r))
        weight = masked_softmax(q @ k.swapaxes(-1, -2) / np.sqrt(5), mask)
        expected = v * np.einsum("bhts,bhtp->bhsp", weight, r / (weight @ v))
        assert_allclose(found.value, expected)

    @pytest.mark.parametrize("rule", ref.RULES)
    def test_future_keys_get_exactly_nothing(self, mask, rule):
        """Relevance of query 1 alone: keys 2 and 3 count only where nothing hides them."""
        q, k, v, r = tensors(3)
        r[:, :, [0, 2, 3]] = 0
        found = ref.dot_product_attention(q, k, v, r, rule=rule, mask=mask)
        future = [found.key[:, :, 2:], found.value[:, :, 2:]]
        assert np.abs(found.value[:, :, :2]).min() > 0
        assert (max(np.abs(part).max() for part in future) == 0) == (mask is not None)
        assert_array_equal(found.query[:, :, [0, 2, 3]], 0)


def test_scale_and_unknown_rule():
    q, k, v, r = tensors()
    one = ref.dot_product_attention(q, k, v, r, scale=2.0)
    assert_allclose(one.key, ref.dot_product_attention(2 * q * np.sqrt(5), k, v, r).key)
    with pytest.raises(ValueError, match="Unknown attention rule 'rollout'"):
        ref.dot_product_attention(q, k, v, r, rule="rollout")


class TestMultiHead:
    @pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
    @pytest.mark.parametrize("rule", ref.RULES)
    @pytest.mark.parametrize("epsilon", [0, 1e-6, 0.1])
    @pytest.mark.parametrize("kv_heads", [4, 2, 1])
    def test_books_balance(self, mask, rule, epsilon, kv_heads):
        x, r = sequences()
        given = weights(kv_heads=kv_heads)
        found = ref.self_attention(x, given, r, rule=rule, mask=mask, epsilon=epsilon)
        assert_allclose(total(found.lower) + found.absorbed, total(r), rtol=1e-9)
        assert np.abs(found.bias).min() > 1e-3
        without = ref.self_attention(x, given, r, rule=rule, mask=mask, epsilon=epsilon, zero_bias=True)
        assert_array_equal(without.bias, 0)
        assert_allclose(total(without.lower) + without.absorbed, total(r), rtol=1e-9)

    def test_cp_lrp_is_conserving_without_biases_and_attn_lrp_books_its_softmax(self):
        x, r = sequences()
        given = weights(bias=False)
        assert_allclose(total(ref.self_attention(x, given, r, rule="cp_lrp", epsilon=0).lower), total(r))
        found = ref.self_attention(x, given, r, epsilon=0)
        assert np.abs(found.softmax).min() > 1e-3
        assert_allclose(total(found.lower) + found.softmax, total(r))

    @pytest.mark.parametrize("mask", [None, CAUSAL], ids=["none", "causal"])
    def test_cp_lrp_is_lrp_0_of_the_map_with_frozen_weights(self, mask):
        """With its attention weights frozen the layer is affine in its values: gradient times input of that map."""
        x, r = sequences()
        given = weights()
        for n in range(2):
            q, k, _ = ref._projected([x[n : n + 1]] * 3, given)
            weight = masked_softmax(q @ k.swapaxes(-1, -2) / np.sqrt(5), mask)

            def frozen(values, weight=weight):
                v = np.einsum("ntd,dhs->nhts", values, given.value) + given.value_bias[:, None]
                return np.einsum("nhts,hsd->ntd", weight @ v, given.output) + given.output_bias

            w, b = linear.linear_map(frozen, (4, 6))
            expected = linear.lrp_0(x[n].reshape(1, -1), w, b, r[n].reshape(1, -1))
            found = ref.self_attention(x[n : n + 1], given, r[n : n + 1], rule="cp_lrp", mask=mask, epsilon=0)
            assert_allclose(found.lower.reshape(1, -1), expected.lower)
            assert_allclose(found.bias, expected.bias)

    def test_attn_lrp_through_the_projections_is_gradient_times_input(self):
        """Of query, key and value inputs apart: the gradient over 4, 4 and 2 (no activation is in between)."""
        x, r = sequences()
        given, context = weights(), sequences(5)[0]
        out = ref.attention_output(x, context, context, given)
        found = ref.multi_head_attention(x, context, context, given, r, epsilon=0)
        for name, share in (("query", 4), ("key", 4), ("value", 2)):
            parts = {"query": x, "key": context, "value": context}

            def f(t, name=name, parts=parts):
                return ref.attention_output(**parts | {name: t}, weights=given)

            expected = gradient_times_input(f, parts[name], r / out) / share
            assert_allclose(getattr(found, name), expected, atol=1e-5 * np.abs(expected).max())

    @pytest.mark.parametrize("rule", ref.RULES)
    def test_future_tokens_get_exactly_nothing(self, rule):
        x, r = sequences()
        r[:, [0, 2, 3]] = 0
        found = ref.self_attention(x, weights(), r, rule=rule, mask=CAUSAL)
        assert_array_equal(found.lower[:, 2:], 0)
        assert np.abs(found.lower[:, :2]).min() > 0
        assert np.abs(ref.self_attention(x, weights(), r, rule=rule).lower[:, 2:]).max() > 1e-3

    @pytest.mark.parametrize("rule", ref.RULES)
    def test_masks_of_any_rank_are_the_same(self, rule):
        x, r = sequences()
        found = [
            ref.self_attention(x, weights(), r, rule=rule, mask=np.broadcast_to(CAUSAL, shape)).lower
            for shape in ((4, 4), (2, 4, 4), (2, 1, 4, 4), (2, 4, 4, 4))
        ]
        for other in found[1:]:
            assert_array_equal(other, found[0])

    @pytest.mark.parametrize("rule", ref.RULES)
    def test_shared_heads_are_heads_with_equal_kernels(self, rule):
        """GroupQueryAttention: query heads 0, 1 share key head 0, heads 2, 3 share head 1."""
        x, r = sequences()
        shared = weights(kv_heads=2)
        names = ("key", "value", "key_bias", "value_bias")
        wide = {name: np.repeat(getattr(shared, name), 2, axis=-2) for name in names}
        expected = ref.self_attention(x, replace(shared, **wide), r, rule=rule, epsilon=0)
        found = ref.self_attention(x, shared, r, rule=rule, epsilon=0)
        assert_allclose(found.lower, expected.lower)
        assert_allclose(found.bias, expected.bias)

    def test_a_batch_is_its_samples(self):
        x, r = sequences()
        batch = ref.self_attention(x, weights(), r)
        one = ref.self_attention(x[1:], weights(), r[1:])
        assert_allclose(batch.lower[1:], one.lower)
        assert_allclose(batch.absorbed[1:], one.absorbed)
