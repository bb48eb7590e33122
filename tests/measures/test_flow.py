"""Measures of activations against closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, entropy

from analyzer.measures.flow import effective_rank, still_alive_bound

pytestmark = pytest.mark.plain


def rows(n, d, singular, seed=0):
    """Centred rows with the given singular values."""
    rng = np.random.default_rng(seed)
    left = rng.normal(size=(n, len(singular)))
    left, _ = np.linalg.qr(left - left.mean(axis=0))
    right, _ = np.linalg.qr(rng.normal(size=(d, len(singular))))
    return left @ np.diag(singular) @ right.T


@pytest.mark.parametrize(("n", "d"), [(40, 8), (8, 40)])
@pytest.mark.parametrize("singular", [[1.0], [1, 1, 1, 1], [5, 3, 1, 0.1], [1, 1e-4]])
def test_effective_rank_is_that_of_the_singular_values(n, d, singular):
    expected = np.exp(entropy(singular))
    assert effective_rank(rows(n, d, singular)) == pytest.approx(expected, rel=1e-6)
    # Neither place, scale nor number type matters.
    moved = rows(n, d, singular).astype("float32") * 1e3 + 7
    assert effective_rank(moved) == pytest.approx(expected, rel=1e-2)


@given(n=st.integers(2, 12), d=st.integers(1, 12), seed=st.integers(0, 50))
def test_effective_rank_lies_within_its_bounds(n, d, seed):
    found = effective_rank(np.random.default_rng(seed).normal(size=(n, d)))
    assert 1 - 1e-9 <= found <= min(n - 1, d)


@pytest.mark.parametrize("bad", [np.ones((1, 3)), np.full((5, 3), 7.3), np.full((5, 3), np.nan), np.zeros((0, 3))])
def test_effective_rank_is_undefined_without_variation(bad):
    assert effective_rank(bad) is None


@pytest.mark.parametrize("n", [1, 10, 300, 100000])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_silence_bounds_the_rate_as_clopper_and_pearson_say(n, level):
    assert still_alive_bound(n, level) == pytest.approx(beta.ppf(level, 1, n), rel=1e-9)
    # At that rate, silence for n samples has probability 1 - level.
    assert (1 - still_alive_bound(n, level)) ** n == pytest.approx(1 - level, rel=1e-6)
