"""CKA of many representations against the one of a pair, and against the formula of Song et al."""

import numpy as np
import pytest

from analyzer.measures.cka import centred_gram, cka_between, cka_matrix
from analyzer.measures.similarity import linear_cka

pytestmark = pytest.mark.plain


def layers(n=40, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 6))
    y = np.maximum(x @ rng.standard_normal((6, 30)), 0)
    return [x, y, y @ rng.standard_normal((30, 4)), rng.standard_normal((n, 100)) + 5.0]


def direct(x, y):
    """HSIC_1 of Song et al. (2012), equation 5, word for word."""

    def hsic(k, other):
        n = len(k)
        one = np.ones(n)
        k, other = (m - np.diag(np.diag(m)) for m in (k, other))
        middle = (one @ k @ one) * (one @ other @ one) / ((n - 1) * (n - 2))
        return (np.trace(k @ other) + middle - 2 / (n - 2) * one @ k @ other @ one) / (n * (n - 3))

    k, other = x @ x.T, y @ y.T
    return hsic(k, other) / np.sqrt(hsic(k, k) * hsic(other, other))


@pytest.mark.parametrize("n", [4, 5, 40])
def test_agrees_with_the_formula_and_with_the_pair(n):
    given = layers(n)
    found = cka_matrix(given)
    for i, x in enumerate(given):
        for j, y in enumerate(given):
            assert found[i, j] == pytest.approx(direct(x, y), abs=1e-9)
            assert found[i, j] == pytest.approx(linear_cka(x, y).value, abs=1e-9)
    assert np.diag(found) == pytest.approx(np.ones(4), abs=1e-12)
    assert found == pytest.approx(found.T, abs=1e-14)


def test_between_models_is_the_corner_of_all():
    first, second = layers(seed=0), layers(seed=1)[:2]
    assert cka_between(first, second) == pytest.approx(cka_matrix([*first, *second])[:4, 4:], abs=1e-14)
    assert cka_between(first, second).shape == (4, 2)
    assert cka_matrix([]).shape == (0, 0)


def test_rotation_shift_and_common_scale_change_nothing():
    given = layers()
    rng = np.random.default_rng(3)
    moved = [
        1e3 * x @ np.linalg.qr(rng.standard_normal((x.shape[1],) * 2))[0] + rng.standard_normal(x.shape[1])
        for x in given
    ]
    assert cka_matrix(moved) == pytest.approx(cka_matrix(given), abs=1e-9)
    images = [x.reshape(len(x), 2, -1) for x in given]
    assert cka_matrix(images) == pytest.approx(cka_matrix(given), abs=1e-15)


def test_unrelated_wide_layers_are_zero_on_average():
    rng = np.random.default_rng(0)
    draws = [cka_between([rng.standard_normal((30, 300))], [rng.standard_normal((30, 300))])[0, 0] for _ in range(60)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(60)
    assert max(draws) < 0.3


def test_what_is_undefined_is_nan_and_leaves_the_others_alone():
    given = layers()
    rounding = 1e3 + 1e-5 * np.random.default_rng(0).standard_normal((40, 3))
    for bad in (rounding, np.full((40, 3), 7.3), np.full((40, 3), np.nan), np.full((40, 2), 0.1) + 1e-17):
        found = cka_matrix([*given, bad])
        assert np.isnan(found[4]).all()
        assert np.isnan(found[:, 4]).all()
        assert found[:4, :4] == pytest.approx(cka_matrix(given), abs=1e-14)
    assert np.isnan(cka_matrix([x[:3] for x in given])).all()
    assert centred_gram(given[0][:3]).shape == (3,)
    with pytest.raises(ValueError, match=r"\[39, 40\] samples"):
        cka_between(given, [given[0][:39]])


def test_kept_grams_give_the_matrix():
    given = layers()
    kept = np.stack([centred_gram(x) for x in given])
    assert kept @ kept.T == pytest.approx(cka_matrix(given), abs=1e-14)
